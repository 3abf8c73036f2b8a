//! Who may depend on whom. A new edge is a diff in these tables.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::assert_none;
use crate::tree::cargo;

/// The rooms that each room may stand on. `tests` and `benches` look at all of them.
const ROOMS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("ipc", &["core"]),
    ("protos", &["core"]),
    ("worker", &["core", "ipc"]),
    ("python", &["core", "worker"]),
    ("runtime", &["core", "ipc"]),
    ("gateway", &["core", "protos", "runtime"]),
    ("cli", &["core", "ipc", "protos"]),
];

/// Rooms that drive the system from outside.
const OBSERVERS: &[&str] = &["tests", "benches"];

/// Crates from outside that only some rooms may name, and why.
const KEPT_APART: &[(&str, &[&str], &str)] = &[
    ("iceoryx2", &["ipc"], "its samples and nodes are other things than ours"),
    ("bincode", &["ipc"], "the control protocol has one codec"),
    ("loom", &["ipc"], "only the leases are checked that way"),
    ("nix", &["ipc", "worker", "runtime", "gateway", "cli"], "core does no I/O, protos translates"),
    ("prost", &["protos", "gateway"], "protobuf ends at the one conversion"),
    ("tonic", &["protos", "gateway", "cli"], "the runtime knows no transport"),
    ("sha2", &["core"], "what a token's hash is, is said once"),
    ("hyper", &["gateway", "cli"], "the runtime knows no transport"),
    (
        "tokio",
        &["worker", "runtime", "gateway", "cli"],
        "core has no I/O, and ipc serves callers without a reactor",
    ),
    ("pyo3", &["python"], "the worker knows no interpreter"),
];

/// Crates that must not come in by a detour either.
const OUT_OF_REACH: &[(&str, &[&str], &str)] = &[
    ("core", &["tokio", "nix", "iceoryx2", "tonic"], "core cannot fail for outside reasons"),
    ("ipc", &["tokio", "tonic", "prost"], "ipc serves callers without a reactor"),
    ("runtime", &["tonic", "prost", "hyper", "h2"], "the runtime is a library for every transport"),
    ("worker", &["tonic", "prost", "hyper", "h2"], "a worker is reached through the data plane alone"),
];

#[test]
fn rooms_depend_only_on_the_rooms_below_them() {
    let broken = edges().into_iter().filter(|edge| {
        edge.to_room().is_some_and(|to| {
            !OBSERVERS.contains(&edge.from.as_str()) && !edge.is_dev && !rooms_below(&edge.from).contains(&to)
        })
    });
    assert_none(broken, "a room leans on one that is not below it in ROOMS:");
}

#[test]
fn tests_of_a_room_use_only_rooms_that_do_not_stand_on_it() {
    let broken = edges().into_iter().filter(|edge| {
        edge.is_dev
            && edge
                .to_room()
                .is_some_and(|to| OBSERVERS.contains(&to) || rooms_below(to).contains(&edge.from.as_str()))
    });
    assert_none(broken, "a test that needs the rooms above belongs into the tests crate:");
}

#[test]
fn every_member_of_the_workspace_is_a_known_room() {
    let known: BTreeSet<&str> =
        ROOMS.iter().map(|(room, _)| *room).chain(OBSERVERS.iter().copied()).collect();
    let members = packages().iter().map(room_of).collect::<BTreeSet<_>>();
    assert_eq!(members, known.into_iter().map(str::to_owned).collect(), "ROOMS is the list of rooms");
}

#[test]
fn crates_from_outside_stay_in_their_rooms() {
    let broken = edges().into_iter().filter_map(|edge| {
        let (_, rooms, reason) = KEPT_APART.iter().find(|(name, ..)| is_of_family(&edge.to, name))?;
        let allowed = rooms.contains(&edge.from.as_str()) || OBSERVERS.contains(&edge.from.as_str());
        (!allowed).then(|| format!("{edge}: {reason}"))
    });
    assert_none(broken, "a crate is named by a room that KEPT_APART does not list:");
}

#[test]
fn crates_out_of_reach_do_not_come_by_a_detour() {
    let broken = OUT_OF_REACH.iter().flat_map(|(room, forbidden, reason)| {
        let reached = reached_by(room);
        let found = forbidden.iter().filter(move |name| reached.contains(**name));
        found.map(move |name| format!("{room} reaches {name}: {reason}"))
    });
    assert_none(broken, "see `cargo tree -p remotemedia-ROOM -e normal -i CRATE`:");
}

#[test]
fn every_crate_says_what_it_is_for() {
    let silent =
        packages().into_iter().filter(|package| package["description"].as_str().is_none_or(|d| d.len() < 20));
    assert_none(silent.map(|package| room_of(&package)), "a room without a purpose in its Cargo.toml:");
}

/// One dependency of a room.
struct Edge {
    from: String,
    to: String,
    is_dev: bool,
}

impl Edge {
    /// The room at the far end, if it is one of ours.
    fn to_room(&self) -> Option<&str> {
        self.to.strip_prefix("remotemedia-")
    }
}

impl std::fmt::Display for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}{}", self.from, self.to, if self.is_dev { " (dev)" } else { "" })
    }
}

fn edges() -> Vec<Edge> {
    let of = |package: &Value| {
        let from = room_of(package);
        let dependencies =
            package["dependencies"].as_array().expect("cargo metadata lists dependencies").clone();
        dependencies.into_iter().map(move |dependency| Edge {
            from: from.clone(),
            to: text(&dependency["name"]).to_owned(),
            is_dev: dependency["kind"] == "dev",
        })
    };
    packages().iter().flat_map(of).collect()
}

fn packages() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("cargo metadata lists packages").clone()
}

fn room_of(package: &Value) -> String {
    let name = text(&package["name"]);
    name.strip_prefix("remotemedia-").unwrap_or(name).to_owned()
}

fn rooms_below(room: &str) -> &'static [&'static str] {
    ROOMS.iter().find(|(name, _)| *name == room).map_or(&[], |(_, below)| below)
}

/// `tonic-prost` is of the family of `tonic`.
fn is_of_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn reached_by(room: &str) -> BTreeSet<String> {
    let package = format!("remotemedia-{room}");
    let tree = cargo(&["tree", "--package", &package, "--edges", "normal", "--prefix", "none"]);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo metadata gives a string here")
}
