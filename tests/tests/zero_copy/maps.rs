//! What the kernel says of a process's memory.

use std::fs;

/// A frame pool's payload in a process's address space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PoolMapping {
    /// First address and the one behind the last.
    pub(crate) range: [u64; 2],
    /// The pool's number.
    pub(crate) id: u32,
    /// The memfd.
    pub(crate) inode: u64,
    /// Bytes whose pages the process has touched, or the kernel has shown it beside those that it touched.
    pub(crate) resident_bytes: u64,
}

/// What precedes the pool's number in the path of a mapping.
const MEMFD: &str = "/memfd:remotemedia-pool-";

/// The frame pools that a process has mapped, from `/proc/PID/maps` and `/proc/PID/smaps`.
pub(crate) fn pools(pid: u32) -> Vec<PoolMapping> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process lives");
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the process lives");
    let resident = |header: &str| {
        let rest = smaps.lines().skip_while(|line| *line != header).skip(1);
        let line = rest.map(|line| line.strip_prefix("Rss:")).find_map(|line| line).expect("a line Rss:");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") << 10
    };
    let pool = |line: &str| {
        let (fields, name) = line.split_once(MEMFD)?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let (start, end) = fields[0].split_once('-')?;
        let address = |hex| u64::from_str_radix(hex, 16).expect("an address");
        Some(PoolMapping {
            range: [address(start), address(end)],
            id: name.trim_end_matches(" (deleted)").parse().expect("the pool's number"),
            inode: fields[4].parse().expect("an inode"),
            resident_bytes: resident(line),
        })
    };
    maps.lines().filter_map(pool).collect()
}
