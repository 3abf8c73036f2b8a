//! Tells steady noise from everything that has a pitch or formants.

use std::collections::VecDeque;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Hears whether there has been nothing but hiss for a while: sound of which each part of the spectrum has the same power.
/// Speech hisses too, but never for so long.
pub(super) struct HissDetector {
    transform: Arc<dyn RealToComplex<f32>>,
    /// The frame before and this one.
    window: Vec<f32>,
    weighted: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    recent: VecDeque<f32>,
}

/// Flatness of a spectrum is its geometric by its arithmetic mean: 1 for a single click, about 0.56 for white noise, under
/// 0.1 for vowels. Between hiss and what is no hiss.
const FLAT: f32 = 0.35;

/// 160 ms: no fricative is as long.
const LONG: usize = 10;

/// Below is mains hum, above what converters cut off.
const BINS: std::ops::Range<usize> = 4..250;

// === impl HissDetector ===

impl HissDetector {
    pub(super) fn new(frame_samples: usize) -> Self {
        let transform = RealFftPlanner::new().plan_fft_forward(2 * frame_samples);
        let (window, weighted) = (transform.make_input_vec(), transform.make_input_vec());
        let spectrum = transform.make_output_vec();
        Self { transform, window, weighted, spectrum, recent: VecDeque::with_capacity(LONG) }
    }

    /// Takes the next frame, and tells whether all of the last 160 ms were hiss.
    pub(super) fn hears_only_hiss(&mut self, frame: &[f32]) -> bool {
        self.window.drain(..frame.len());
        self.window.extend_from_slice(frame);
        if self.recent.len() == LONG {
            self.recent.pop_front();
        }
        let flatness = self.flatness();
        self.recent.push_back(flatness);
        self.recent.iter().all(|flatness| *flatness > FLAT)
    }

    #[expect(clippy::cast_precision_loss, reason = "a window has 512 samples")]
    fn flatness(&mut self) -> f32 {
        let step = std::f32::consts::TAU / self.window.len() as f32;
        for (at, (weighted, sample)) in self.weighted.iter_mut().zip(&self.window).enumerate() {
            *weighted = sample * (0.5 - 0.5 * (at as f32 * step).cos());
        }
        let transformed = self.transform.process(&mut self.weighted, &mut self.spectrum);
        transformed.expect("the buffers are those that the transform made");
        // What is below is the rounding of 32-bit floats.
        let powers = self.spectrum[BINS].iter().map(|bin| bin.norm_sqr() + 1e-12);
        let (mut sum, mut logarithms) = (0.0, 0.0);
        for power in powers {
            sum += power;
            logarithms += power.ln();
        }
        let count = BINS.len() as f32;
        (logarithms / count).exp() / (sum / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(sample: impl FnMut(u32) -> f32) -> bool {
        let samples = (0..8_192).map(sample).collect::<Vec<_>>();
        let mut detector = HissDetector::new(256);
        samples.chunks_exact(256).fold(false, |_, frame| detector.hears_only_hiss(frame))
    }

    #[test]
    fn noise_is_hiss_and_a_tone_in_it_is_none() {
        let mut dice = 1_u64;
        let mut noise = move || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut again = noise;
        assert!(heard(move |_| noise()));
        assert!(!heard(move |at| again() * 0.1 + (at as f32 * 0.3).sin() * 0.5));
    }
}
