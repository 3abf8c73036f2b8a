//! The one codec of control messages and of frames' metadata.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::MAX_FRAME_BYTES;
use crate::memory::geometry::MAX_BLOCK_BYTES;

/// Encodes a value.
///
/// # Errors
/// It is longer than a frame may be, or its `Serialize` refused.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, CONFIG).map_err(CodecError::Encode)?;
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(CodecError::TooLong { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Decodes a value that fills `bytes` to the end.
///
/// # Errors
/// The bytes are no such value, end early, or go on after it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    whole(bincode::serde::decode_from_slice(bytes, CONFIG), bytes)
}

/// Decodes a value that the bytes begin with, whatever follows.
///
/// # Errors
/// They do not begin with such a value.
pub fn decode_start<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let decoded = bincode::serde::decode_from_slice(bytes, CONFIG);
    decoded.map(|(value, _used)| value).map_err(CodecError::Decode)
}

/// Encodes what goes into a block of a frame pool. It may be longer than any block: that is for the pool to say.
///
/// # Errors
/// Its `Serialize` refused.
pub fn encode_for_block<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::serde::encode_to_vec(value, UNBOUNDED).map_err(CodecError::Encode)
}

/// Decodes a value that fills the bytes of a block.
///
/// # Errors
/// As [`decode`].
pub fn decode_from_block<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    whole(bincode::serde::decode_from_slice(bytes, OF_BLOCK), bytes)
}

/// Why a value was not encoded, or bytes not decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A value of our own that cannot be said in this format.
    #[error("the message cannot be encoded")]
    Encode(#[source] EncodeError),
    /// A value of our own that is too long.
    #[error("the encoded message has {bytes} bytes, at most {MAX_FRAME_BYTES} fit a frame")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A peer's bytes that are no such message: of another version, or damaged.
    #[error("the bytes are not the message expected: do both sides run the same version?")]
    Decode(#[source] DecodeError),
    /// A peer's bytes that begin with a message and go on.
    #[error("the message ends after {used} of {bytes} bytes: do both sides run the same version?")]
    Trailing {
        /// Where the message ended.
        used: usize,
        /// How many bytes there were.
        bytes: usize,
    },
}

type Bounded = Configuration<LittleEndian, Varint, Limit<MAX_FRAME_BYTES>>;

const CONFIG: Bounded = bincode::config::standard().with_limit::<MAX_FRAME_BYTES>();

const UNBOUNDED: Configuration = bincode::config::standard();

/// The longest block: what a length that lies can have reserved at most.
const LONGEST_BLOCK: usize = 1 << 30;
const _: () = assert!(LONGEST_BLOCK as u64 == MAX_BLOCK_BYTES);

const OF_BLOCK: Configuration<LittleEndian, Varint, Limit<LONGEST_BLOCK>> =
    bincode::config::standard().with_limit::<LONGEST_BLOCK>();

fn whole<T>(decoded: Result<(T, usize), DecodeError>, bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = decoded.map_err(CodecError::Decode)?;
    if used < bytes.len() {
        return Err(CodecError::Trailing { used, bytes: bytes.len() });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_the_round_trip() {
        let value = (7_u64, String::from("vad"), vec![Some(1_u8), None]);
        assert_eq!(decode::<(u64, String, Vec<Option<u8>>)>(&encode(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn bytes_after_the_value_are_an_error() {
        let mut bytes = encode(&7_u8).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u8>(&bytes), Err(CodecError::Trailing { used: 1, bytes: 2 })));
    }

    #[test]
    fn a_length_that_lies_allocates_nothing_and_is_an_error() {
        let lie = [253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(matches!(decode::<Vec<u8>>(&lie), Err(CodecError::Decode(_))));
        assert!(matches!(decode::<Vec<u64>>(&lie), Err(CodecError::Decode(_))));
        assert!(matches!(decode::<String>(&lie), Err(CodecError::Decode(_))));
    }

    #[test]
    fn a_message_longer_than_a_frame_is_not_encoded() {
        let long = "x".repeat(MAX_FRAME_BYTES);
        assert!(matches!(encode(&long), Err(CodecError::TooLong { .. })));
        assert_eq!(decode_from_block::<String>(&encode_for_block(&long).unwrap()).unwrap(), long);
    }
}
