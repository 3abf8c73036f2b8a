//! One stream of samples from one rate to another, in pieces of any size.

use remotemedia_core::data::{ChannelCount, SampleRate};
use rubato::audioadapter_buffers::SizeError;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, Fft, FixedAsync, FixedSync, ResampleError, Resampler, ResamplerConstructionError,
    SincInterpolationParameters, WindowFunction, calculate_cutoff,
};
use serde::Deserialize;

/// Converts interleaved samples of one stream. Its output is in phase with the input, and together with the tail
/// exactly as long; how the input was cut into pieces changes neither its length nor a bit of it.
///
/// The filter works on blocks of one size: what does not fill a block waits for the next piece. So output lags
/// behind its input by half a block to one and a half.
pub(super) struct RateConverter {
    filter: Box<dyn Resampler<f32>>,
    from: SampleRate,
    to: SampleRate,
    channels: usize,
    /// Samples of less than one block.
    pending: Vec<f32>,
    /// Output frames that still precede the stream's first.
    lead: usize,
    /// Where blocks go while `lead` lasts.
    scratch: Vec<f32>,
    frames_in: u64,
    frames_out: u64,
}

/// Two rates between which nothing is converted, or a filter that broke its own rules.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConversionError {
    #[error(
        "cannot resample {from} Hz to {to} Hz: one rate may be {limit} times the other at most, so put two AudioResample nodes in a row",
        limit = RateConverter::MAX_RATIO
    )]
    Ratio { from: u32, to: u32 },
    #[error("the resampling filter was not made: {0}")]
    Construction(#[from] ResamplerConstructionError),
    #[error("the resampling filter failed: {0}")]
    Filter(#[from] ResampleError),
    #[error("the resampling filter got a buffer of the wrong size: {0}")]
    Buffer(#[from] SizeError),
}

/// A filter, and how far its output must be shifted to be in phase: `lead_in` zeros go in front of the stream,
/// `lead_out` frames of output are dropped.
struct Aligned {
    filter: Box<dyn Resampler<f32>>,
    lead_in: usize,
    lead_out: usize,
}

/// How long the filter is, and with it how much of the band it keeps and how far output lags behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Quality {
    /// Flat to 0.6 of what the lower rate can carry, silent above that rate.
    Low,
    /// Flat to 0.8.
    Medium,
    /// Flat to 0.9.
    High,
}

/// A Fourier block must be a multiple of both reduced rates. Where that makes it longer than this at the lower rate, and
/// so the delay, an interpolated filter is taken: it knows no such blocks, but costs 5 ms for a second of audio where
/// the other costs 0.3 ms, and 6 ms to make.
const MAX_FOURIER_FRAMES: u32 = 1_024;

/// What it lets through of the stop band is lost in the rounding of 32-bit floats: tones measured 138 dB down.
const WINDOW: WindowFunction = WindowFunction::BlackmanHarris2;

// === impl RateConverter ===

impl RateConverter {
    /// Bounds the filter's memory: 768 kHz to 8 kHz is 96.
    pub(super) const MAX_RATIO: u32 = 256;

    /// # Errors
    /// The rates are too far apart.
    pub(super) fn new(
        from: SampleRate,
        to: SampleRate,
        channels: ChannelCount,
        quality: Quality,
    ) -> Result<Self, ConversionError> {
        let (lower, higher) = (from.min(to).get(), from.max(to).get());
        if higher.div_ceil(lower) > Self::MAX_RATIO {
            return Err(ConversionError::Ratio { from: from.get(), to: to.get() });
        }
        let channels = channels.as_usize();
        let Aligned { filter, lead_in, lead_out } = match fourier_block(from, to, quality) {
            Some(frames) => Aligned::fourier(from, to, channels, frames)?,
            None => Aligned::interpolated(from, to, channels, quality)?,
        };
        let mut pending = Vec::with_capacity(filter.input_frames_max() * channels);
        pending.resize(lead_in * channels, 0.0);
        let scratch = vec![0.0; filter.output_frames_max() * channels];
        Ok(Self { filter, from, to, channels, pending, lead: lead_out, scratch, frames_in: 0, frames_out: 0 })
    }

    /// Frames of the stream that went in.
    pub(super) fn frames_in(&self) -> u64 {
        self.frames_in
    }

    /// Frames of the stream that came out.
    pub(super) fn frames_out(&self) -> u64 {
        self.frames_out
    }

    /// Samples of memory that [`Self::push`] needs for `samples` of input; none while no block gets full.
    pub(super) fn room_to_push(&self, samples: usize) -> usize {
        (self.pending.len() + samples) / self.block() * self.scratch.len()
    }

    /// Takes input of whole frames and gives the number of samples written.
    ///
    /// # Errors
    /// `output` is smaller than [`Self::room_to_push`] says.
    pub(super) fn push(&mut self, input: &[f32], output: &mut [f32]) -> Result<usize, ConversionError> {
        self.frames_in += (input.len() / self.channels) as u64;
        let block = self.block();
        let mut written = 0;
        let mut rest = input;
        if !self.pending.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(block - self.pending.len()));
            self.pending.extend_from_slice(head);
            rest = tail;
            if self.pending.len() < block {
                return Ok(0);
            }
            written += self.convert_pending(output)?;
        }
        let whole = rest.len() / block * block;
        for input in rest[..whole].chunks_exact(block) {
            written += self.convert(input, &mut output[written..])?;
        }
        self.pending.extend_from_slice(&rest[whole..]);
        self.frames_out += (written / self.channels) as u64;
        Ok(written)
    }

    /// Samples of memory that [`Self::finish`] needs; none if the tail is empty.
    pub(super) fn room_to_finish(&self) -> usize {
        match self.tail() {
            0 => 0,
            samples => samples + self.scratch.len(),
        }
    }

    /// Ends the stream and gives the number of samples written: with them, the output is as long as the input.
    ///
    /// # Errors
    /// `output` is smaller than [`Self::room_to_finish`] says.
    pub(super) fn finish(mut self, output: &mut [f32]) -> Result<usize, ConversionError> {
        let tail = self.tail();
        let mut written = 0;
        while written < tail {
            self.pending.resize(self.block(), 0.0);
            written += self.convert_pending(&mut output[written..])?;
        }
        Ok(tail)
    }

    /// Samples of output that are missing for the input so far.
    fn tail(&self) -> usize {
        let (from, to) = (u128::from(self.from.get()), u128::from(self.to.get()));
        let total = (2 * u128::from(self.frames_in) * to + from) / (2 * from);
        let missing = total.saturating_sub(u128::from(self.frames_out));
        usize::try_from(missing).expect("what is missing is at most two blocks") * self.channels
    }

    /// Samples of one input block.
    fn block(&self) -> usize {
        self.filter.input_frames_next() * self.channels
    }

    fn convert_pending(&mut self, output: &mut [f32]) -> Result<usize, ConversionError> {
        let mut pending = std::mem::take(&mut self.pending);
        let written = self.convert(&pending, output);
        pending.clear();
        self.pending = pending;
        written
    }

    fn convert(&mut self, block: &[f32], output: &mut [f32]) -> Result<usize, ConversionError> {
        let filter = self.filter.as_mut();
        if self.lead == 0 {
            return Ok(run(filter, self.channels, block, output)? * self.channels);
        }
        let frames = run(filter, self.channels, block, &mut self.scratch)?;
        let dropped = self.lead.min(frames);
        self.lead -= dropped;
        let kept = &self.scratch[dropped * self.channels..frames * self.channels];
        output[..kept.len()].copy_from_slice(kept);
        Ok(kept.len())
    }
}

/// Filters one block and gives the number of frames written.
fn run(
    filter: &mut dyn Resampler<f32>,
    channels: usize,
    block: &[f32],
    output: &mut [f32],
) -> Result<usize, ConversionError> {
    let room = output.len() / channels;
    let input = InterleavedSlice::new(block, channels, block.len() / channels)?;
    let mut output = InterleavedSlice::new_mut(output, channels, room)?;
    let (_read, written) = filter.process_into_buffer(&input, &mut output, None)?;
    Ok(written)
}

// === impl Aligned ===

impl Aligned {
    fn fourier(
        from: SampleRate,
        to: SampleRate,
        channels: usize,
        frames: usize,
    ) -> Result<Self, ConversionError> {
        let (from, to) = (from.get() as usize, to.get() as usize);
        let filter = Fft::<f32>::new_custom(from, to, frames, 1, channels, WINDOW, FixedSync::Both)?;
        // The filter delays by half a block, which may be half a frame too. With another half in front it is a whole
        // block on both sides: the first block of output is dropped, and nothing is rounded.
        let lead_in = filter.fft_size_in() / 2;
        let lead_out = filter.fft_size_out();
        Ok(Self { filter: Box::new(filter), lead_in, lead_out })
    }

    fn interpolated(
        from: SampleRate,
        to: SampleRate,
        channels: usize,
        quality: Quality,
    ) -> Result<Self, ConversionError> {
        let stretch = from.get().div_ceil(to.get());
        let length = (quality.filter_frames() * stretch) as usize;
        let parameters = SincInterpolationParameters::new(length, WINDOW)
            .f_cutoff(calculate_cutoff(quality.filter_frames() as usize, WINDOW))
            .oversampling_factor((POINTS_PER_LOBE / stretch).max(1) as usize);
        let ratio = f64::from(to.get()) / f64::from(from.get());
        let filter = Async::<f32>::new_sinc(ratio, 1.0, &parameters, length, channels, FixedAsync::Input)?;
        let (lead_in, lead_out) = in_phase(length / 2, from, to);
        Ok(Self { filter: Box::new(filter), lead_in, lead_out })
    }
}

// === impl Quality ===

impl Quality {
    /// At the lower of both rates.
    const fn filter_frames(self) -> u32 {
        match self {
            Self::Low => 64,
            Self::Medium => 128,
            Self::High => 256,
        }
    }
}

/// Points of the interpolated filter between two of its zeros: a cubic is drawn between points, with 135 dB measured.
const POINTS_PER_LOBE: u32 = 128;

/// Input frames of a Fourier block: even, a multiple of the reduced rate, and long enough; none if that is too long.
fn fourier_block(from: SampleRate, to: SampleRate, quality: Quality) -> Option<usize> {
    let divisor = greatest_common_divisor(from.get(), to.get());
    let (reduced_in, reduced_out) = (from.get() / divisor, to.get() / divisor);
    let lower = reduced_in.min(reduced_out);
    let mut times = quality.filter_frames().div_ceil(lower);
    if reduced_in % 2 == 1 {
        times = times.next_multiple_of(2);
    }
    (times * lower <= MAX_FOURIER_FRAMES).then_some((times * reduced_in) as usize)
}

/// How many zeros to put in front so that a delay of `delay` input frames and them is as nearly as possible a whole
/// number of output frames: those two numbers.
fn in_phase(delay: usize, from: SampleRate, to: SampleRate) -> (usize, usize) {
    let (from, to) = (u64::from(from.get()), u64::from(to.get()));
    let off = |lead: &usize| {
        let past = (delay + lead) as u64 * to % from;
        past.min(from - past)
    };
    let lead_in = (0..delay).min_by_key(off).unwrap_or(0);
    let scaled = (delay + lead_in) as u64 * to;
    let lead_out = usize::try_from((scaled + from / 2) / from).expect("a delay fits into memory");
    // The filter steps before it writes: its first frame lies one frame after its begin.
    (lead_in, lead_out - 1)
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
