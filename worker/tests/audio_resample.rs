//! What `AudioResample` promises, in numbers.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test stops where it goes wrong")]

use std::f64::consts::TAU;

use bytes::Bytes;
use remotemedia_core::data::{Audio, ChannelCount, SampleFormat, SampleRate};
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, Output};
use remotemedia_core::{Frame, RuntimeData};
use remotemedia_worker::Harness;
use remotemedia_worker::nodes::stock;

/// Common pairs, and some that no short Fourier block fits.
const RATES: [(u32, u32); 12] = [
    (44_100, 16_000),
    (48_000, 16_000),
    (16_000, 48_000),
    (8_000, 16_000),
    (44_100, 48_000),
    (48_000, 44_100),
    (22_050, 16_000),
    (11_025, 8_000),
    (192_000, 8_000),
    (48_000, 47_952),
    (44_100, 16_001),
    (16_001, 44_100),
];

#[test]
fn a_second_of_44100_hz_becomes_exactly_16000_frames() {
    let second = mono(44_100, &sine(44_100, 44_100, 1_000.0));
    assert_eq!(resample(16_000, [second]).len(), 16_000);
}

#[test]
fn the_output_is_as_long_as_the_input_however_short() {
    for (from, to) in RATES {
        for frames in [0_u32, 1, 2, 3, 100, 441, 882, 883, 5_000] {
            let output = resample(to, [mono(from, &vec![0.1; frames as usize])]);
            let exact = f64::from(frames) * f64::from(to) / f64::from(from);
            assert!((output.len() as f64 - exact).abs() <= 0.5, "{frames} frames of {from} Hz to {to} Hz");
        }
    }
}

#[test]
fn pieces_of_any_size_give_the_same_bits_as_the_whole() {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut dice = Dice(u64::from(seed) | 1);
    for (from, to) in RATES {
        let samples = (0..6_000).map(|_| dice.noise()).collect::<Vec<_>>();
        let whole = resample(to, [stereo(from, &samples)]);
        let mut pieces = Vec::new();
        let mut rest = samples.as_slice();
        while !rest.is_empty() {
            let frames = [0, 1, 2, 160, 882, 2_000][dice.below(6)].min(rest.len() / 2);
            let (piece, tail) = rest.split_at(2 * frames);
            pieces.push(stereo(from, piece));
            rest = tail;
        }
        assert!(resample(to, pieces) == whole, "{from} Hz to {to} Hz, seed {seed}");
    }
}

#[test]
fn a_sine_keeps_its_phase_and_level_and_gains_no_noise() {
    for (from, to) in RATES {
        let output = resample(to, [mono(from, &sine(from, from / 4, 1_000.0))]);
        let tone = Tone::fit(to, 1_000.0, steady(&output));
        assert!(tone.snr_db() >= 80.0, "{from} Hz to {to} Hz: SNR {:.1} dB", tone.snr_db());
        assert!(tone.level_db().abs() <= 0.1, "{from} Hz to {to} Hz: level {:.3} dB", tone.level_db());
        let late = tone.late_frames();
        assert!(late.abs() <= 0.05, "{from} Hz to {to} Hz: {late:.3} frames late");
    }
}

#[test]
fn what_both_rates_can_carry_is_kept_up_to_nine_tenths() {
    for (from, to) in RATES {
        let frequency = 0.45 * f64::from(from.min(to));
        let output = resample(to, [mono(from, &sine(from, from / 4, frequency))]);
        let level = Tone::fit(to, frequency, steady(&output)).level_db();
        assert!(level.abs() <= 0.1, "{frequency} Hz of {from} Hz at {to} Hz: {level:.2} dB");
    }
}

#[test]
fn what_the_target_rate_cannot_carry_does_not_come_back_as_an_alias() {
    for (from, to, frequency) in [
        (44_100, 16_000, 8_100.0),
        (44_100, 16_000, 10_000.0),
        (44_100, 16_000, 15_000.0),
        (44_100, 16_001, 10_000.0),
        (192_000, 8_000, 5_000.0),
        (48_000, 44_100, 22_500.0),
    ] {
        let output = resample(to, [mono(from, &sine(from, from / 4, frequency))]);
        let level = decibels(power(steady(&output)) / 0.5);
        assert!(level <= -70.0, "{frequency} Hz of {from} Hz at {to} Hz: {level:.1} dB");
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
fn integers_become_the_same_floats() {
    let i16s = sine(44_100, 4_410, 300.0).iter().map(|s| (s * 32_767.0) as i16).collect::<Vec<_>>();
    let as_floats = i16s.iter().map(|&s| f32::from(s) / 32_768.0).collect::<Vec<_>>();
    let as_i16 = i16s.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>();
    let as_i32 = i16s.iter().flat_map(|&s| (i32::from(s) << 16).to_le_bytes()).collect::<Vec<_>>();
    let expect = resample(16_000, [mono(44_100, &as_floats)]);
    assert!(resample(16_000, [audio(as_i16, SampleFormat::I16, 44_100, 1)]) == expect);
    assert!(resample(16_000, [audio(as_i32, SampleFormat::I32, 44_100, 1)]) == expect);
}

#[test]
fn equal_rates_forward_floats_by_reference_and_turn_integers_into_them() {
    let mut node = node(16_000);
    let input = mono(16_000, &[0.5; 64]);
    let sent = input.samples().as_ptr();
    let outputs = Harness::default().run(node.as_mut(), Frame::new(0, input)).unwrap();
    assert_eq!(outputs[0].data.payload().as_ptr(), sent);
    let i16s = audio(0x4000_i16.to_le_bytes().to_vec(), SampleFormat::I16, 16_000, 1);
    assert_eq!(resample(16_000, [i16s]), [0.5]);
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
        let error = Harness::default().run(node(16_000).as_mut(), frame).unwrap_err();
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
    let mut node = node(16_000);
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
        let serde_json::Value::Object(params) = params else { unreachable!("params are an object") };
        let error = stock().create("AudioResample", &params).err().unwrap();
        assert_eq!(error.to_string(), expect);
    };
    let allowed = "integer, 1 to 768000 (Hz)";
    for value in ["0", "768001", "-1", "16000.5", "\"16000\"", "null"] {
        let json = serde_json::from_str(value).unwrap();
        let params = serde_json::Map::from_iter([("target_sample_rate".to_owned(), json)]);
        check(params.into(), &format!("parameter 'target_sample_rate' is {value}: allowed is {allowed}"));
    }
    check(
        serde_json::json!({}),
        &format!("params: parameter 'target_sample_rate' is missing: allowed is {allowed}"),
    );
    check(serde_json::json!({ "rate": 1 }), "params: unknown parameter 'rate': there are target_sample_rate");
}

#[test]
fn rates_too_far_apart_are_refused_with_the_way_out() {
    let error = Harness::default().run(node(8).as_mut(), Frame::new(0, mono(44_100, &[0.0]))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot resample 44100 Hz to 8 Hz: one rate may be 256 times the other at most, so put two AudioResample nodes in a row"
    );
}

#[test]
fn other_kinds_are_refused() {
    let frame = Frame::new(0, remotemedia_core::Text::from("hello"));
    let error = Harness::default().run(node(16_000).as_mut(), frame).unwrap_err();
    assert_eq!(error.to_string(), "expects audio, got text");
}

#[test]
fn output_that_fits_no_block_is_an_error_of_the_loan() {
    let harness = Harness::default().with_largest_loan(1_000);
    let error = harness.run(node(16_000).as_mut(), Frame::new(0, mono(44_100, &[0.0; 44_100]))).unwrap_err();
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

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 32) as usize % bound
    }

    fn noise(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn node(target: u32) -> Box<dyn Node> {
    let params = Params::from_iter([("target_sample_rate".to_owned(), target.into())]);
    stock().create("AudioResample", &params).unwrap()
}

/// The samples of everything that comes of `pieces` and a flush.
fn resample(target: u32, pieces: impl IntoIterator<Item = Audio>) -> Vec<f32> {
    let harness = Harness::default();
    let mut node = node(target);
    let mut outputs = Vec::new();
    for (sequence, piece) in pieces.into_iter().enumerate() {
        outputs.extend(harness.run(node.as_mut(), Frame::new(sequence as u64, piece)).unwrap());
    }
    outputs.extend(harness.flush(node.as_mut()).unwrap());
    for output in &outputs {
        let RuntimeData::Audio(audio) = &output.data else { panic!("audio gives audio") };
        assert_eq!((audio.rate().get(), audio.format()), (target, SampleFormat::F32));
    }
    samples(&outputs)
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

fn stereo(rate: u32, samples: &[f32]) -> Audio {
    floats(rate, 2, samples)
}

fn floats(rate: u32, channels: u32, samples: &[f32]) -> Audio {
    let bytes = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    audio(bytes, SampleFormat::F32, rate, channels)
}

fn audio(bytes: Vec<u8>, format: SampleFormat, rate: u32, channels: u32) -> Audio {
    let (rate, channels) = (SampleRate::new(rate).unwrap(), ChannelCount::new(channels).unwrap());
    Audio::new(Bytes::from(bytes), format, rate, channels).unwrap()
}
