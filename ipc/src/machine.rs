//! What the machine is that all processes of a domain run on.

use std::fs;
use std::num::NonZero;
use std::sync::LazyLock;

use remotemedia_core::machine::Machine;

/// The one that this process runs on. Read once: what is asked of it here does not change while it runs.
pub static THIS: LazyLock<Machine> = LazyLock::new(read);

fn read() -> Machine {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Machine {
        name: name.trim().to_owned(),
        cores: std::thread::available_parallelism().map_or(1, NonZero::get),
        memory_bytes: fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total),
    }
}

/// `MemTotal:       16384 kB`
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_name_and_size() {
        assert!(THIS.cores > 0 && THIS.memory_bytes > Some(1 << 20), "{:?}", *THIS);
        assert!(THIS.answers_to(&THIS.name) && THIS.answers_to("LOCALHOST") && !THIS.answers_to("elsewhere"));
        assert_eq!(total("MemFree: 1 kB\nMemTotal:   16384 kB\n"), Some(16_777_216));
    }
}
