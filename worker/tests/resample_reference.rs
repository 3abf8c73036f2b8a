//! `AudioResample` beside SoX's resampler, which people trust. Its Python package comes from PyPI, once.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test stops where it goes wrong")]

use std::f64::consts::TAU;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use remotemedia_core::data::{Audio, ChannelCount, SampleRate};
use remotemedia_core::{Frame, RuntimeData};
use remotemedia_worker::Harness;
use remotemedia_worker::nodes::stock;

#[test]
fn the_output_is_that_of_soxr_within_the_rounding_of_floats() {
    for (from, to) in
        [(44_100, 16_000), (48_000, 16_000), (16_000, 48_000), (48_000, 44_100), (8_000, 22_050)]
    {
        let input = chords(from, from, 0.4 * f64::from(from.min(to)));
        let (ours, theirs) = (resample(from, to, &input), soxr(from, to, &input));
        assert_eq!(ours.len(), theirs.len(), "{from} Hz to {to} Hz");
        // At its ends a signal is cut off, and two filters smear that differently.
        let steady = ours.len() / 8..ours.len() * 7 / 8;
        let power =
            |samples: &mut dyn Iterator<Item = f64>| samples.map(|sample| sample * sample).sum::<f64>();
        let signal = power(&mut theirs[steady.clone()].iter().copied());
        let pairs = ours[steady.clone()].iter().zip(&theirs[steady]);
        let difference = power(&mut pairs.map(|(ours, theirs)| f64::from(*ours) - theirs));
        let decibels = 10.0 * (signal / difference).log10();
        println!("{from} Hz to {to} Hz: the difference is {decibels:.1} dB below the signal");
        assert!(decibels >= 80.0, "{from} Hz to {to} Hz: {decibels:.1} dB");
    }
}

/// Tones over the whole band below `highest`, at phases that do not meet.
fn chords(rate: u32, frames: u32, highest: f64) -> Vec<f64> {
    const TONES: u32 = 24;
    let tone = |at: u32, n: u32| {
        let frequency = highest * f64::from(n) / f64::from(TONES);
        (TAU * frequency * f64::from(at) / f64::from(rate) + f64::from(n * n)).sin() / f64::from(TONES)
    };
    (0..frames).map(|at| (1..=TONES).map(|n| tone(at, n)).sum()).collect()
}

fn resample(from: u32, to: u32, input: &[f64]) -> Vec<f32> {
    let params = serde_json::json!({ "target_sample_rate": to });
    let mut node = stock().create("AudioResample", params.as_object().unwrap()).unwrap();
    let floats = input.iter().map(|sample| *sample as f32).collect::<Vec<_>>();
    let audio = Audio::from_f32(&floats, SampleRate::new(from).unwrap(), ChannelCount::MONO).unwrap();
    let mut outputs = Harness::default().run(node.as_mut(), Frame::new(0, audio)).unwrap();
    outputs.extend(Harness::default().flush(node.as_mut()).unwrap());
    let samples = outputs.into_iter().flat_map(|output| {
        let RuntimeData::Audio(audio) = output.data else { panic!("audio gives audio") };
        audio.to_f32().into_owned()
    });
    samples.collect()
}

fn soxr(from: u32, to: u32, input: &[f64]) -> Vec<f64> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut python = Command::new("python3")
        .arg(root.join("scripts/soxr_reference.py"))
        .arg(root.join(".cache/python"))
        .args([from.to_string(), to.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there: scripts/quickstart installs it on Debian");
    let bytes = input.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<_>>();
    // It reads everything before it writes: dropping the pipe ends its input.
    python.stdin.take().unwrap().write_all(&bytes).unwrap();
    let mut output = Vec::new();
    python.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    assert!(python.wait().unwrap().success(), "python3 needs pip, and pip must reach PyPI: see above");
    output.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}
