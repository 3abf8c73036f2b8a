//! The pipeline that `run` was given.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use remotemedia_core::graph::Graph;
use remotemedia_core::limits::Limits;
use remotemedia_core::manifest::Manifest;

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
}

impl Pipeline {
    /// Reads a `.json` file as JSON, and any other as YAML.
    ///
    /// # Errors
    /// It cannot be read, is no pipeline, or has more entries than one.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        let manifest = parse(path, &text(path)?)?;
        let graph = Graph::check(&manifest, &Limits::default())
            .map_err(|source| CommandError::Graph { path: path.to_owned(), source })?;
        let entries: Vec<&str> = graph.entries().map(|entry| graph.node(entry).id.as_str()).collect();
        let [entry] = entries.as_slice() else {
            return Err(CommandError::Entries { path: path.to_owned(), entries: entries.join(", ") });
        };
        let name = match manifest.metadata.name.as_str() {
            "" => path.display().to_string(),
            name => name.to_owned(),
        };
        Ok(Self { entry: (*entry).to_owned(), name, manifest: Arc::new(manifest) })
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

fn parse(path: &Path, text: &str) -> Result<Manifest, CommandError> {
    let json = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
    let parsed = if json { Manifest::from_json(text) } else { Manifest::from_yaml(text) };
    parsed.map_err(|source| CommandError::ParsePipeline { path: PathBuf::from(path), source })
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
        check("a.json", "{", &["a.json: manifest JSON, line 1"]);
        check("a.yaml", "version: v1\nnodes: []", &["a.yaml: the manifest has no nodes"]);
        let two = "version: v1\nnodes: [{ id: a, node_type: VAD }, { id: b, node_type: VAD }]";
        check("a.yaml", two, &["has the entries a, b"]);
        assert!(matches!(Pipeline::read(Path::new("/nowhere.yaml")), Err(CommandError::ReadPipeline { .. })));
    }
}
