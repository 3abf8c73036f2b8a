//! A page of the documentation, by what is to be done with its fenced blocks.

use std::path::Path;

/// A page of the documentation.
pub struct Page {
    /// Its fenced blocks, in order.
    pub blocks: Vec<Block>,
}

/// A fenced block.
#[derive(PartialEq, Debug)]
pub enum Block {
    /// A file.
    File {
        /// Its name, or path.
        name: String,
        /// All of it.
        text: String,
    },
    /// Commands that end.
    Console(Vec<Command>),
    /// A command that goes on.
    Service(Command),
    /// Not used, and the page says so.
    Shown,
}

/// A command and what it shows.
#[derive(PartialEq, Debug)]
pub struct Command {
    /// As it is typed.
    pub line: String,
    /// Lines of what it prints, `…` being anything.
    pub shows: Vec<String>,
    /// Whether it ends with an error.
    pub fails: bool,
}

/// What stands for anything.
const ANYTHING: char = '…';
/// How a paragraph begins that says why a block is not run.
const NOT_RUN: &str = "Not run";
const FENCE: &str = "```";

// === impl Page ===

impl Page {
    /// Of this path from the project's root.
    ///
    /// # Panics
    /// It is not there, has nothing to run, or a block does not say what it is.
    #[must_use]
    pub fn read(path: &str) -> Self {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in a workspace");
        let text = std::fs::read_to_string(root.join(path)).expect("the page is there");
        let page = Self::parse(&text);
        assert!(page.blocks.iter().any(|block| *block != Block::Shown), "{path} has nothing to run");
        page
    }

    fn parse(text: &str) -> Self {
        let mut blocks = Vec::new();
        // The first line of the paragraph before.
        let mut paragraph = "";
        let mut is_within = false;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(info) = line.strip_prefix(FENCE) {
                let body: Vec<&str> = lines.by_ref().take_while(|line| *line != FENCE).collect();
                blocks.push(Block::of(info, &body, paragraph));
                paragraph = "";
            } else if line.is_empty() {
                is_within = false;
            } else {
                assert!(!line.starts_with("    "), "an indented block cannot say what it is: {line}");
                paragraph = if is_within { paragraph } else { line };
                is_within = true;
            }
        }
        Self { blocks }
    }
}

// === impl Block ===

impl Block {
    fn of(info: &str, body: &[&str], before: &str) -> Self {
        if before.starts_with(NOT_RUN) {
            return Self::Shown;
        }
        match info.split(' ').collect::<Vec<_>>()[..] {
            ["console"] => Self::Console(commands(body)),
            ["console", "fails"] => {
                let fails = |command| Command { fails: true, ..command };
                Self::Console(commands(body).into_iter().map(fails).collect())
            }
            ["console", "service"] => match <[Command; 1]>::try_from(commands(body)) {
                Ok([command]) => Self::Service(command),
                Err(commands) => panic!("a service is one command, got {commands:?}"),
            },
            [_, file] if file.starts_with("file=") => {
                let name = file.trim_start_matches("file=").to_owned();
                Self::File { name, text: body.iter().map(|line| format!("{line}\n")).collect() }
            }
            _ => panic!("a block of '{info}' is not run, and the page does not say so: {body:#?}"),
        }
    }
}

// === impl Command ===

impl Command {
    /// Whether all that the page shows is among these lines, in its order.
    #[must_use]
    pub fn is_shown_by(&self, said: &[String]) -> bool {
        let mut lines = said.iter();
        self.shows.iter().all(|shown| lines.any(|line| fits(shown, line)))
    }
}

fn fits(shown: &str, line: &str) -> bool {
    let mut pieces = shown.trim_end().split(ANYTHING);
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.trim_end().strip_prefix(first) else { return false };
    for piece in pieces {
        match rest.find(piece) {
            Some(place) => rest = &rest[place + piece.len()..],
            None => return false,
        }
    }
    rest.is_empty() || shown.trim_end().ends_with(ANYTHING)
}

fn commands(body: &[&str]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for line in body.iter().filter(|line| !line.is_empty()) {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(line), _) => {
                commands.push(Command { line: line.to_owned(), shows: Vec::new(), fails: false })
            }
            (None, Some(command)) => command.shows.push((*line).to_owned()),
            (None, None) => panic!("a console block begins with a command, got {line}"),
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_stands_behind_its_fence() {
        let page =
            Page::parse("a\n\n```python file=a.py\nx\n\ny\n```\nb\n```console\n$ one\n1\n…\n$ two\n```\n");
        let command = |line: &str, shows: &[&str]| Command {
            line: line.to_owned(),
            shows: shows.iter().map(|line| (*line).to_owned()).collect(),
            fails: false,
        };
        let file = Block::File { name: "a.py".to_owned(), text: "x\n\ny\n".to_owned() };
        let console = Block::Console(vec![command("one", &["1", "…"]), command("two", &[])]);
        assert_eq!(page.blocks, [file, console]);
        assert_eq!(Page::parse("Not run: slow.\n\n```console slow\n$ x\n```\n").blocks, [Block::Shown]);
    }

    #[test]
    #[should_panic(expected = "the page does not say so")]
    fn a_block_that_is_not_run_says_so() {
        Page::parse("Fast.\n\n```text\nx\n```\n");
    }

    #[test]
    fn an_ellipsis_is_anything() {
        assert!(fits("a … c", "a b b c") && fits("…", "") && fits("a…", "abc") && fits("…c", "abc"));
        assert!(!fits("a…c", "abcd") && !fits("a", "ab") && !fits("b…", "ab"));
    }
}
