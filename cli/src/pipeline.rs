//! The pipeline that `run` was given.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

use remotemedia_core::fault::Fault;
use remotemedia_core::graph::Graph;
use remotemedia_core::limits::Limits;
use remotemedia_core::manifest::{Draft, Format, Manifest, Place, Problem};

use crate::error::CommandError;

/// The longest pipeline file: the service's own limits on nodes and parameters are below.
const MAX_PIPELINE_BYTES: u64 = 16 * 1_024 * 1_024;

/// A pipeline with one entry, as far as can be told before a service has seen it.
pub struct Pipeline {
    /// As written.
    pub manifest: Arc<Manifest>,
    /// The node that takes the input.
    pub entry: String,
    /// What people call it.
    pub name: String,
    path: PathBuf,
    draft: Draft,
}

/// A problem with the place that editors find: `speech.yaml:3:7: nodes[0].id: …`.
pub struct Located<'a> {
    /// The file.
    pub path: &'a Path,
    /// What is wrong with it.
    pub problem: &'a Problem,
}

/// Reads a `.json` file as JSON, and any other as YAML, and holds it to the rules of pipelines.
///
/// # Errors
/// The file cannot be read.
pub fn draft(path: &Path) -> Result<Draft, CommandError> {
    let json = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
    let mut draft = Draft::read(&text(path)?, if json { Format::Json } else { Format::Yaml });
    draft.check(&Limits::default());
    Ok(draft)
}

// === impl Pipeline ===

impl Pipeline {
    /// As [`draft`].
    ///
    /// # Errors
    /// It cannot be read, is no pipeline, or has more entries than one.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        let draft = draft(path)?;
        let problems: Vec<Problem> = draft.problems().into_iter().cloned().collect();
        if !problems.is_empty() {
            return Err(CommandError::Invalid { path: path.to_owned(), problems });
        }
        let manifest = draft.manifest().clone();
        let graph = Graph::check(&manifest, &Limits::default()).map_err(Fault::from)?;
        let entries: Vec<&str> = graph.entries().map(|entry| graph.node(entry).id.as_str()).collect();
        let [entry] = entries.as_slice() else {
            return Err(CommandError::Entries { path: path.to_owned(), entries: entries.join(", ") });
        };
        let name = match manifest.metadata.name.as_str() {
            "" => path.display().to_string(),
            name => name.to_owned(),
        };
        let (entry, path) = ((*entry).to_owned(), path.to_owned());
        Ok(Self { manifest: Arc::new(manifest), entry, name, path, draft })
    }

    /// Where the service refused the manifest, the error with its place in the file.
    #[must_use]
    pub fn blame(mut self, error: CommandError) -> CommandError {
        let CommandError::Fault(fault) = error else { return error };
        self.draft.blame(&fault);
        match self.draft.into_manifest() {
            Ok(_) => CommandError::Fault(fault),
            Err(problem) => CommandError::Refused { path: self.path, problem, fault: Box::new(fault) },
        }
    }
}

// === impl Located ===

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.problem.place;
        write!(f, "{}:{line}:{column}: {}", self.path.display(), self.problem)
    }
}

fn text(path: &Path) -> Result<String, CommandError> {
    let failed = |source| CommandError::ReadPipeline { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_PIPELINE_BYTES {
        let problem = format!("it has {bytes} bytes, over the limit of {MAX_PIPELINE_BYTES}");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, problem)));
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Pipeline, CommandError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        Pipeline::read(&path)
    }

    #[test]
    fn yaml_and_json_are_told_apart_by_name() {
        let yaml = "version: v1\nmetadata: { name: speech }\nnodes: [{ id: vad, node_type: VAD }]";
        let pipeline = read("a.yml", yaml).unwrap();
        assert_eq!((pipeline.name.as_str(), pipeline.entry.as_str()), ("speech", "vad"));
        let json = r#"{"version":"v1","nodes":[{"id":"vad","node_type":"VAD"}]}"#;
        assert!(read("a.json", json).unwrap().name.ends_with("a.json"));
    }

    #[test]
    fn mistakes_name_the_file_and_what_is_wrong() {
        let check = |name: &str, text: &str, expected: &[&str]| {
            let error = read(name, text).err().unwrap().to_string();
            assert!(expected.iter().all(|expect| error.contains(expect)), "{error}");
        };
        check("a.json", "{", &["a.json:1:1: EOF"]);
        check("a.yaml", "version: v1\nnodes: []", &["a.yaml:2:8: nodes: the manifest has no nodes"]);
        let several = "version: v2\nnodes: [{ id: a, node_type: VAD, prams: {} }]";
        check("a.yaml", several, &["a.yaml:1:10: version", "a.yaml:2:34: nodes[0].prams", "'params'?"]);
        let two = "version: v1\nnodes: [{ id: a, node_type: VAD }, { id: b, node_type: VAD }]";
        check("a.yaml", two, &["has the entries a, b"]);
        assert!(matches!(Pipeline::read(Path::new("/nowhere.yaml")), Err(CommandError::ReadPipeline { .. })));
    }
}
