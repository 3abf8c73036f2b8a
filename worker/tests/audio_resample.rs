//! What `AudioResample` promises, in numbers.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test stops where it goes wrong")]

use std::f64::consts::TAU;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;
use remotemedia_core::data::{Audio, ChannelCount, SampleFormat, SampleRate};
use remotemedia_core::node::{Node, Output};
use remotemedia_core::{Frame, RuntimeData};
use remotemedia_worker::Harness;
use remotemedia_worker::nodes::stock;

/// What sound cards, telephones and files have.
const COMMON: [u32; 11] =
    [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000];

/// Pairs that no short Fourier block fits.
const ODD: [(u32, u32); 3] = [(48_000, 47_952), (44_100, 16_001), (16_001, 44_100)];

/// Every common rate to every other, and the odd ones.
fn pairs() -> impl Iterator<Item = (u32, u32)> {
    let common = COMMON.into_iter().flat_map(|from| COMMON.map(|to| (from, to)));
    common.filter(|(from, to)| from != to).chain(ODD)
}

#[test]
fn a_second_of_44100_hz_becomes_exactly_16000_frames() {
    let second = mono(44_100, &sine(44_100, 44_100, 1_000.0));
    assert_eq!(resample(16_000, [second]).len(), 16_000);
}

#[test]
fn the_output_is_as_long_as_the_input_however_short() {
    for (from, to) in pairs() {
        for frames in [0_u32, 1, 2, 3, 100, 441, 882, 883, 5_000] {
            let output = resample(to, [mono(from, &vec![0.1; frames as usize])]);
            let exact = f64::from(frames) * f64::from(to) / f64::from(from);
            assert!((output.len() as f64 - exact).abs() <= 0.5, "{frames} frames of {from} Hz to {to} Hz");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_any_size_give_the_same_bits_as_the_whole(
        pair in select(pairs().collect::<Vec<_>>()),
        format in select(vec![SampleFormat::F32, SampleFormat::I16, SampleFormat::I32]),
        channels in 1..=8_u32,
        seed in 1..u64::MAX,
        cuts in vec(0..2_500_usize, 1..12),
    ) {
        let (from, to) = pair;
        let frames = cuts.iter().sum::<usize>();
        let mut dice = Dice(seed);
        let samples = (0..frames * channels as usize).map(|_| dice.noise()).collect::<Vec<_>>();
        let whole = run(&params(to), [stored(from, channels, format, &samples)]);
        let mut rest = samples.as_slice();
        let mut pieces = Vec::new();
        for frames in cuts {
            let (piece, tail) = rest.split_at(frames * channels as usize);
            pieces.push(stored(from, channels, format, piece));
            rest = tail;
        }
        let cut = run(&params(to), pieces);
        prop_assert_eq!((whole.format, whole.channels), (format, channels));
        let exact = frames as f64 * f64::from(to) / f64::from(from);
        prop_assert!((whole.frames() as f64 - exact).abs() <= 0.5, "{} frames", whole.frames());
        prop_assert!(cut == whole, "{from} Hz to {to} Hz");
    }
}

#[test]
fn a_sine_keeps_its_phase_and_level_and_gains_no_noise() {
    for (from, to) in pairs() {
        let input = sine(from, from / 4, 1_000.0);
        for format in [SampleFormat::F32, SampleFormat::I16, SampleFormat::I32] {
            // Full scale does not fit into integers.
            let scaled = input.iter().map(|sample| sample * 0.9).collect::<Vec<_>>();
            let output = run(&params(to), [stored(from, 1, format, &scaled)]).samples;
            let tone = Tone::fit(to, 1_000.0, steady(&output));
            let (snr, level, late) = (tone.snr_db(), tone.level_db() - decibels(0.81), tone.late_frames());
            assert!(snr >= 80.0, "{format}, {from} Hz to {to} Hz: SNR {snr:.1} dB");
            assert!(level.abs() <= 0.1, "{format}, {from} Hz to {to} Hz: level {level:.3} dB");
            assert!(late.abs() <= 0.05, "{format}, {from} Hz to {to} Hz: {late:.3} frames late");
        }
    }
}

#[test]
fn what_both_rates_can_carry_is_kept_as_far_as_the_quality_says() {
    for (quality, share) in [("low", 0.6), ("medium", 0.8), ("high", 0.9)] {
        for (from, to) in pairs() {
            let frequency = share / 2.0 * f64::from(from.min(to));
            let mut params = params(to);
            params["quality"] = quality.into();
            let output = run(&params, [mono(from, &sine(from, from / 4, frequency))]).samples;
            let level = Tone::fit(to, frequency, steady(&output)).level_db();
            assert!(level.abs() <= 0.1, "{quality}: {frequency} Hz of {from} Hz at {to} Hz: {level:.2} dB");
        }
    }
}

#[test]
fn what_the_target_rate_cannot_carry_does_not_come_back_as_an_alias() {
    for quality in ["low", "medium", "high"] {
        for (from, to) in pairs().filter(|(from, to)| from > to) {
            // From just above what the target carries to just below what the source does.
            for part in [0.01, 0.3, 0.6, 0.99] {
                let (lowest, highest) = (f64::from(to) / 2.0, f64::from(from) / 2.0);
                let frequency = lowest + part * (highest - lowest);
                let mut params = params(to);
                params["quality"] = quality.into();
                let output = run(&params, [mono(from, &sine(from, from / 4, frequency))]).samples;
                let level = decibels(power(steady(&output)) / 0.5);
                assert!(level <= -70.0, "{quality}: {frequency} Hz of {from} Hz at {to} Hz: {level:.1} dB");
            }
        }
    }
}

#[test]
fn what_the_source_rate_could_not_carry_is_not_invented() {
    for (from, to) in pairs().filter(|(from, to)| from < to) {
        // Its image would lie as far above half the source rate.
        let frequency = 0.4 * f64::from(from);
        let output = run(&params(to), [mono(from, &sine(from, from / 4, frequency))]).samples;
        let snr = Tone::fit(to, frequency, steady(&output)).snr_db();
        assert!(snr >= 80.0, "{frequency} Hz of {from} Hz at {to} Hz: SNR {snr:.1} dB");
    }
}

#[test]
fn borders_of_pieces_do_not_click() {
    let samples = sine(44_100, 44_100, 440.0);
    let pieces = samples.chunks(441).map(|piece| mono(44_100, piece)).collect::<Vec<_>>();
    let output = resample(16_000, pieces);
    let steepest = TAU * 440.0 / 16_000.0;
    for pair in steady(&output).windows(2) {
        assert!(f64::from(pair[1] - pair[0]).abs() <= steepest * 1.001);
    }
}

#[test]
fn every_channel_is_converted_as_if_alone() {
    for channels in 1..=8_u32 {
        let tones = (1..=channels).map(|n| sine(44_100, 4_410, 200.0 * f64::from(n))).collect::<Vec<_>>();
        let mixed = (0..4_410).flat_map(|at| tones.iter().map(move |tone| tone[at])).collect::<Vec<_>>();
        let together = resample(16_000, [floats(44_100, channels, &mixed)]);
        for (n, tone) in tones.iter().enumerate() {
            let alone = resample(16_000, [mono(44_100, tone)]);
            let channel = together.iter().skip(n).step_by(channels as usize).copied().collect::<Vec<_>>();
            assert!(channel == alone, "channel {n} of {channels}");
        }
    }
}

#[test]
fn every_channel_of_every_format_is_converted_alike() {
    let second = sine(44_100, 44_100, 300.0);
    let wide = second.iter().flat_map(|&sample| [sample * 0.5; 8]).collect::<Vec<_>>();
    for format in [SampleFormat::I16, SampleFormat::I32] {
        let output = run(&params(16_000), [stored(44_100, 8, format, &wide)]);
        assert_eq!((output.frames(), output.format, output.channels), (16_000, format, 8));
        assert!(output.samples.chunks_exact(8).all(|frame| frame.iter().all(|sample| *sample == frame[0])));
    }
}

#[test]
fn the_output_has_the_format_of_the_input_unless_another_is_asked_for() {
    let i16s = sine(44_100, 4_410, 300.0).iter().map(|s| (s * 30_000.0) as i16).collect::<Vec<_>>();
    let as_floats = i16s.iter().map(|&s| f32::from(s) / 32_768.0).collect::<Vec<_>>();
    let formats = [SampleFormat::F32, SampleFormat::I16, SampleFormat::I32];
    let floats = run(&params(16_000), [mono(44_100, &as_floats)]);
    for (format, asked) in formats.into_iter().flat_map(|format| formats.map(|asked| (format, asked))) {
        let input = || [stored(44_100, 1, format, &as_floats)];
        assert_eq!(run(&params(16_000), input()).format, format);
        let mut params = params(16_000);
        params["output_format"] = asked.to_string().into();
        let output = run(&params, input());
        assert_eq!((output.format, output.frames()), (asked, 1_600));
        let widest =
            output.samples.iter().zip(&floats.samples).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(widest <= 0.5 / 32_768.0, "{format} as {asked}: {widest:e} off");
    }
}

#[test]
fn integers_saturate_instead_of_wrapping_round() {
    // A filtered square wave overshoots its full scale.
    let square = (0..44_100).map(|at| if at % 100 < 50 { 1.0 } else { -1.0 }).collect::<Vec<_>>();
    let floats = run(&params(16_000), [mono(44_100, &square)]).samples;
    assert!(floats.iter().any(|sample| *sample > 1.05));
    for format in [SampleFormat::I16, SampleFormat::I32] {
        let output = run(&params(16_000), [stored(44_100, 1, format, &square)]).samples;
        for (integer, float) in output.iter().zip(&floats) {
            assert!((integer - float.clamp(-1.0, 1.0)).abs() < 1e-3, "{format}: {float} became {integer}");
        }
    }
}

#[test]
fn equal_rates_forward_by_reference_unless_the_format_changes() {
    for format in [SampleFormat::F32, SampleFormat::I16, SampleFormat::I32] {
        let mut node = node(&params(16_000));
        let input = stored(16_000, 1, format, &[0.5; 64]);
        let sent = input.samples().as_ptr();
        let outputs = Harness::default().run(node.as_mut(), Frame::new(0, input)).unwrap();
        assert_eq!(outputs[0].data.payload().as_ptr(), sent);
    }
    let mut params = params(16_000);
    params["output_format"] = "f32".into();
    let output = run(&params, [stored(16_000, 1, SampleFormat::I16, &[0.5])]);
    assert_eq!((output.samples.as_slice(), output.format), ([0.5].as_slice(), SampleFormat::F32));
}

#[test]
fn input_that_is_not_what_the_parameters_say_is_refused() {
    let check = |name: &str, value: u32, expect: &str| {
        let mut params = params(16_000);
        params[name] = value.into();
        let frame = Frame::new(0, mono(44_100, &[0.0]));
        let error = Harness::default().run(node(&params).as_mut(), frame).unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    check(
        "source_rate",
        48_000,
        "expects audio of 48000 Hz, as its source_rate says, got 44100 Hz: leave source_rate out to take any rate",
    );
    check(
        "channels",
        2,
        "expects audio of 2 channels, as its channels say, got 1: leave channels out to take any number",
    );
    let known = serde_json::json!({ "source_rate": 44_100, "target_rate": 16_000, "quality": "Medium", "channels": 1 });
    assert_eq!(run(&known, [mono(44_100, &[0.0; 44_100])]).frames(), 16_000);
}

#[test]
fn another_rate_in_mid_stream_ends_the_old_stream_and_begins_a_new_one() {
    let (a, b) = (mono(44_100, &sine(44_100, 4_410, 500.0)), mono(48_000, &sine(48_000, 4_800, 500.0)));
    let apart = [resample(16_000, [a.clone()]), resample(16_000, [b.clone()])].concat();
    assert_eq!(apart.len(), 3_200);
    assert!(resample(16_000, [a, b]) == apart);
}

#[test]
fn what_is_no_number_is_refused_with_its_place() {
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-2e9, "-2000000000")] {
        let mut samples = vec![0.0; 8_820];
        samples[1_000] = bad;
        let frame = Frame::new(0, mono(44_100, &samples));
        let error = Harness::default().run(node(&params(16_000)).as_mut(), frame).unwrap_err();
        let expect = format!(
            "sample 1000 (of all channels) is {shown}: float samples are numbers with full scale at ±1.0, and at most ±1e9"
        );
        assert_eq!(error.to_string(), expect);
    }
}

#[test]
fn overloaded_samples_are_converted_all_the_same() {
    let output = resample(16_000, [mono(44_100, &vec![1e9; 8_820])]);
    assert!((steady(&output)[0] / 1e9 - 1.0).abs() < 1e-3);
}

#[test]
fn output_carries_the_time_and_metadata_of_what_it_came_from() {
    let mut node = node(&params(16_000));
    let mut times = Vec::new();
    for at in 0..5_u32 {
        let mut frame = Frame::new(u64::from(at), mono(44_100, &[0.0; 4_410]));
        frame.timestamp_us = Some(7_000_000 + u64::from(at) * 100_000);
        frame.metadata.insert("piece".to_owned(), at.to_string());
        for output in Harness::default().run(node.as_mut(), frame).unwrap() {
            assert_eq!(output.metadata["piece"], at.to_string());
            times.push((output.timestamp_us.unwrap(), samples(&[output]).len()));
        }
    }
    let tail = Harness::default().flush(node.as_mut()).unwrap().remove(0);
    times.push((tail.timestamp_us.unwrap(), samples(&[tail]).len()));
    let mut frames = 0;
    for (timestamp_us, len) in times {
        let exact = 7_000_000.0 + frames as f64 * 1e6 / 16_000.0;
        assert!((timestamp_us as f64 - exact).abs() <= 2.0, "{timestamp_us} us after {frames} frames");
        frames += len;
    }
    assert_eq!(frames, 8_000);
}

#[test]
fn a_parameter_out_of_range_is_named_with_what_is_allowed() {
    let check = |params: serde_json::Value, expect: &str| {
        let error = stock().create("AudioResample", &serde_json::from_value(params).unwrap()).err().unwrap();
        assert_eq!(error.to_string(), expect);
    };
    let allowed = "integer, 1 to 768000 (Hz)";
    for value in ["0", "768001", "-1", "16000.5", "\"16000\"", "null"] {
        let json: serde_json::Value = serde_json::from_str(value).unwrap();
        for name in ["target_sample_rate", "target_rate"] {
            check(
                serde_json::json!({ name: json }),
                &format!("parameter '{name}' is {value}: allowed is {allowed}"),
            );
        }
    }
    check(serde_json::json!({}), &format!("parameter 'target_sample_rate' is missing: allowed is {allowed}"));
    check(
        serde_json::json!({ "target_rate": 1, "quality": "best" }),
        "parameter 'quality' is \"best\": allowed is low, medium, high",
    );
    check(
        serde_json::json!({ "target_rat": 1 }),
        "unknown parameter 'target_rat' = 1: there are target_sample_rate, source_rate, channels, quality, output_format; did you mean 'target_rate'?",
    );
}

#[test]
fn rates_too_far_apart_are_refused_with_the_way_out() {
    let error =
        Harness::default().run(node(&params(8)).as_mut(), Frame::new(0, mono(44_100, &[0.0]))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot resample 44100 Hz to 8 Hz: one rate may be 256 times the other at most, so put two AudioResample nodes in a row"
    );
}

#[test]
fn other_kinds_are_refused() {
    let frame = Frame::new(0, remotemedia_core::Text::from("hello"));
    let error = Harness::default().run(node(&params(16_000)).as_mut(), frame).unwrap_err();
    assert_eq!(error.to_string(), "expects audio, got text");
}

#[test]
fn output_that_fits_no_block_is_an_error_of_the_loan() {
    let harness = Harness::default().with_largest_loan(1_000);
    let error =
        harness.run(node(&params(16_000)).as_mut(), Frame::new(0, mono(44_100, &[0.0; 44_100]))).unwrap_err();
    assert!(error.to_string().contains("do not fit into the largest block"), "{error}");
}

/// A tone of a known frequency in a signal: its sine and cosine parts, and the power of all else.
struct Tone {
    rate: u32,
    frequency: f64,
    sine: f64,
    cosine: f64,
    noise: f64,
}

impl Tone {
    /// `signal` is (frame of the first sample, samples). Least squares, so that windows need not be whole periods.
    fn fit(rate: u32, frequency: f64, signal: Steady<'_>) -> Self {
        let basis = |at: usize| (TAU * frequency * (signal.first + at) as f64 / f64::from(rate)).sin_cos();
        let (mut ss, mut sc, mut cc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (at, &x) in signal.iter().enumerate() {
            let (s, c) = basis(at);
            ss += s * s;
            sc += s * c;
            cc += c * c;
            xs += f64::from(x) * s;
            xc += f64::from(x) * c;
        }
        let det = ss * cc - sc * sc;
        let (sine, cosine) = ((xs * cc - xc * sc) / det, (xc * ss - xs * sc) / det);
        let rest = signal.iter().enumerate().map(|(at, &x)| {
            let (s, c) = basis(at);
            (f64::from(x) - sine * s - cosine * c).powi(2)
        });
        let noise = rest.sum::<f64>() / signal.len() as f64;
        Self { rate, frequency, sine, cosine, noise }
    }

    fn snr_db(&self) -> f64 {
        decibels((self.sine.powi(2) + self.cosine.powi(2)) / 2.0 / self.noise)
    }

    fn level_db(&self) -> f64 {
        decibels(self.sine.powi(2) + self.cosine.powi(2))
    }

    fn late_frames(&self) -> f64 {
        -self.cosine.atan2(self.sine) / TAU * f64::from(self.rate) / self.frequency
    }
}

/// The middle of a signal, where the filter is not running in or out.
#[derive(Clone, Copy)]
struct Steady<'a> {
    first: usize,
    samples: &'a [f32],
}

impl std::ops::Deref for Steady<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.samples
    }
}

fn steady(output: &[f32]) -> Steady<'_> {
    let first = output.len() / 4;
    Steady { first, samples: &output[first..output.len() - first] }
}

fn power(samples: Steady<'_>) -> f64 {
    samples.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / samples.len() as f64
}

fn decibels(power: f64) -> f64 {
    10.0 * power.log10()
}

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn noise(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn params(target: u32) -> serde_json::Value {
    serde_json::json!({ "target_sample_rate": target })
}

fn node(params: &serde_json::Value) -> Box<dyn Node> {
    stock().create("AudioResample", params.as_object().unwrap()).unwrap()
}

/// Everything that came of one stream, as floats.
#[derive(Clone, PartialEq, Debug)]
struct Resampled {
    samples: Vec<f32>,
    format: SampleFormat,
    channels: u32,
}

impl Resampled {
    fn frames(&self) -> usize {
        self.samples.len() / self.channels as usize
    }
}

/// What comes of `pieces`, which are of one shape, and a flush.
fn run(params: &serde_json::Value, pieces: impl IntoIterator<Item = Audio>) -> Resampled {
    let harness = Harness::default();
    let mut node = node(params);
    let mut outputs = Vec::new();
    let mut shape = None;
    for (sequence, piece) in pieces.into_iter().enumerate() {
        shape = Some((piece.format(), piece.channels().get()));
        outputs.extend(harness.run(node.as_mut(), Frame::new(sequence as u64, piece)).unwrap());
    }
    outputs.extend(harness.flush(node.as_mut()).unwrap());
    let (mut format, mut channels) = shape.expect("a stream has pieces");
    let mut samples = Vec::new();
    for output in outputs {
        let RuntimeData::Audio(audio) = output.data else { panic!("audio gives audio") };
        (format, channels) = (audio.format(), audio.channels().get());
        samples.extend_from_slice(&audio.to_f32());
    }
    Resampled { samples, format, channels }
}

/// The samples of everything that comes of `pieces` and a flush.
fn resample(target: u32, pieces: impl IntoIterator<Item = Audio>) -> Vec<f32> {
    run(&params(target), pieces).samples
}

fn samples(outputs: &[Output]) -> Vec<f32> {
    let bytes = outputs.iter().flat_map(|output| output.data.payload().as_chunks::<4>().0);
    bytes.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn sine(rate: u32, frames: u32, frequency: f64) -> Vec<f32> {
    (0..frames).map(|at| (TAU * frequency * f64::from(at) / f64::from(rate)).sin() as f32).collect()
}

fn mono(rate: u32, samples: &[f32]) -> Audio {
    floats(rate, 1, samples)
}

/// Samples in a format, rounded and saturated.
fn stored(rate: u32, channels: u32, format: SampleFormat, samples: &[f32]) -> Audio {
    let bytes = |sample: &f32| match format {
        SampleFormat::F32 => sample.to_le_bytes().to_vec(),
        SampleFormat::I16 => ((sample * 32_768.0).round() as i16).to_le_bytes().to_vec(),
        SampleFormat::I32 => ((f64::from(*sample) * 2_147_483_648.0).round() as i32).to_le_bytes().to_vec(),
    };
    audio(samples.iter().flat_map(bytes).collect(), format, rate, channels)
}

fn floats(rate: u32, channels: u32, samples: &[f32]) -> Audio {
    let bytes = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    audio(bytes, SampleFormat::F32, rate, channels)
}

fn audio(bytes: Vec<u8>, format: SampleFormat, rate: u32, channels: u32) -> Audio {
    let (rate, channels) = (SampleRate::new(rate).unwrap(), ChannelCount::new(channels).unwrap());
    Audio::new(Bytes::from(bytes), format, rate, channels).unwrap()
}
