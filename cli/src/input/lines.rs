//! JSON and text files, whole or line by line.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use remotemedia_core::data::{DataError, Json, RuntimeData, Text};

use super::{InputError, InputKind};

/// A file that is one piece.
pub struct Document {
    data: Option<RuntimeData>,
    bytes: u64,
}

/// A file that is one piece a line. Blank lines are none.
pub struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    json: bool,
    max_line_bytes: u64,
    line: u64,
    read: u64,
    bytes: u64,
}

// === impl Document ===

impl Document {
    /// # Errors
    /// It cannot be read, is too long for one piece, or is not of this kind.
    pub(super) fn open(path: &Path, kind: InputKind, max_bytes: u64) -> Result<Self, InputError> {
        let failed = |source| InputError::Read { path: path.to_owned(), source };
        let mut text = Vec::new();
        let file = File::open(path).map_err(failed)?;
        // Read rather than asked for its length, which pipes and /proc files do not know.
        let bytes = file.take(max_bytes + 1).read_to_end(&mut text).map_err(failed)? as u64;
        if bytes > max_bytes {
            let (path, limit) = (path.to_owned(), max_bytes);
            return Err(InputError::TooLong { path, line: None, bytes, limit });
        }
        let data = piece(text, kind == InputKind::Json).map_err(|source| InputError::Data {
            path: path.to_owned(),
            line: None,
            source,
        })?;
        Ok(Self { data: Some(data), bytes })
    }

    pub(super) fn next(&mut self) -> Result<Option<RuntimeData>, InputError> {
        Ok(self.data.take())
    }

    pub(super) const fn progress(&self) -> (u64, u64) {
        (if self.data.is_some() { 0 } else { self.bytes }, self.bytes)
    }
}

// === impl Lines ===

impl Lines {
    /// # Errors
    /// It cannot be read.
    pub(super) fn open(path: &Path, kind: InputKind, max_line_bytes: u64) -> Result<Self, InputError> {
        let failed = |source| InputError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let json = kind == InputKind::Jsonl;
        let reader = BufReader::new(file);
        Ok(Self { path: path.to_owned(), reader, json, max_line_bytes, line: 0, read: 0, bytes })
    }

    pub(super) fn next(&mut self) -> Result<Option<RuntimeData>, InputError> {
        while let Some(text) = self.next_line()? {
            if !text.trim_ascii().is_empty() {
                let data = piece(text, self.json).map_err(|source| InputError::Data {
                    path: self.path.clone(),
                    line: Some(self.line),
                    source,
                })?;
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    pub(super) fn progress(&self) -> (u64, u64) {
        (self.read, self.bytes.max(self.read))
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, InputError> {
        let mut text = Vec::new();
        let bytes = (&mut self.reader)
            .take(self.max_line_bytes + 1)
            .read_until(b'\n', &mut text)
            .map_err(|source: io::Error| InputError::Read { path: self.path.clone(), source })?;
        let bytes = bytes as u64;
        self.line += 1;
        self.read += bytes;
        if bytes > self.max_line_bytes {
            let (path, limit) = (self.path.clone(), self.max_line_bytes);
            return Err(InputError::TooLong { path, line: Some(self.line), bytes, limit });
        }
        while text.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
            text.pop();
        }
        Ok((bytes > 0).then_some(text))
    }
}

fn piece(text: Vec<u8>, json: bool) -> Result<RuntimeData, DataError> {
    let text = Bytes::from(text);
    if json { Json::new(text, "").map(RuntimeData::from) } else { Text::new(text, "").map(RuntimeData::from) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn lines(text: &[u8], kind: InputKind) -> Result<Vec<Vec<u8>>, InputError> {
        let mut lines = Lines::open(file(text).path(), kind, 20)?;
        let mut pieces = Vec::new();
        while let Some(data) = lines.next()? {
            pieces.push(data.payload().to_vec());
        }
        Ok(pieces)
    }

    #[test]
    fn lines_are_pieces_and_blank_ones_are_none() {
        let pieces = lines(b"{\"a\":1}\r\n\n  \n[2]", InputKind::Jsonl).unwrap();
        assert_eq!(pieces, [&b"{\"a\":1}"[..], b"[2]"]);
        assert_eq!(lines(b"one\ntwo\n", InputKind::Text).unwrap(), [b"one", b"two"]);
        assert!(lines(b"", InputKind::Text).unwrap().is_empty());
    }

    #[test]
    fn a_broken_or_endless_line_is_named_by_its_number() {
        let error = lines(b"1\n{oops\n", InputKind::Jsonl).unwrap_err().to_string();
        assert!(error.contains(", line 2: not valid JSON at line 1, column 2"), "{error}");
        let error = lines(b"1\n\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"", InputKind::Jsonl).unwrap_err().to_string();
        assert!(error.contains(", line 2, has 21 bytes or more, over the limit of 20"), "{error}");
    }

    #[test]
    fn a_document_is_one_piece_if_it_fits() {
        let mut document = Document::open(file(b"a\nb").path(), InputKind::Text, 3).unwrap();
        assert_eq!(document.next().unwrap().unwrap().payload().as_ref(), b"a\nb");
        assert!(document.next().unwrap().is_none());
        let long = Document::open(file(b"abcd").path(), InputKind::Text, 3);
        assert!(matches!(long, Err(InputError::TooLong { bytes: 4, limit: 3, .. })));
    }
}
