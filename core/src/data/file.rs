//! A file, by reference.

use std::fmt;
use std::path::{Component, Path};

use super::DataError;
use super::error::PathProblem;
use super::mime::MimeType;

/// A file, or a piece of one, on the machine of the node that reads it. Its content is not here, and whether the node may
/// read it is for the service to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileReference {
    path: FilePath,
    range: FileRange,
    /// The name to show; empty means the last component of the path.
    pub filename: String,
    /// What the file is, if that is known.
    pub mime: Option<MimeType>,
    /// Which of several tracks this belongs to; empty means the default one.
    pub stream_id: String,
}

/// A path that can be one, and that does not lead out of the directories that it names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FilePath(String);

/// Which bytes of a file are meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FileRange {
    /// First byte meant, counted from the start of the file.
    pub offset: u64,
    /// Bytes meant from there on; 0 means to the end.
    pub length: u64,
    /// Of the whole file, in bytes; 0 if unknown.
    pub size: u64,
}

// === impl FileReference ===

impl FileReference {
    /// Nothing but a path and a range.
    ///
    /// # Errors
    /// The range is not in a file of the size declared.
    pub fn new(path: FilePath, range: FileRange) -> Result<Self, DataError> {
        let FileRange { offset, length, size } = range;
        if size != 0 && offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(DataError::FileRange { offset, length, size });
        }
        Ok(Self { path, range, filename: String::new(), mime: None, stream_id: String::new() })
    }

    /// Where the file is.
    #[must_use]
    pub const fn path(&self) -> &FilePath {
        &self.path
    }

    /// Which bytes of it are meant.
    #[must_use]
    pub const fn range(&self) -> FileRange {
        self.range
    }
}

// === impl FilePath ===

impl FilePath {
    /// Linux takes no longer ones, its final NUL included.
    pub const MAX_BYTES: usize = 4_095;

    /// # Errors
    /// Empty, too long, or with a NUL or `..` in it.
    pub fn new(path: impl Into<String>) -> Result<Self, DataError> {
        let path = path.into();
        match problem_of(&path) {
            None => Ok(Self(path)),
            Some(problem) => Err(DataError::Path { path: path.chars().take(200).collect(), problem }),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the system's calls take it.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn problem_of(path: &str) -> Option<PathProblem> {
    if path.is_empty() {
        Some(PathProblem::Empty)
    } else if path.len() > FilePath::MAX_BYTES {
        Some(PathProblem::Long)
    } else if path.contains('\0') {
        Some(PathProblem::Nul)
    } else if Path::new(path).components().any(|component| component == Component::ParentDir) {
        Some(PathProblem::Parent)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_or_ends_early_is_refused() {
        let check = |path: &str, expect: &str| {
            assert_eq!(FilePath::new(path).unwrap_err().to_string(), expect);
        };
        check("", "the path \"\" is empty: name a file");
        check("/data/../etc/passwd", "the path \"/data/../etc/passwd\" contains '..': name the file without");
        check("..", "the path \"..\" contains '..': name the file without");
        check("/data/a\0.wav", "the path \"/data/a\\0.wav\" contains a NUL: name the file without");
        assert!(FilePath::new("/data/a..b/...").is_ok());
        assert!(FilePath::new("a".repeat(FilePath::MAX_BYTES)).is_ok());
        assert!(FilePath::new("a".repeat(FilePath::MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn a_piece_that_is_not_in_the_file_is_refused() {
        let file = |offset, length, size| {
            FileReference::new(FilePath::new("/a").unwrap(), FileRange { offset, length, size })
        };
        for (offset, length, size) in [(0, 0, 0), (9, 9, 0), (4, 6, 10), (10, 0, 10), (u64::MAX, 1, 0)] {
            assert!(file(offset, length, size).is_ok(), "{offset} {length} {size}");
        }
        assert_eq!(
            file(4, 7, 10).unwrap_err().to_string(),
            "7 bytes from byte 4 on are not in a file of 10 bytes"
        );
        assert!(file(u64::MAX, 1, 10).is_err() && file(11, 0, 10).is_err());
    }
}
