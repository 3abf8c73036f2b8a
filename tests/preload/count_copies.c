// Counts what a process copies, by standing before the C library's copying functions (LD_PRELOAD).
//
// Frame pools are recognised where they are mapped: mmap of a file called memfd:remotemedia-pool-*. The counters live
// in the file that COUNT_COPIES_FILE names, mapped here and read from outside while the process runs.
//
// Nothing in here may call what it stands before: the copying is done by plain loops, and the compiler is told not to
// recognise them (-fno-builtin -fno-tree-loop-distribute-patterns).

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(size_t) == 8, "the mmap system call takes its offset in bytes only on 64-bit machines");

enum { RANGES = 64, LARGE = 4096 };

struct range {
    _Atomic uint64_t start, end;
};

// tests/tests/zero_copy/preload.rs reads this, as little-endian 64-bit numbers in this order.
struct counters {
    _Atomic uint64_t calls;         // of copying functions
    _Atomic uint64_t read_bytes;    // copied out of frame pools
    _Atomic uint64_t written_bytes; // copied into frame pools
    _Atomic uint64_t large_calls;   // copies of at least LARGE bytes, of whatever memory
    _Atomic uint64_t large_bytes;
    _Atomic uint64_t overflow; // pools that there was no range left for
    struct range ranges[RANGES];
};

// Copies made before the file is mapped.
static struct counters early;
static struct counters *counters = &early;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("COUNT_COPIES_FILE");
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0 || ftruncate(fd, sizeof(struct counters)) != 0) {
        return;
    }
    long file = syscall(SYS_mmap, NULL, sizeof(struct counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (file != -1) {
        counters = (struct counters *)file;
    }
}

static uint64_t bytes_in_pools(const void *at, size_t len) {
    uint64_t start = (uint64_t)at, end = start + len, sum = 0;
    for (int i = 0; i < RANGES; i++) {
        uint64_t from = atomic_load_explicit(&counters->ranges[i].start, memory_order_relaxed);
        uint64_t to = atomic_load_explicit(&counters->ranges[i].end, memory_order_acquire);
        if (to == 0) {
            break;
        }
        from = from > start ? from : start;
        to = to < end ? to : end;
        sum += to > from ? to - from : 0;
    }
    return sum;
}

static void count(const void *to, const void *from, size_t len) {
    counters->calls++;
    if (len >= LARGE) {
        counters->large_calls++;
        counters->large_bytes += len;
    }
    uint64_t read = bytes_in_pools(from, len), written = bytes_in_pools(to, len);
    if (read) {
        counters->read_bytes += read;
    }
    if (written) {
        counters->written_bytes += written;
    }
}

static void copy(char *to, const char *from, size_t len) {
    count(to, from, len);
    if ((uintptr_t)to - (uintptr_t)from >= len) {
        for (size_t i = 0; i < len; i++) {
            to[i] = from[i];
        }
    } else {
        while (len-- > 0) {
            to[len] = from[len];
        }
    }
}

void *memmove(void *to, const void *from, size_t len) {
    copy(to, from, len);
    return to;
}

void *mempcpy(void *to, const void *from, size_t len) {
    copy(to, from, len);
    return (char *)to + len;
}

void bcopy(const void *from, void *to, size_t len) { copy(to, from, len); }

// The checked forms, of which the compiler has seen that the destination's size is known.
void *__memmove_chk(void *to, const void *from, size_t len, size_t room) {
    if (len > room) {
        abort();
    }
    copy(to, from, len);
    return to;
}

// All versions of the symbol: an unversioned definition answers for each of them.
void *memcpy(void *, const void *, size_t) __attribute__((alias("memmove")));
void *__mempcpy(void *, const void *, size_t) __attribute__((alias("mempcpy")));
void *__memcpy_chk(void *, const void *, size_t, size_t) __attribute__((alias("__memmove_chk")));

static int is_pool(int fd) {
    static const char want[] = "/memfd:remotemedia-pool-";
    char path[32] = "/proc/self/fd/", name[64];
    char digits[12];
    int count = 0, at = 14;
    do {
        digits[count++] = (char)('0' + fd % 10);
    } while ((fd /= 10) > 0);
    while (count > 0) {
        path[at++] = digits[--count];
    }
    path[at] = 0;
    ssize_t len = readlink(path, name, sizeof name);
    if (len < (ssize_t)sizeof want - 1) {
        return 0;
    }
    for (size_t i = 0; i < sizeof want - 1; i++) {
        if (name[i] != want[i]) {
            return 0;
        }
    }
    return 1;
}

// A range is used once: what is unmapped leaves one that holds nothing, so that a walk ends at the first unused.
static void remember(uint64_t start, uint64_t len) {
    for (int i = 0; i < RANGES; i++) {
        uint64_t unused = 0;
        if (atomic_compare_exchange_strong(&counters->ranges[i].start, &unused, start)) {
            atomic_store_explicit(&counters->ranges[i].end, start + len, memory_order_release);
            return;
        }
    }
    counters->overflow++;
}

void *mmap(void *hint, size_t len, int protection, int flags, int fd, off_t offset) {
    long at = syscall(SYS_mmap, hint, len, protection, flags, fd, offset);
    if (at != -1 && fd >= 0 && !(flags & MAP_ANONYMOUS)) {
        int error = errno;
        if (is_pool(fd)) {
            remember((uint64_t)at, len);
        }
        errno = error;
    }
    return (void *)at;
}

void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));

int munmap(void *start, size_t len) {
    for (int i = 0; i < RANGES; i++) {
        if (counters->ranges[i].start == (uint64_t)start) {
            counters->ranges[i].end = (uint64_t)start;
        }
    }
    return (int)syscall(SYS_munmap, start, len);
}
