// Counts what a process copies, by standing before the C library's copying functions (LD_PRELOAD), and what it sends
// to other processes through unix sockets.
//
// Frame pools are recognised where they are mapped: mmap of a file called memfd:remotemedia-pool-*. The counters live
// in the file that COUNT_COPIES_FILE names, or in one named by the process id in the directory COUNT_COPIES_DIR, mapped
// here and read from outside while the process runs.
//
// Nothing in here may call what it stands before: the copying is done by plain loops, and the compiler is told not to
// recognise them (-fno-builtin -fno-tree-loop-distribute-patterns).

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(size_t) == 8, "the mmap system call takes its offset in bytes only on 64-bit machines");

// PAYLOAD: what a frame says beside its payload, and a line of text, are shorter; a few milliseconds of audio are not.
enum { RANGES = 64, LARGE = 4096, PAYLOAD = 512 };

struct range {
    _Atomic uint64_t start, end;
};

// tests/tests/zero_copy/preload.rs and scripts/demo.py read this, as little-endian 64-bit numbers in this order.
struct counters {
    _Atomic uint64_t calls;         // of copying functions
    _Atomic uint64_t read_bytes;    // copied out of frame pools
    _Atomic uint64_t written_bytes; // copied into frame pools
    _Atomic uint64_t large_calls;   // copies of at least LARGE bytes, of whatever memory
    _Atomic uint64_t large_bytes;
    _Atomic uint64_t overflow;              // pools that there was no range left for
    _Atomic uint64_t payload_read_bytes;    // of read_bytes: by our own code, in copies of at least PAYLOAD bytes
    _Atomic uint64_t payload_written_bytes; // of written_bytes: likewise
    _Atomic uint64_t node_read_bytes;       // of read_bytes: by Python, and by libraries that nodes use
    _Atomic uint64_t node_written_bytes;    // of written_bytes: likewise
    _Atomic uint64_t sent_bytes;            // through unix sockets
    _Atomic uint64_t largest_sent;          // at a time
    struct range ranges[RANGES];
};

// Copies made before the file is mapped.
static struct counters early;
static struct counters *counters = &early;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("COUNT_COPIES_FILE"), *directory = getenv("COUNT_COPIES_DIR");
    char own[4096];
    if (directory != NULL) {
        snprintf(own, sizeof own, "%s/%d", directory, (int)getpid());
        path = own;
    }
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

// Whether the code at this address is RemoteMedia's: a program, or the native module of Python workers.
static int is_ours(const void *code) {
    static const char program[] = "remotemedia", module[] = "_native.abi3.so";
    Dl_info object;
    if (!dladdr(code, &object) || !object.dli_fname) {
        return 0;
    }
    const char *name = object.dli_fname;
    for (const char *at = name; *at; at++) {
        name = *at == '/' ? at + 1 : name;
    }
    size_t of_program = 0, of_module = 0;
    while (program[of_program] && name[of_program] == program[of_program]) {
        of_program++;
    }
    while (module[of_module] && name[of_module] == module[of_module]) {
        of_module++;
    }
    return !program[of_program] || (!module[of_module] && !name[of_module]);
}

static void count(const void *to, const void *from, size_t len, const void *caller) {
    counters->calls++;
    if (len >= LARGE) {
        counters->large_calls++;
        counters->large_bytes += len;
    }
    uint64_t read = bytes_in_pools(from, len), written = bytes_in_pools(to, len);
    if (read == 0 && written == 0) {
        return;
    }
    counters->read_bytes += read;
    counters->written_bytes += written;
    if (!is_ours(caller)) {
        counters->node_read_bytes += read;
        counters->node_written_bytes += written;
    } else if (len >= PAYLOAD) {
        counters->payload_read_bytes += read;
        counters->payload_written_bytes += written;
    }
}

static void copy(char *to, const char *from, size_t len, const void *caller) {
    count(to, from, len, caller);
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
    copy(to, from, len, __builtin_return_address(0));
    return to;
}

void *mempcpy(void *to, const void *from, size_t len) {
    copy(to, from, len, __builtin_return_address(0));
    return (char *)to + len;
}

void bcopy(const void *from, void *to, size_t len) { copy(to, from, len, __builtin_return_address(0)); }

// The checked forms, of which the compiler has seen that the destination's size is known.
void *__memmove_chk(void *to, const void *from, size_t len, size_t room) {
    if (len > room) {
        abort();
    }
    copy(to, from, len, __builtin_return_address(0));
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

static ssize_t sent(int fd, ssize_t bytes) {
    int domain = 0, error = errno;
    socklen_t len = sizeof domain;
    if (bytes > 0 && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX) {
        counters->sent_bytes += (uint64_t)bytes;
        if ((uint64_t)bytes > counters->largest_sent) {
            counters->largest_sent = (uint64_t)bytes;
        }
    }
    errno = error;
    return bytes;
}

ssize_t write(int fd, const void *from, size_t len) { return sent(fd, syscall(SYS_write, fd, from, len)); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return sent(fd, syscall(SYS_writev, fd, parts, count));
}

ssize_t sendto(int fd, const void *from, size_t len, int flags, const struct sockaddr *to, socklen_t to_len) {
    return sent(fd, syscall(SYS_sendto, fd, from, len, flags, to, to_len));
}

ssize_t send(int fd, const void *from, size_t len, int flags) { return sendto(fd, from, len, flags, NULL, 0); }

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return sent(fd, syscall(SYS_sendmsg, fd, message, flags));
}
