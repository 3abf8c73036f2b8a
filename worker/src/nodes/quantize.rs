//! Floats as stored samples.

use remotemedia_core::data::SampleFormat;

/// Writes samples with full scale at ±1.0, little-endian. An integer is the nearest one, and what is beyond full scale is
/// the greatest or least there is: a loud peak is cut off and never wraps round. Without dither.
pub(super) fn write(samples: &[f32], format: SampleFormat, out: &mut [u8]) {
    match format {
        SampleFormat::F32 => each(samples, out, f32::to_le_bytes),
        SampleFormat::I16 => each(samples, out, |sample| i16_of(sample).to_le_bytes()),
        SampleFormat::I32 => each(samples, out, |sample| i32_of(sample).to_le_bytes()),
    }
}

fn each<const N: usize>(samples: &[f32], out: &mut [u8], encode: impl Fn(f32) -> [u8; N]) {
    let (places, _rest) = out.as_chunks_mut::<N>();
    places.iter_mut().zip(samples).for_each(|(place, sample)| *place = encode(*sample));
}

#[expect(clippy::cast_possible_truncation, reason = "a float beyond the range becomes its end")]
fn i16_of(sample: f32) -> i16 {
    (sample * 32_768.0).round() as i16
}

#[expect(clippy::cast_possible_truncation, reason = "a float beyond the range becomes its end")]
fn i32_of(sample: f32) -> i32 {
    (f64::from(sample) * 2_147_483_648.0).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_rounded_to_the_nearest_and_saturate() {
        let samples = [0.0, 0.5, -1.0, 1.0, 1e9, -1e9, 0.4 / 32_768.0, 0.6 / 32_768.0, -0.6 / 32_768.0];
        let mut out = [0; 18];
        write(&samples, SampleFormat::I16, &mut out);
        let read = out.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect::<Vec<_>>();
        assert_eq!(read, [0, 16_384, i16::MIN, i16::MAX, i16::MAX, i16::MIN, 0, 1, -1]);
        let mut out = [0; 36];
        write(&samples, SampleFormat::I32, &mut out);
        let read = out.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect::<Vec<_>>();
        assert_eq!(read[..6], [0, 1 << 30, i32::MIN, i32::MAX, i32::MAX, i32::MIN]);
    }
}
