//! What the gateways have logged: what nobody declared, and when work whose worker died went to another.

use std::collections::BTreeMap;
use std::time::Duration;

use remotemedia_tests::declared::{OF_A_DEATH, OF_A_DEATH_ON_THE_WAY, OF_A_HANG, OF_A_PAUSE, OF_POISON};
use serde::Deserialize;

/// The gateways' lines, in order.
#[derive(Debug)]
pub(crate) struct Log {
    records: Vec<Record>,
    /// What is no record, such as the words of a panic.
    others: Vec<String>,
}

/// A worker that died at once, and when, by the clock that the log has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    pub(crate) pid: u32,
    pub(crate) at: Duration,
}

/// A death as it is told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) pid: u32,
    /// In words.
    pub(crate) cause: String,
}

#[derive(Debug, Deserialize)]
struct Record {
    timestamp: String,
    level: String,
    fields: Fields,
}

#[derive(Debug, Deserialize)]
struct Fields {
    message: String,
    #[serde(default)]
    worker: String,
    #[serde(default)]
    session: String,
    #[serde(default)]
    goes_on: bool,
    #[serde(default)]
    pid: Option<u32>,
    #[serde(default)]
    cause: String,
    #[serde(flatten)]
    more: BTreeMap<String, serde_json::Value>,
}

/// How a line of the service begins that a gateway has written.
const SPEAKER: &str = "[gateway] ";

/// Work that goes to another worker does so by then, or does it for want of one.
const AT_MOST: Duration = Duration::from_secs(5);

// === impl Log ===

impl Log {
    pub(crate) fn of(lines: &[String]) -> Self {
        let said = lines.iter().filter_map(|line| line.strip_prefix(SPEAKER));
        let (mut records, mut others) = (Vec::new(), Vec::new());
        for line in said {
            match serde_json::from_str(line) {
                Ok(record) => records.push(record),
                Err(_) => others.push(line.to_owned()),
            }
        }
        Self { records, others }
    }

    /// Warnings and errors that nothing explains that is done here, each event once, and what is no record.
    pub(crate) fn undeclared(&self) -> Vec<String> {
        let is_declared = |event: &str| {
            let declared = [OF_A_DEATH, OF_A_HANG, OF_A_PAUSE, OF_A_DEATH_ON_THE_WAY, OF_POISON];
            declared.iter().any(|declared| declared.contains(&event))
        };
        let alarms = self.records.iter().filter(|record| matches!(record.level.as_str(), "WARN" | "ERROR"));
        let mut undeclared: BTreeMap<&str, String> = BTreeMap::new();
        for Record { timestamp, level, fields } in alarms.filter(|one| !is_declared(&one.fields.message)) {
            let Fields { message, worker, session, more, .. } = fields;
            let words = format!("{timestamp} {level} {message} worker={worker} session={session} {more:?}");
            undeclared.entry(message).or_insert(words);
        }
        undeclared.into_values().chain(self.others.iter().cloned()).collect()
    }

    /// How long after the deaths work went to other workers: runs that began again, and stages that had others in their
    /// place.
    pub(crate) fn dispatches(&self, deaths: &[Death]) -> Vec<Duration> {
        let mut dispatches = Vec::new();
        for Death { pid, at } in deaths {
            let Some(told) = self.died().find(|record| record.fields.pid == Some(*pid)) else { continue };
            let (worker, told) = (&told.fields.worker, told.at());
            let of_its_name = self.died().filter(|record| record.fields.worker == *worker);
            let died: Vec<Duration> = of_its_name.filter_map(Record::at).collect();
            // Others of its name may die soon after: a line is about the death that is told nearest to it.
            let is_about_it = |record: &Record| {
                let nearest = record.at().and_then(|when| died.iter().min_by_key(|one| one.abs_diff(when)));
                nearest.copied() == told
            };
            let since = |record: &Record| record.at().and_then(|when| when.checked_sub(*at));
            let is_of_it = |record: &&Record| since(record).is_some_and(|passed| passed < AT_MOST);
            let after: Vec<&Record> = self.records.iter().filter(is_of_it).collect();
            for (place, record) in after.iter().enumerate() {
                let Fields { message, goes_on, session, .. } = &record.fields;
                if record.fields.worker != *worker || !is_about_it(record) {
                    continue;
                }
                let is_next = |next: &&&Record| {
                    next.fields.message == "session_goes_on" && next.fields.session == *session
                };
                let dispatched = match message.as_str() {
                    "run_begins_again" => Some(record),
                    "session_lost_a_worker" if *goes_on => after[place..].iter().find(is_next),
                    _ => None,
                };
                dispatches.extend(dispatched.and_then(|record| since(record)));
            }
        }
        dispatches
    }

    /// The deaths that are told of, in order.
    pub(crate) fn deaths(&self) -> Vec<Told> {
        let told =
            |record: &Record| Some(Told { pid: record.fields.pid?, cause: record.fields.cause.clone() });
        self.died().filter_map(told).collect()
    }

    fn died(&self) -> impl Iterator<Item = &Record> {
        let is_death = |event: &str| matches!(event, "worker_died" | "worker_died_before_it_joined");
        self.records.iter().filter(move |record| is_death(&record.fields.message))
    }
}

// === impl Record ===

impl Record {
    /// Since 1970.
    fn at(&self) -> Option<Duration> {
        let (date, time) = self.timestamp.strip_suffix('Z')?.split_once('T')?;
        let (seconds, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let numbers = |text: &str, between| -> Option<[u64; 3]> {
            let mut parts = text.split(between).map(|part| part.parse().ok());
            Some([parts.next()??, parts.next()??, parts.next()??])
        };
        let [year, month, day] = numbers(date, '-')?;
        let [hour, minute, second] = numbers(seconds, ':')?;
        // Of a year that begins in March, so that its last day may be the 29th of February.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
        let days_before = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
        let days = days_before.checked_sub(719_469)?;
        let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: &str, level: &str, fields: &str) -> String {
        format!(
            "{SPEAKER}{{\"timestamp\":\"{at}\",\"level\":\"{level}\",\"fields\":{{{fields}}},\"target\":\"t\"}}"
        )
    }

    #[test]
    fn a_time_is_read_as_it_is_written() {
        for (written, seconds, micros) in [
            ("1970-01-01T00:00:00.000001Z", 0, 1),
            ("2000-02-29T12:00:00.5Z", 951_825_600, 500_000),
            ("2026-11-22T12:59:35.446862Z", 1_795_352_375, 446_862),
        ] {
            let log = Log::of(&[line(written, "INFO", "\"message\":\"m\"")]);
            let expected = Duration::from_secs(seconds) + Duration::from_micros(micros);
            assert_eq!(log.records[0].at(), Some(expected), "{written}");
        }
    }

    #[test]
    fn what_is_not_declared_is_told_and_what_is_declared_is_not() {
        let log = Log::of(&[
            line("2026-11-22T12:59:35.0Z", "WARN", "\"message\":\"worker_died\",\"worker\":\"rust-1\""),
            line("2026-11-22T12:59:35.0Z", "ERROR", "\"message\":\"session_overrun\",\"stage\":\"1\""),
            line("2026-11-22T12:59:36.0Z", "ERROR", "\"message\":\"session_overrun\",\"stage\":\"2\""),
            line("2026-11-22T12:59:35.0Z", "INFO", "\"message\":\"worker_buried\""),
            format!("{SPEAKER}thread 'hub' panicked"),
            "[rust-1] WARN of a worker".to_owned(),
        ]);
        let undeclared = log.undeclared();
        assert!(
            undeclared[0].contains("ERROR session_overrun") && undeclared[0].contains("stage"),
            "{undeclared:?}"
        );
        assert_eq!(undeclared[1..], ["thread 'hub' panicked"]);
    }

    #[test]
    fn a_dispatch_is_measured_from_the_death_that_it_is_of() {
        let lost = |worker: &str, session: &str, goes_on: bool| {
            format!(
                "\"message\":\"session_lost_a_worker\",\"session\":\"{session}\",\"worker\":\"{worker}\",\"goes_on\":{goes_on}"
            )
        };
        let goes_on = |session: &str| format!("\"message\":\"session_goes_on\",\"session\":\"{session}\"");
        let died = |worker: &str, pid: u32| {
            format!(
                "\"message\":\"worker_died\",\"worker\":\"{worker}\",\"pid\":{pid},\"cause\":\"exited with code 3\""
            )
        };
        let log = Log::of(&[
            line("1970-01-01T00:00:01.001Z", "INFO", &lost("rust-1", "a", true)),
            line("1970-01-01T00:00:01.002Z", "INFO", &lost("rust-1", "b", false)),
            line(
                "1970-01-01T00:00:01.003Z",
                "INFO",
                "\"message\":\"run_begins_again\",\"session\":\"b\",\"worker\":\"rust-1\"",
            ),
            line("1970-01-01T00:00:01.004Z", "INFO", &goes_on("a")),
            line("1970-01-01T00:00:01.005Z", "INFO", &lost("rust-2", "c", true)),
            line("1970-01-01T00:00:01.006Z", "WARN", &died("rust-2", 12)),
            line("1970-01-01T00:00:01.100Z", "WARN", &died("rust-1", 11)),
            // Another of that name, soon after: where its own death is told, not that of the first.
            line("1970-01-01T00:00:03.001Z", "INFO", &lost("rust-1", "d", true)),
            line("1970-01-01T00:00:03.002Z", "INFO", &goes_on("d")),
            line("1970-01-01T00:00:03.003Z", "WARN", &died("rust-1", 13)),
            line("1970-01-01T00:00:09.000Z", "INFO", &goes_on("c")),
        ]);
        let death = |pid| Death { pid, at: Duration::from_secs(1) };
        assert_eq!(log.dispatches(&[death(11)]), [4, 3].map(Duration::from_millis));
        assert_eq!(log.dispatches(&[death(12)]), [Duration::ZERO; 0], "it waited for a worker");
        let told: Vec<u32> = log.deaths().into_iter().map(|told| told.pid).collect();
        assert_eq!(told, [12, 11, 13]);
    }
}
