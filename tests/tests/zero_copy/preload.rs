//! The library that stands before the C library's copying functions, and what it has counted.

use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What a process has copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    /// Calls of copying functions.
    pub(crate) calls: u64,
    /// Bytes copied out of frame pools.
    pub(crate) read_bytes: u64,
    /// Bytes copied into frame pools.
    pub(crate) written_bytes: u64,
    /// Copies of at least a page, of whatever memory.
    pub(crate) large_calls: u64,
    /// Bytes of those.
    pub(crate) large_bytes: u64,
}

/// Where the library writes: names the file to it.
pub(crate) const FILE_VARIABLE: &str = "COUNT_COPIES_FILE";

/// Counters in the file. Those behind the first six are for who watches processes that he did not start.
const COUNTERS: usize = 12;

/// Ranges of frame pools that follow the counters in the file.
const RANGES: usize = 64;

/// Compiles the library, once for all tests.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/preload/count_copies.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("count_copies.so");
        let flags = [
            "-shared",
            "-fPIC",
            "-O3",
            "-fno-builtin",
            "-fno-tree-loop-distribute-patterns",
            "-Wall",
            "-Werror",
        ];
        let compiled = Command::new("gcc").args(flags).arg("-o").arg(&library).arg(source).status();
        assert!(compiled.expect("gcc is installed").success(), "gcc does not compile {source}");
        library
    })
}

// === impl Counts ===

impl Counts {
    /// Reads the counters of a process that runs on, and where it believes its frame pools to be mapped.
    pub(crate) fn read(file: &Path) -> (Self, Vec<[u64; 2]>) {
        let bytes = std::fs::read(file).expect("the library has made its file");
        let numbers: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
        assert_eq!(
            numbers.len(),
            COUNTERS + 2 * RANGES,
            "count_copies.c and this agree on the file's layout"
        );
        let [calls, read_bytes, written_bytes, large_calls, large_bytes, overflow] = numbers[..6] else {
            unreachable!("six were asked for");
        };
        assert_eq!(overflow, 0, "more frame pools than the library has room for");
        let ranges =
            numbers[COUNTERS..].as_chunks::<2>().0.iter().copied().filter(|[start, end]| start < end);
        (Self { calls, read_bytes, written_bytes, large_calls, large_bytes }, ranges.collect())
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            read_bytes: self.read_bytes - before.read_bytes,
            written_bytes: self.written_bytes - before.written_bytes,
            large_calls: self.large_calls - before.large_calls,
            large_bytes: self.large_bytes - before.large_bytes,
        }
    }
}
