//! Which versions of clients are served: one table, from which `docs/compatibility.md` is made too.

use crate::manifest::VERSION;

/// The versions of the contract that this service speaks, as `GetVersion` lists them.
pub const PROTOCOLS: &[&str] = &[VERSION];

/// The table. The first row that a client's version fits decides; the last one fits all.
pub const TABLE: &[Row] = &[
    Row {
        clients: Clients::Silent,
        served: true,
        why: "A client that says nothing of itself is taken by what it asks.",
    },
    Row {
        clients: Clients::Version(VERSION),
        served: true,
        why: "What every published client says, in Python and in Node.",
    },
    Row {
        clients: Clients::RevisionOf(VERSION),
        served: true,
        why: "A revision only adds fields. Those that this service does not know are passed over.",
    },
    Row {
        clients: Clients::Other,
        served: false,
        why: "Another version may mean something else by the same field.",
    },
];

/// What is said to clients of some versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Whom the row is about.
    pub clients: Clients,
    /// Whether they are served.
    pub served: bool,
    /// Why, in one sentence or two.
    pub why: &'static str,
}

/// Clients by their `client_version`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clients {
    /// It is empty, or not there.
    Silent,
    /// It is this.
    Version(&'static str),
    /// It is this, with one or two numbers behind: `v1.2`, `v1.2.3`.
    RevisionOf(&'static str),
    /// It is anything.
    Other,
}

/// Whether a client of this version is served.
#[must_use]
pub fn is_served(client_version: &str) -> bool {
    TABLE.iter().find(|row| row.clients.include(client_version)).is_some_and(|row| row.served)
}

/// What is served, for a message: `v1, v1.N, v1.N.N`.
#[must_use]
pub fn served() -> String {
    let served = TABLE.iter().filter(|row| row.served).filter_map(|row| match row.clients {
        Clients::Version(version) => Some(version.to_owned()),
        Clients::RevisionOf(version) => Some(format!("{version}.N, {version}.N.N")),
        Clients::Silent | Clients::Other => None,
    });
    served.collect::<Vec<_>>().join(", ")
}

/// The table as `docs/compatibility.md` has it.
#[must_use]
pub fn document() -> String {
    let rows = TABLE.iter().map(|row| {
        let clients = match row.clients {
            Clients::Silent => "none".to_owned(),
            Clients::Version(version) => format!("`{version}`"),
            Clients::RevisionOf(version) => format!("`{version}.N`, `{version}.N.N`"),
            Clients::Other => "anything else".to_owned(),
        };
        let answer = if row.served { "served" } else { "`ERROR_TYPE_VERSION_MISMATCH`" };
        format!("| {clients} | {answer} | {} |\n", row.why)
    });
    let protocols = PROTOCOLS.iter().map(|version| format!("`{version}`")).collect::<Vec<_>>().join(", ");
    let rows: String = rows.collect();
    format!("{HEAD}{rows}\n`GetVersion` lists as `supported_protocols`: {protocols}.\n{TAIL}")
}

const HEAD: &str = "\
# Which clients are served

A client says its version in the field `client_version` of `ExecuteRequest`, of `StreamInit` and of `VersionRequest`. The service judges it by the
first row that fits:

| `client_version` | answer | why |
| --- | --- | --- |
";

const TAIL: &str = "
A client that is not served gets an `ErrorResponse` that names its version and those that are; `GetVersion` answers everybody, with `compatible` and
`compatibility_message`. The `version` of a manifest is `v1` exactly.

This page is made from the table in [`core/src/compatibility.rs`](../core/src/compatibility.rs), by which the service judges:

    cargo run -p remotemedia-core --example compatibility > docs/compatibility.md
";

// === impl Clients ===

impl Clients {
    fn include(self, client_version: &str) -> bool {
        match self {
            Self::Silent => client_version.is_empty(),
            Self::Version(version) => client_version == version,
            Self::RevisionOf(version) => client_version.strip_prefix(version).is_some_and(is_revision),
            Self::Other => true,
        }
    }
}

/// `.2` or `.2.3`
fn is_revision(rest: &str) -> bool {
    let Some(numbers) = rest.strip_prefix('.') else { return false };
    let is_number =
        |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.split('.').count() <= 2 && numbers.split('.').all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_version_and_its_revisions_are_served_and_no_other() {
        for client in ["", "v1", "v1.0", "v1.2.3"] {
            assert!(is_served(client), "{client:?}");
        }
        for client in
            ["v2", "v0", "1", "v10", "v1.", "v1.x", "v1.1.1.1", "v1-beta", "V1", " v1", "v1.\u{662}"]
        {
            assert!(!is_served(client), "{client:?}");
        }
        assert_eq!(served(), "v1, v1.N, v1.N.N");
    }

    #[test]
    fn the_last_row_fits_all() {
        assert_eq!(TABLE.last().map(|row| row.clients), Some(Clients::Other));
        assert!(PROTOCOLS.iter().all(|version| is_served(version)));
    }
}
