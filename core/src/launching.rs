//! What a launcher tells of the workers that it starts, and what it can be asked by hand.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::DeathCause;

/// A worker that has died too often in a row, and is not started for a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quarantine {
    /// The worker's name.
    pub worker: String,
    /// How often it has died in a row.
    pub deaths: u32,
    /// How it died last.
    pub cause: DeathCause,
    /// What it wrote last to its standard error; empty if nothing.
    pub last_line: String,
    /// How long it has not been started.
    pub since: Duration,
    /// How long until it is tried again.
    pub left: Duration,
}

/// What a launcher can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchOrder {
    /// To start a worker that is in quarantine, as if it had never died.
    Release {
        /// Its name.
        worker: String,
    },
    /// To replace workers, one after the other, each by one that serves already.
    Restart {
        /// The kind of one pool; all pools if none.
        pool: Option<String>,
    },
}

/// How far a launcher is in replacing workers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Rollout {
    /// The names of those that are replaced.
    pub done: Vec<String>,
    /// The names of the others, that of the one under way first.
    pub left: Vec<String>,
    /// Why it has ended before its time, in words; empty if it has not.
    pub problem: String,
}

/// One life of a systemd unit. Nobody has it twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Invocation(pub u128);

/// What names no life of a unit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{text}' is no invocation of a unit: it is 32 hexadecimal digits, as systemd sets $INVOCATION_ID")]
pub struct InvocationError {
    text: String,
}

/// Why a launcher does not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum LaunchRefusal {
    /// The workers were started by hand, or by another supervisor.
    #[error(
        "no launcher is connected: whoever started the workers has to be asked, such as `systemctl restart`"
    )]
    NoLauncher,
    /// There is nothing to release it from.
    #[error("worker '{worker}' is not in quarantine: {}", those_in_quarantine(.quarantined))]
    NotQuarantined {
        /// As asked.
        worker: String,
        /// The names of those that are.
        quarantined: Vec<String>,
    },
    /// A pool that is not there.
    #[error("there is no pool '{pool}': there are {}", .pools.join(", "))]
    NoPool {
        /// As asked.
        pool: String,
        /// The kinds of those that are.
        pools: Vec<String>,
    },
    /// One at a time.
    #[error("workers are being replaced already, and {} are left: wait until that is done", .left.join(", "))]
    Restarting {
        /// The names of those to come.
        left: Vec<String>,
    },
    /// As many orders as may wait for an answer wait for one.
    #[error("the launcher has not answered {waiting} orders yet: try again")]
    Busy {
        /// Orders that wait.
        waiting: usize,
    },
    /// The launcher, or the gateway, went away before it answered.
    #[error("the launcher has gone away without an answer: look at `remotemedia status`, and try again")]
    Gone,
}

/// The longest [`Rollout::problem`], in bytes.
pub const MAX_PROBLEM: usize = 1_024;

/// The longest [`Quarantine::last_line`], in bytes: it travels in the headers of answers.
pub const MAX_LAST_LINE: usize = 200;

// === impl Invocation ===

impl FromStr for Invocation {
    type Err = InvocationError;

    fn from_str(text: &str) -> Result<Self, InvocationError> {
        let malformed = || InvocationError { text: text.to_owned() };
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex {
            return Err(malformed());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_not_a_number| malformed())
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

// === impl Rollout ===

impl Rollout {
    /// Whether nothing more comes of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left.is_empty() || !self.problem.is_empty()
    }
}

// === impl Quarantine ===

impl Quarantine {
    /// Why it is so, without what changes as time passes.
    #[must_use]
    pub fn reason(&self) -> String {
        let Self { worker, deaths, cause, last_line, .. } = self;
        let said = if last_line.is_empty() { String::new() } else { format!(", and wrote '{last_line}'") };
        format!("'{worker}' is in quarantine: of {deaths} deaths in a row the last was that it {cause}{said}")
    }

    /// The command that ends it.
    #[must_use]
    pub fn remedy(&self) -> String {
        format!("remotemedia release {}", self.worker)
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.left.as_secs_f64().ceil();
        write!(f, "{}; it is tried again in {left} s, or at once by `{}`", self.reason(), self.remedy())
    }
}

fn those_in_quarantine(names: &[String]) -> String {
    if names.is_empty() { "no worker is".to_owned() } else { format!("there are {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_is_read_as_systemd_writes_it() {
        let written = "0f2a7ad7f6c4435ba7b1c9e58c1cd8f0";
        assert_eq!(written.parse::<Invocation>().unwrap().to_string(), written);
        for text in ["", "0f2a", "+f2a7ad7f6c4435ba7b1c9e58c1cd8f0", "0f2a7ad7-f6c4-435b-a7b1-c9e58c1cd8f0"] {
            assert!(text.parse::<Invocation>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_quarantine_says_why_how_long_and_what_ends_it() {
        let quarantine = Quarantine {
            worker: "python-1".to_owned(),
            deaths: 5,
            cause: DeathCause::Exit(1),
            last_line: "ImportError: no model".to_owned(),
            since: Duration::from_secs(18),
            left: Duration::from_millis(41_200),
        };
        assert_eq!(
            quarantine.to_string(),
            "'python-1' is in quarantine: of 5 deaths in a row the last was that it exited with code 1, and wrote \
             'ImportError: no model'; it is tried again in 42 s, or at once by `remotemedia release python-1`"
        );
    }
}
