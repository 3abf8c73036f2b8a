//! `FileBuffer` ⇄ [`FileReference`].

use remotemedia_core::data::{DataError, FilePath, FileRange, FileReference, MimeType};

use crate::v1::FileBuffer;

pub(super) fn from_wire(buffer: FileBuffer) -> Result<FileReference, DataError> {
    let FileBuffer { path, filename, mime_type, size, offset, length, stream_id } = buffer;
    let mut file = FileReference::new(FilePath::new(path)?, FileRange { offset, length, size })?;
    file.filename = filename;
    file.mime = MimeType::known(mime_type)?;
    file.stream_id = stream_id;
    Ok(file)
}

pub(super) fn to_wire(file: FileReference) -> FileBuffer {
    let FileRange { offset, length, size } = file.range();
    FileBuffer {
        path: file.path().as_str().to_owned(),
        mime_type: super::mime_to_wire(file.mime.as_ref()),
        filename: file.filename,
        size,
        offset,
        length,
        stream_id: file.stream_id,
    }
}
