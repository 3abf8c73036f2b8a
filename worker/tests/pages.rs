//! The pages of the stock nodes say what the nodes themselves say.

#![expect(clippy::unwrap_used, reason = "a test stops where it goes wrong")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use remotemedia_core::data::Kind;
use remotemedia_core::node::{Absent, NodeInfo};
use remotemedia_worker::nodes::stock;

#[test]
fn every_stock_node_has_a_page_that_says_what_the_node_says() {
    for info in stock().infos() {
        let path = page(&info.name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expect = head(&info);
        assert!(text.starts_with(&expect), "{} is to begin with:\n\n{expect}", path.display());
    }
}

#[test]
fn every_page_is_that_of_a_stock_node_or_of_one_of_the_python_sdk() {
    let names = stock().infos().into_iter().map(|info| page(&info.name)).collect::<Vec<_>>();
    for entry in fs::read_dir(page("x").parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let known = names.contains(&path) || module(&path).is_file();
        assert!(known, "{} is the page of no node", path.display());
    }
}

/// Where the SDK has the node of a page. What stands on those pages is held by the SDK's own tests.
fn module(page: &Path) -> PathBuf {
    let name = page.file_stem().unwrap().to_str().unwrap().replace('-', "_");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
    root.join("python-nodes/src/remotemedia/nodes").join(name).with_extension("py")
}

/// `AudioLevel` has `docs/nodes/audio-level.md`, `VAD` has `docs/nodes/vad.md`.
fn page(name: &str) -> PathBuf {
    let mut file = String::new();
    let mut lower_before = false;
    for letter in name.chars() {
        if letter.is_uppercase() && lower_before {
            file.push('-');
        }
        lower_before = letter.is_lowercase();
        file.extend(letter.to_lowercase());
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
    root.join("docs/nodes").join(file).with_extension("md")
}

fn head(info: &NodeInfo) -> String {
    let mut head = format!("# {}\n\n{}\n\n", info.name, info.summary);
    let (takes, gives) = (kinds(&info.accepts), kinds(&info.produces));
    let repeats = match (info.repeatable, info.stateless) {
        (true, true) => "is repeatable and stateless",
        (true, false) => "is repeatable",
        (false, true) => "is stateless, and called at most once for an input",
        (false, false) => "is called at most once for an input",
    };
    writeln!(head, "Takes {takes}, gives {gives}; {repeats}.").unwrap();
    if !info.aliases.is_empty() {
        writeln!(head, "Manifests may also call it {}.", quoted(info.aliases.iter().map(String::as_str)))
            .unwrap();
    }
    if info.parameters.is_empty() {
        head.push_str("\nIt has no parameters.\n");
        return head;
    }
    head.push_str("\n| parameter | allowed | default | meaning |\n| --- | --- | --- | --- |\n");
    for parameter in &info.parameters {
        let default = match &parameter.absent {
            Absent::Refused => "must be given".to_owned(),
            Absent::Unset => "none".to_owned(),
            Absent::Default(value) => format!("`{value}`"),
        };
        let names = quoted(parameter.names());
        writeln!(head, "| {names} | {} | {default} | {} |", parameter.values, parameter.summary).unwrap();
    }
    head
}

fn kinds(kinds: &[Kind]) -> String {
    match kinds {
        [] => "any kind".to_owned(),
        kinds => kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" or "),
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
