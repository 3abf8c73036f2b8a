//! What is not written here, and the names that are not given.

use crate::assert_none;
use crate::tree::files;

/// Marks of work in progress and words of sediment. Split, so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("TB", "D"),
    concat!("for ", "now"),
    concat!("leg", "acy"),
    concat!("phase ", "2"),
    concat!("place", "holder"),
];

/// Names under which a module holds what has no place.
const NAMELESS: &[&str] = &["common", "helper", "helpers", "misc", "shared", "types", "util", "utils"];

/// Files that are as others wrote them.
const NOT_OURS: &[&str] = &["Cargo.lock", "LICENSE"];

/// The published contract keeps its own words.
const CONTRACT: &str = "protos/proto/";

#[test]
fn nothing_unfinished_is_left_in_the_tree() {
    let broken = ours().flat_map(|file| {
        let found = file.lines().filter(|(_, line)| UNFINISHED.iter().any(|word| has_word(line, word)));
        found.map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim())).collect::<Vec<_>>()
    });
    assert_none(broken, "what is not done is an issue, what is done needs no excuse:");
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let homes = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    let broken = ours().flat_map(|file| {
        let found = file.lines().filter(|(_, line)| homes.iter().any(|home| has_word(line, home)));
        found.map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim())).collect::<Vec<_>>()
    });
    assert_none(broken, "the project runs where it is cloned:");
}

#[test]
fn no_module_is_named_after_nothing() {
    let broken = ours().map(|file| file.path).filter(|path| {
        path.ends_with(".rs") && path.trim_end_matches(".rs").split('/').any(|part| NAMELESS.contains(&part))
    });
    assert_none(broken, "name a module after the noun it holds:");
}

fn ours() -> impl Iterator<Item = crate::tree::SourceFile> {
    files()
        .into_iter()
        .filter(|file| !NOT_OURS.contains(&file.path.as_str()) && !file.path.starts_with(CONTRACT))
}

/// Whether the word stands in the line on its own, not as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let ends_open = word.ends_with(|last: char| !last.is_alphanumeric());
        before.is_none_or(|c| !is_of_name(c)) && (ends_open || after.is_none_or(|c| !is_of_name(c)))
    })
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-')
}

#[test]
fn a_word_is_found_only_on_its_own() {
    assert!(has_word("see /srv/ there", "/srv/") && has_word("/srv/x", "/srv/"));
    assert!(!has_word("net/srv/x", "/srv/") && !has_word("undoer", "undo") && !has_word("re-undo", "undo"));
}
