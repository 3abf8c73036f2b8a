//! Which files clients may name.

use std::path::{Component, PathBuf};

use remotemedia_core::data::{DataError, RuntimeData};
use remotemedia_core::frame::Metadata;
use remotemedia_protos::convert;
use remotemedia_protos::v1::DataBuffer;
use serde::Deserialize;

/// Directories whose files clients may hand to nodes; without any, no file at all.
///
/// Judged by the path as written, since nothing is opened here: a link below a root may lead out of it, so nobody but
/// the operator should be able to make links there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<PathBuf>")]
pub struct FileRoots(Vec<PathBuf>);

/// A directory that cannot be compared with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the file root {root:?} is not absolute, or contains '..': write it from / on")]
pub struct FileRootError {
    /// As given.
    pub root: PathBuf,
}

// === impl FileRoots ===

impl FileRoots {
    /// # Errors
    /// A root that is not absolute, or leads out of itself.
    pub fn new(roots: Vec<PathBuf>) -> Result<Self, FileRootError> {
        let is_plain = |root: &PathBuf| {
            root.is_absolute() && root.components().all(|component| component != Component::ParentDir)
        };
        match roots.iter().find(|root| !is_plain(root)) {
            Some(root) => Err(FileRootError { root: root.clone() }),
            None => Ok(Self(roots)),
        }
    }

    /// What a client sent, if it is what it claims to be and clients may send it.
    ///
    /// # Errors
    /// As [`convert::data::from_wire`], and a file that is under none of the roots.
    pub(crate) fn data_from_wire(&self, buffer: DataBuffer) -> Result<(RuntimeData, Metadata), DataError> {
        let (data, metadata) = convert::data::from_wire(buffer)?;
        if let RuntimeData::File(file) = &data
            && !self.0.iter().any(|root| file.path().as_path().starts_with(root))
        {
            let roots = self.0.iter().map(|root| root.display().to_string()).collect();
            return Err(DataError::FileNotServed { path: file.path().to_string(), roots });
        }
        Ok((data, metadata))
    }
}

impl TryFrom<Vec<PathBuf>> for FileRoots {
    type Error = FileRootError;

    fn try_from(roots: Vec<PathBuf>) -> Result<Self, FileRootError> {
        Self::new(roots)
    }
}

#[cfg(test)]
mod tests {
    use remotemedia_protos::v1::FileBuffer;
    use remotemedia_protos::v1::data_buffer::DataType;

    use super::*;

    #[test]
    fn a_file_is_taken_only_from_under_a_root() {
        let roots = FileRoots::new(vec!["/srv/media".into(), "/data/".into()]).unwrap();
        let take = |roots: &FileRoots, path: &str| {
            let file = FileBuffer { path: path.to_owned(), ..FileBuffer::default() };
            let buffer = DataBuffer { data_type: Some(DataType::File(file)), ..DataBuffer::default() };
            roots.data_from_wire(buffer).map(|_| ()).map_err(|error| error.to_string())
        };
        for path in ["/srv/media/a.wav", "/data/b/./c", "/data//d"] {
            assert_eq!(take(&roots, path), Ok(()));
        }
        for path in ["/srv/mediator/a.wav", "/srv", "data/b", "/etc/passwd"] {
            let expect = format!("the file \"{path}\" is not served: files are under /srv/media, /data/");
            assert_eq!(take(&roots, path), Err(expect));
        }
        assert!(take(&roots, "/data/../etc/passwd").unwrap_err().contains("contains '..'"));
        assert_eq!(
            take(&FileRoots::default(), "/data/b").unwrap_err(),
            "the file \"/data/b\" is not served: no files are, until the operator sets file_roots"
        );
    }

    #[test]
    fn a_root_is_absolute_and_plain() {
        for root in ["data", "/data/../etc", ""] {
            assert!(FileRoots::new(vec![root.into()]).is_err(), "{root}");
        }
    }
}
