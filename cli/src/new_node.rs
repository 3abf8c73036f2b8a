//! `remotemedia new-node`: a node in Python to begin with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::args::NewNodeArgs;
use crate::error::CommandError;

/// The name of a Python class that can be a node type, and the module that it lies in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeClass {
    class: String,
    module: String,
}

/// No node was written.
#[derive(Debug, thiserror::Error)]
pub enum NewNodeError {
    /// Not the name of a class, or one that the files need for something else.
    #[error(
        "'{name}' cannot be a node's name: write at most {MAX_NAME_BYTES} letters and digits of ASCII, a capital letter first, such as Loudness; {} are taken",
        TAKEN.join(", ")
    )]
    Name {
        /// As given.
        name: String,
    },
    /// A file of the node is there.
    #[error("{path} is there already: choose another --dir, or another name")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system said no.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The longest name of a class: file names are made of it.
const MAX_NAME_BYTES: usize = 64;
/// Words of Python, and classes that the node is made with.
const TAKEN: [&str; 8] = ["False", "None", "True", "Annotated", "Audio", "Json", "Node", "Range"];

/// Names and contents of the files. They are of a class `NewNode` in a module `new_node`.
const FILES: [(&str, &str); 6] = [
    ("new_node.py", include_str!("new_node/new_node.py")),
    ("test_new_node.py", include_str!("new_node/test_new_node.py")),
    ("pyproject.toml", include_str!("new_node/pyproject.toml")),
    ("pipeline.yaml", include_str!("new_node/pipeline.yaml")),
    ("up.toml", include_str!("new_node/up.toml")),
    // Not by its own name here: a document of the project would be linked from another.
    ("README.md", include_str!("new_node/README.txt")),
];

/// Writes a node's files, and says what to do with them.
///
/// # Errors
/// One of them is there, or cannot be written.
pub fn new_node(args: &NewNodeArgs) -> Result<(), CommandError> {
    let dir = args.dir.clone().unwrap_or_else(|| args.name.module.clone().into());
    write(&args.name, &dir)?;
    let NodeClass { class, module } = &args.name;
    let dir = dir.display();
    crate::print_line(&format!("{class} is in {dir}/{module}.py. To go on:"))?;
    crate::print_line(&format!("  cd {dir}"))?;
    crate::print_line("  pytest")?;
    crate::print_line("  remotemedia up --config up.toml")?;
    Ok(())
}

fn write(name: &NodeClass, dir: &Path) -> Result<(), NewNodeError> {
    let files = FILES.map(|(file, text)| (dir.join(name.in_place(file)), name.in_place(text)));
    // All before the first is written: half a node helps nobody.
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(NewNodeError::Exists { path: path.clone() });
    }
    fs::create_dir_all(dir).map_err(|source| NewNodeError::Write { path: dir.to_owned(), source })?;
    for (path, text) in files {
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| NewNodeError::Write { path, source })?;
    }
    Ok(())
}

// === impl NodeClass ===

impl NodeClass {
    fn in_place(&self, text: &str) -> String {
        text.replace("NewNode", &self.class).replace("new_node", &self.module)
    }
}

impl FromStr for NodeClass {
    type Err = NewNodeError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let fits = name.len() <= MAX_NAME_BYTES
            && name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && !TAKEN.contains(&name);
        if !fits {
            return Err(NewNodeError::Name { name: name.to_owned() });
        }
        let snake = in_snake_case(name);
        // With an ending that no module of Python's own has: `Json` must not hide `json`.
        let module = if snake.ends_with("_node") { snake } else { format!("{snake}_node") };
        Ok(Self { class: name.to_owned(), module })
    }
}

/// `MyVADNode` is `my_vad_node`.
fn in_snake_case(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut snake = String::with_capacity(name.len() + 4);
    for (place, letter) in name.char_indices() {
        let before = place.checked_sub(1).map(|before| bytes[before]);
        let after = bytes.get(place + 1);
        let begins_word = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                !before.is_ascii_uppercase() || after.is_some_and(u8::is_ascii_lowercase)
            });
        if begins_word {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_after_its_class_and_hides_none_of_pythons() {
        let module = |name: &str| name.parse::<NodeClass>().map(|name| name.module);
        for (name, expected) in [
            ("Loudness", "loudness_node"),
            ("MyVADNode", "my_vad_node"),
            ("Types", "types_node"),
            ("Gain2x", "gain2x_node"),
            ("ANode", "a_node"),
        ] {
            assert_eq!(module(name).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_class_of_python_is_refused_with_what_is() {
        for name in
            ["", "loudness", "2nd", "My-Node", "My Node", "Größe", "None", "Node", "../Up", &"A".repeat(65)]
        {
            let error = name.parse::<NodeClass>().unwrap_err().to_string();
            assert!(error.contains("a capital letter first, such as Loudness"), "{error}");
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten_and_nothing_is_written_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let name: NodeClass = "Loudness".parse().unwrap();
        fs::write(dir.path().join("up.toml"), "mine").unwrap();
        let error = write(&name, dir.path()).unwrap_err();
        assert!(matches!(error, NewNodeError::Exists { ref path } if path.ends_with("up.toml")), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write(&name, &dir.path().join("deeper/still")).unwrap();
        let node = fs::read_to_string(dir.path().join("deeper/still/loudness_node.py")).unwrap();
        assert!(node.contains("class Loudness(Node):") && !node.contains("NewNode"), "{node}");
    }
}
