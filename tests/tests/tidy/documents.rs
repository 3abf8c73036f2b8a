//! Documents that stay true: their links lead somewhere, their promises are held by something.

use std::collections::BTreeSet;
use std::path::Path;

use crate::assert_none;
use crate::tree::{SourceFile, files};

/// Longer, and nobody reads it before changing something.
const MAX_ARCHITECTURE_LINES: usize = 300;

/// The benchmarks, by the name that `scripts/bench` takes: one file each.
const BENCHES: &str = "benches/src/";

#[test]
fn architecture_is_read_in_one_sitting() {
    let lines = document("ARCHITECTURE.md").text.lines().count();
    assert!(
        lines < MAX_ARCHITECTURE_LINES,
        "ARCHITECTURE.md has {lines} lines: say less, or say it in docs/"
    );
}

#[test]
fn every_promise_is_held_by_a_test_or_a_bench() {
    let all = files();
    let holders = holders(&all);
    let broken = promises(&document("SPECIFICATION.md").text).into_iter().filter_map(|promise| {
        let missing: Vec<_> =
            promise.held_by.iter().filter(|name| !holders.contains(*name)).cloned().collect();
        let complaint = if promise.held_by.is_empty() { "nothing".to_owned() } else { missing.join(", ") };
        (promise.held_by.is_empty() || !missing.is_empty())
            .then(|| format!("{}: held by {complaint}, which does not exist", promise.id))
    });
    assert_none(broken, "a promise that nothing holds is a wish:");
}

#[test]
fn a_promise_has_one_name() {
    let promises = promises(&document("SPECIFICATION.md").text);
    assert!(!promises.is_empty(), "SPECIFICATION.md has no table of promises");
    let names: BTreeSet<&str> = promises.iter().map(|promise| promise.id.as_str()).collect();
    assert_eq!(names.len(), promises.len(), "an id stands twice in SPECIFICATION.md");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let all = files();
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        all.iter().any(|file| file.path == path || file.path.starts_with(&format!("{path}/")))
    };
    let documents = all.iter().filter(|file| file.path.ends_with(".md"));
    let broken = documents.flat_map(|file| {
        let targets = links(file).into_iter().filter(|target| !exists(target));
        targets.map(|target| format!("{}: {target}", file.path)).collect::<Vec<_>>()
    });
    assert_none(broken, "a document links to what is not there:");
}

#[test]
fn every_document_can_be_found_from_another() {
    let all = files();
    let linked: BTreeSet<String> =
        all.iter().filter(|file| file.path.ends_with(".md")).flat_map(links).collect();
    let lost = all.iter().map(|file| file.path.as_str());
    let lost = lost.filter(|path| path.ends_with(".md") && *path != "README.md" && !linked.contains(*path));
    assert_none(lost, "no document links to these:");
}

#[test]
fn the_published_table_of_versions_is_the_one_that_judges() {
    let published = document("docs/compatibility.md").text;
    assert!(
        published == remotemedia_core::compatibility::document(),
        "run: cargo run -p remotemedia-core --example compatibility > docs/compatibility.md"
    );
}

/// One row of the specification's tables.
struct Promise {
    id: String,
    held_by: Vec<String>,
}

/// Rows are `| ID | promise | held by |`; what holds a promise stands in backticks.
fn promises(text: &str) -> Vec<Promise> {
    let rows = text.lines().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let promises = cells.filter_map(|cells| match cells.as_slice() {
        [id, _, held_by] if id.contains('-') && !id.starts_with(['-', '`']) => {
            let held_by = held_by.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            Some(Promise { id: (*id).to_owned(), held_by })
        }
        _ => None,
    });
    promises.collect()
}

/// Names of test functions, `bench NAME` for benchmarks, and paths of scripts that CI runs.
fn holders(all: &[SourceFile]) -> BTreeSet<String> {
    let rust = all.iter().filter(|file| file.path.ends_with(".rs"));
    let tests = rust.clone().flat_map(|file| test_names(&file.text));
    let python = all.iter().filter(|file| file.path.ends_with(".py"));
    let tests = tests.chain(python.flat_map(|file| python_test_names(&file.text)));
    let benches = rust.filter_map(|file| file.path.strip_prefix(BENCHES)?.strip_suffix(".rs"));
    let benches = benches.map(|name| format!("bench {}", name.replace('_', "-")));
    let ci = all.iter().find(|file| file.path == ".ci/run").map_or("", |file| &file.text);
    tests.chain(benches).chain(ci.lines().map(str::to_owned)).collect()
}

/// Functions that pytest finds.
fn python_test_names(text: &str) -> Vec<String> {
    let functions = text.lines().filter_map(|line| line.strip_prefix("def "));
    let names = functions.filter_map(|rest| rest.split('(').next());
    names.filter(|name| name.starts_with("test_")).map(str::to_owned).collect()
}

/// Functions below a `#[test]`, with whatever else stands between; names made by a macro in the same form count too.
fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        is_test |=
            line.starts_with("#[test]") || line.starts_with("#[tokio::test") || line.starts_with("proptest!");
        let name =
            line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        if let Some(name) = name.filter(|_| is_test) {
            names.push(name.to_owned());
            is_test = false;
        }
    }
    names
}

/// Paths from the root that a document links to; addresses on the network are left out.
pub(crate) fn links(file: &SourceFile) -> Vec<String> {
    let base = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let targets = file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local.map(|target| resolve(base, target.split('#').next().unwrap_or(target))).collect()
}

fn resolve(base: &Path, target: &str) -> String {
    let mut parts: Vec<&str> = base.iter().filter_map(|part| part.to_str()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn document(path: &str) -> SourceFile {
    files().into_iter().find(|file| file.path == path).unwrap_or_else(|| panic!("there is no {path}"))
}

#[test]
fn a_link_is_resolved_from_its_document() {
    let file =
        SourceFile { path: "docs/decisions/a.md".into(), text: "[x](../b.md#c) [y](https://e.org)".into() };
    assert_eq!(links(&file), ["docs/b.md"]);
}

#[test]
fn a_row_without_a_holder_is_seen() {
    let promises =
        promises("| id | promise | held by |\n| --- | --- | --- |\n| A-1 | x | |\n| A-2 | y | `t` |\n");
    let held: Vec<_> = promises.iter().map(|promise| (promise.id.as_str(), promise.held_by.len())).collect();
    assert_eq!(held, [("A-1", 0), ("A-2", 1)]);
}
