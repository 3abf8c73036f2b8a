//! Whether there is memory for the frame pools.

use remotemedia_ipc::memory::budget;

use super::finding::{Finding, mebibytes};

/// What can still be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Facts {
    /// So much.
    Left {
        bytes: u64,
        /// The tightest limit, in words.
        limit: String,
        /// What gives more of it.
        remedy: &'static str,
    },
    /// The machine does not say.
    Unknown { why: String },
}

pub(super) fn read() -> Facts {
    match budget::available() {
        Ok((bytes, limit)) => Facts::Left { bytes, limit: limit.to_string(), remedy: limit.remedy() },
        Err(why) => Facts::Unknown { why: why.to_string() },
    }
}

/// Where a service runs, its frame pools are reserved already, and what is left is for another.
pub(super) fn judge(facts: &Facts, workers: u16, a_service_runs: bool) -> Finding {
    let check = "memory";
    let (gateway, worker) = (budget::GATEWAY_POOL_BYTES, budget::WORKER_POOL_BYTES);
    let total = gateway + u64::from(workers) * worker;
    let needed = format!(
        "{}: frame pools are reserved at the start, {} for the gateway and {} for each of {workers} workers",
        mebibytes(total),
        mebibytes(gateway),
        mebibytes(worker)
    );
    match facts {
        Facts::Unknown { why } => Finding::problem(check, why, needed, "mount -t proc proc /proc"),
        Facts::Left { bytes, limit, .. } if *bytes >= total => {
            let room = ((bytes - gateway) / worker).min(39);
            let found = format!("{limit} leaves {}: room for {room} workers", mebibytes(*bytes));
            Finding::ok(check, found)
        }
        Facts::Left { bytes, limit, remedy } => {
            let found = format!("{limit} leaves {}", mebibytes(*bytes));
            let smaller = smaller_pools(*bytes, workers);
            let remedy = format!("{remedy}; {smaller}");
            if a_service_runs {
                let found = format!("{found}, beside the service that runs: no room for a second one");
                Finding::note(check, found, needed, remedy)
            } else {
                Finding::problem(check, found, needed, remedy)
            }
        }
    }
}

/// The settings of a gateway that fits into half of what is left: the other half is for what nodes take.
fn smaller_pools(left: u64, workers: u16) -> String {
    let half = left / 2;
    let worker = (half / (u64::from(workers) + 2)) >> 20;
    format!(
        "or smaller pools in the gateway's settings: [pools] gateway_bytes = {}, worker_bytes = {}",
        (worker * 2) << 20,
        worker << 20
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn left(mebibytes: u64) -> Facts {
        let limit = "the cgroup limit in /sys/fs/cgroup/memory.max".to_owned();
        Facts::Left { bytes: mebibytes << 20, limit, remedy: "raise that limit" }
    }

    #[test]
    fn what_is_left_is_compared_with_what_a_service_reserves() {
        let fits = judge(&left(384), 2, false);
        assert_eq!(fits.level, Level::Ok);
        assert!(fits.found.ends_with("leaves 384 MiB: room for 2 workers"), "{fits:?}");
        let short = judge(&left(383), 2, false);
        assert_eq!(short.level, Level::Problem);
        assert!(short.needed.starts_with("384 MiB: "), "{short:?}");
        assert!(short.remedy.ends_with("gateway_bytes = 98566144, worker_bytes = 49283072"), "{short:?}");
        assert_eq!(judge(&left(383), 2, true).level, Level::Note);
    }

    #[test]
    fn a_machine_that_does_not_say_is_a_problem() {
        assert_eq!(judge(&Facts::Unknown { why: "no /proc".to_owned() }, 2, false).level, Level::Problem);
    }
}
