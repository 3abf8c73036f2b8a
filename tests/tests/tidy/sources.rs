//! What Rust files look like, beyond what the compiler and clippy can be told.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::assert_none;
use crate::documents::links;
use crate::tree::{SourceFile, cargo, files, root, rust_files};

/// Where unsafe code may be, and why it cannot be elsewhere.
const UNSAFE: &[(&str, &str)] = &[
    ("ipc/", "shared memory"),
    ("cli/src/launch/confine", "what a child does between fork and exec"),
    ("python-nodes/native/src/block.rs", "the buffer protocol"),
    ("python-nodes/native/src/lender.rs", "outputs that are borrowed for one call into Python"),
];

/// Lines of one function, from its signature to its brace: what fits on a screen with its documentation.
const MAX_FUNCTION_LINES: usize = 80;

#[test]
fn unsafe_code_stays_in_its_rooms() {
    let broken =
        rust_files().into_iter().filter(|file| !UNSAFE.iter().any(|(place, _)| file.path.starts_with(place)));
    let broken = broken.flat_map(|file| {
        let found = file.lines().filter(|(_, line)| leaves_safety(line));
        found.map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim())).collect::<Vec<_>>()
    });
    assert_none(broken, "unsafe code outside the places of UNSAFE:");
}

#[test]
fn functions_fit_on_a_screen() {
    let broken = rust_files().into_iter().flat_map(|file| {
        let long = functions(&file).into_iter().filter(|function| function.lines > MAX_FUNCTION_LINES);
        long.map(|f| format!("{}:{}: {} has {} lines", file.path, f.line, f.name, f.lines))
            .collect::<Vec<_>>()
    });
    assert_none(broken, "a function over 80 lines does two things:");
}

#[test]
fn no_test_is_ignored_and_no_error_is_nameless() {
    let ignored = concat!("#[ig", "nore");
    let nameless = concat!("Other(Str", "ing)");
    let broken = rust_files().into_iter().flat_map(|file| {
        let found = file.lines().filter(|(_, line)| line.contains(ignored) || line.contains(nameless));
        found.map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim())).collect::<Vec<_>>()
    });
    assert_none(
        broken,
        "a test that does not run holds nothing, an error that is a string is not matched on:",
    );
}

#[test]
fn every_rust_file_is_compiled() {
    let reached = compiled_files();
    let dead = rust_files().into_iter().map(|file| file.path).filter(|path| !reached.contains(path));
    assert_none(dead, "no crate root reaches these by its mod declarations:");
}

#[test]
fn every_example_and_script_is_named_by_something_that_uses_it() {
    let all = files();
    let dead =
        all.iter().filter(|file| file.path.starts_with("examples/") || file.path.starts_with("scripts/"));
    let dead = dead.filter(|file| {
        let from_root = file.path.as_str();
        let name = from_root.split_once('/').map_or(from_root, |(_, name)| name);
        !all.iter()
            .any(|other| other.path != file.path && (other.text.contains(from_root) || uses(other, name)))
    });
    assert_none(dead.map(|file| &file.path), "no test, script or document names these:");
}

/// A function as rustfmt lays it out: its end has the indentation of its begin.
struct Function<'a> {
    name: &'a str,
    line: usize,
    lines: usize,
}

fn functions(file: &SourceFile) -> Vec<Function<'_>> {
    let lines: Vec<&str> = file.text.lines().collect();
    let begins = lines.iter().enumerate().filter_map(|(index, line)| Some((index, function_name(line)?)));
    let ends = begins.filter_map(|(index, name)| {
        let indent = lines[index].len() - lines[index].trim_start().len();
        let closes = |line: &&str| {
            line.len() > indent && line[..indent].trim().is_empty() && line[indent..].starts_with('}')
        };
        let length = lines[index..].iter().position(closes)? + 1;
        Some(Function { name, line: index + 1, lines: length })
    });
    ends.filter(|function| !lines[function.line - 1].trim_end().ends_with(';')).collect()
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let qualifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    let keyword = words.find(|word| !qualifiers.contains(word))?;
    let name = words.next()?;
    (keyword == "fn").then(|| name.split(['(', '<']).next().unwrap_or(name))
}

fn leaves_safety(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let keyword = concat!("uns", "afe");
    ["{", "fn", "impl", "extern", "trait"].iter().any(|next| code.contains(&format!("{keyword} {next}")))
        || code.contains(&format!("{keyword}("))
}

/// Whether the file names an example by its own name, as a test that joins paths does, or is a document with a link to it.
fn uses(file: &SourceFile, name: &str) -> bool {
    let is_linked =
        || links(file).iter().any(|target| target.split_once('/').is_some_and(|(_, rest)| rest == name));
    (file.path.ends_with(".rs") && file.text.contains(&format!("\"{name}\"")))
        || (file.path.ends_with(".md") && is_linked())
}

/// What cargo builds, and every module below.
fn compiled_files() -> BTreeSet<String> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    let list = |value: &Value| value.as_array().expect("cargo metadata gives a list here").clone();
    let targets = list(&metadata["packages"]).into_iter().flat_map(|package| list(&package["targets"]));
    let roots =
        targets.map(|target| PathBuf::from(target["src_path"].as_str().expect("a target has a root")));
    let mut reached = BTreeSet::new();
    for path in roots {
        let home = path.parent().expect("a crate root lies in a directory").to_path_buf();
        reach(&path, &home, &mut reached);
    }
    reached
}

/// Follows the mod declarations of a file whose children lie in `home`.
fn reach(path: &Path, home: &Path, reached: &mut BTreeSet<String>) {
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let name =
        path.strip_prefix(root()).expect("crate roots lie in the project").to_string_lossy().into_owned();
    if !reached.insert(name) {
        return;
    }
    let mut elsewhere = None;
    for line in text.lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            elsewhere = Some(path);
        } else if let Some(module) = declared_module(line) {
            for (child, child_home) in places(path, home, module, elsewhere.take()) {
                reach(&child, &child_home, reached);
            }
        }
    }
}

/// Where a declared module may be, and where its own children are then.
fn places(parent: &Path, home: &Path, module: &str, elsewhere: Option<&str>) -> Vec<(PathBuf, PathBuf)> {
    if let Some(path) = elsewhere {
        let file = plain(&parent.parent().expect("a file lies in a directory").join(path));
        let below = file.parent().expect("a file lies in a directory").to_path_buf();
        return vec![(file, below)];
    }
    let below = home.join(module);
    vec![(home.join(format!("{module}.rs")), below.clone()), (below.join("mod.rs"), below)]
}

fn declared_module(line: &str) -> Option<&str> {
    let declaration = line.strip_suffix(';')?;
    let declaration = ["pub ", "pub(crate) ", "pub(super) "]
        .iter()
        .find_map(|visibility| declaration.strip_prefix(visibility))
        .unwrap_or(declaration);
    declaration.strip_prefix("mod ")
}

/// The path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, component| {
        if component == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(component);
        }
        plain
    })
}

#[test]
fn a_function_is_measured_from_its_signature_to_its_brace() {
    let text = "impl A {\n    pub const fn b(\n        c: u8,\n    ) {\n        c\n    }\n}\n".to_owned();
    let file = SourceFile { path: String::new(), text };
    let measured: Vec<_> = functions(&file).iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(measured, [("b", 2, 5)]);
}
