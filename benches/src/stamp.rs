//! What a producer writes into every page of a payload, so that a consumer can tell that it sees this very frame.

use crate::error::BenchError;

const PAGE: usize = 4096;

/// Stamps every page of a frame.
pub(crate) fn write(payload: &mut [u8], sequence: u64) {
    for (page, bytes) in payload.chunks_mut(PAGE).enumerate() {
        bytes[..size_of::<u64>()].copy_from_slice(&expected(sequence, page).to_le_bytes());
    }
}

/// Looks at every page of a frame.
pub(crate) fn verify(payload: &[u8], sequence: u64) -> Result<(), BenchError> {
    for (page, bytes) in payload.chunks(PAGE).enumerate() {
        let found = bytes.first_chunk().map_or(0, |stamp| u64::from_le_bytes(*stamp));
        let expected = expected(sequence, page);
        if found != expected {
            return Err(BenchError::Torn { sequence, page, found, expected });
        }
    }
    Ok(())
}

/// Of all bits of the sequence, and never 0: fresh memory is not mistaken for a frame.
fn expected(sequence: u64, page: usize) -> u64 {
    let page = page as u64;
    (sequence << 20 | page).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_frame_is_found() {
        let mut payload = vec![0; 3 * PAGE];
        write(&mut payload, 7);
        verify(&payload, 7).unwrap();
        let mut other = payload.clone();
        write(&mut other, 8);
        payload[2 * PAGE..].copy_from_slice(&other[2 * PAGE..]);
        let torn = verify(&payload, 7).unwrap_err();
        assert!(matches!(torn, BenchError::Torn { sequence: 7, page: 2, .. }), "{torn}");
    }
}
