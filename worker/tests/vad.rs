//! What `VAD` promises, as far as made-up sounds can show it.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test stops where it goes wrong"
)]

use std::f64::consts::TAU;

use bytes::Bytes;
use remotemedia_core::data::{Audio, ChannelCount, SampleFormat, SampleRate};
use remotemedia_core::manifest::Params;
use remotemedia_core::node::{Node, Output};
use remotemedia_core::{Frame, RuntimeData};
use remotemedia_worker::Harness;
use remotemedia_worker::nodes::{SpeechReport, stock};

#[test]
fn silence_and_steady_tones_and_faint_noise_are_no_speech() {
    let mut dice = 1_u64;
    let mut noise = move || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let tone = |at: usize| (at as f32 * 0.2).sin() * 0.3;
    for (name, samples) in [
        ("silence", vec![0.0; 48_000]),
        ("tone", (0..48_000).map(tone).collect()),
        ("noise", (0..48_000).map(|_| noise() * 0.001).collect::<Vec<f32>>()),
    ] {
        let reports = detect(node(serde_json::json!({})), &[mono(&samples)]);
        for report in &reports {
            assert!(!report.has_speech && report.segments.is_empty(), "{name}: {report:?}");
            assert!((0.0..=1.0).contains(&report.confidence), "{name}: {report:?}");
        }
        assert_eq!(reports.iter().map(|report| report.time_s).collect::<Vec<_>>(), [3.0, 3.0]);
        assert_eq!(reports.iter().map(|report| report.r#final).collect::<Vec<_>>(), [false, true]);
    }
}

#[test]
fn what_is_taken_for_speech_though_nobody_speaks_is_what_the_page_says() {
    let page = include_str!("../../docs/nodes/vad.md");
    let mut table = String::from("| 10 s of | taken for speech |\n| --- | --- |\n");
    for (name, samples) in sounds() {
        let report = detect(node(serde_json::json!({})), &[mono(&samples)]).pop().unwrap();
        let seconds =
            report.segments.iter().map(|segment| segment.end_s - segment.start_s).sum::<f64>() + 0.0;
        table.push_str(&format!("| {name} | {seconds:.1} s |\n"));
    }
    assert!(page.contains(&table), "docs/nodes/vad.md is to say:\n\n{table}");
}

/// Ten seconds each of what is no speech; levels are of peaks.
fn sounds() -> Vec<(&'static str, Vec<f32>)> {
    const SECOND: usize = 16_000;
    let sound = |sample: &mut dyn FnMut(f64) -> f64| {
        (0..10 * SECOND).map(|at| sample(at as f64 / SECOND as f64) as f32).collect::<Vec<_>>()
    };
    let scaled =
        |samples: &[f32], factor: f32| samples.iter().map(|sample| sample * factor).collect::<Vec<_>>();
    let mut dice = 1_u64;
    let mut noise = move || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let white = sound(&mut |_| noise());
    // Three low passes, an octave and a half apart, fall by about 3 dB an octave.
    let mut poles = [0.0; 3];
    let pink = white.iter().map(|&sample| {
        for (pole, (keep, gain)) in poles.iter_mut().zip([(0.997, 0.1), (0.963, 0.3), (0.57, 1.05)]) {
            *pole = *pole * keep + f64::from(sample) * gain;
        }
        (poles.iter().sum::<f64>() / 4.0) as f32
    });
    let pink = pink.collect::<Vec<_>>();
    let tone = |hz: f64| sound(&mut |s| 0.5 * (TAU * hz * s).sin());
    let harmonics =
        |hz: f64, s: f64| (1..8).map(|n| (TAU * hz * f64::from(n) * s).sin() / f64::from(n)).sum::<f64>();
    let chords = [[261.6, 329.6, 392.0], [220.0, 261.6, 329.6], [174.6, 220.0, 261.6], [196.0, 246.9, 293.7]];
    let chord = |s: f64, decay: f64| {
        let beat = (s * 2.0).floor();
        let notes = chords[beat as usize % 4].iter().map(|hz| harmonics(*hz, s)).sum::<f64>();
        0.15 * notes * (-decay * (s - beat / 2.0)).exp()
    };
    vec![
        ("white noise, 0 dBFS", white.clone()),
        ("white noise, -20 dBFS", scaled(&white, 0.1)),
        ("white noise, -60 dBFS", scaled(&white, 0.001)),
        ("pink noise, 0 dBFS", pink.clone()),
        ("pink noise, -20 dBFS", scaled(&pink, 0.1)),
        ("a sine of 100 Hz", tone(100.0)),
        ("a sine of 220 Hz", tone(220.0)),
        ("a sine of 440 Hz", tone(440.0)),
        ("a sine of 1000 Hz", tone(1_000.0)),
        ("a square wave of 200 Hz", sound(&mut |s| 0.5 * (TAU * 200.0 * s).sin().signum())),
        (
            "a sine that rises from 100 to 3900 Hz",
            sound(&mut |s| 0.5 * (TAU * (100.0 * s + 190.0 * s * s)).sin()),
        ),
        ("plucked chords", sound(&mut |s| chord(s, 4.0))),
        ("organ chords", sound(&mut |s| chord(s, 0.0))),
        (
            "drum beats of 60 Hz",
            sound(&mut |s| 0.8 * (TAU * 60.0 * s).sin() * (-20.0 * (s * 2.0).fract()).exp()),
        ),
    ]
}

#[test]
fn every_input_is_answered_however_short() {
    let pieces = [0, 1, 255, 1, 4_000].map(|frames| mono(&vec![0.0; frames]));
    let reports = detect(node(serde_json::json!({})), &pieces);
    let times = reports.iter().map(|report| report.time_s * 16_000.0).collect::<Vec<_>>();
    assert_eq!(times, [0.0, 1.0, 256.0, 257.0, 4_257.0, 4_257.0]);
}

#[test]
fn a_segment_is_open_until_the_final_report_closes_it() {
    let reports = detect(node(everything_is_speech()), &[mono(&vec![0.0; 8_000]), mono(&vec![0.0; 8_000])]);
    let shown = reports.iter().map(|report| {
        let [segment] = report.segments.as_slice() else { panic!("one segment, got {report:?}") };
        assert!(report.has_speech);
        (segment.start_s, segment.end_s, segment.open)
    });
    assert_eq!(shown.collect::<Vec<_>>(), [(0.0, 0.496, true), (0.0, 0.992, true), (0.0, 1.0, false)]);
}

#[test]
fn a_report_is_spelt_as_documented() {
    let mut node = node(everything_is_speech());
    let frame = Frame::new(0, mono(&vec![0.0; 8_000]));
    let output = Harness::default().run(node.as_mut(), frame).unwrap().remove(0);
    let text = String::from_utf8(output.data.payload().to_vec()).unwrap();
    let confidence = report(&output).confidence;
    assert_eq!(
        text,
        format!(
            r#"{{"has_speech":true,"confidence":{confidence:?},"segments":[{{"start_s":0.0,"end_s":0.496,"open":true}}],"time_s":0.5,"final":false}}"#
        )
    );
}

#[test]
fn pieces_of_any_size_give_the_same_final_report_as_the_whole() {
    let samples = (0..40_000).map(|at| ((at * at % 977) as f32 / 977.0 - 0.5) * 0.4).collect::<Vec<_>>();
    let last = |pieces: &[Audio]| detect(node(serde_json::json!({})), pieces).pop().unwrap();
    let whole = last(&[mono(&samples)]);
    for size in [1_000, 256, 255, 77] {
        let pieces = samples.chunks(size).map(mono).collect::<Vec<_>>();
        assert_eq!(last(&pieces), whole, "pieces of {size}");
    }
}

#[test]
fn channels_are_mixed_down() {
    let opposite = (0..32_000).flat_map(|at| [1.0, -1.0].map(|sign| sign * (at as f32).sin()));
    let stereo = audio(&opposite.collect::<Vec<_>>(), 16_000, 2);
    let silence = mono(&vec![0.0; 32_000]);
    assert_eq!(
        detect(node(serde_json::json!({})), &[stereo]),
        detect(node(serde_json::json!({})), &[silence])
    );
}

#[test]
fn overload_is_taken_for_full_scale() {
    let loud = (0..16_000).map(|at| if at % 80 < 40 { 1e6 } else { -1e6 }).collect::<Vec<_>>();
    let clipped = loud.iter().map(|sample: &f32| sample.signum()).collect::<Vec<_>>();
    assert_eq!(
        detect(node(serde_json::json!({})), &[mono(&loud)]),
        detect(node(serde_json::json!({})), &[mono(&clipped)])
    );
}

#[test]
fn another_rate_is_refused_with_the_way_out() {
    let frame = Frame::new(0, audio(&[0.0; 441], 44_100, 1));
    let error = Harness::default().run(node(serde_json::json!({})).as_mut(), frame).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expects audio of 16000 Hz, got 44100 Hz: put an AudioResample with target_sample_rate 16000 in front"
    );
}

#[test]
fn what_is_no_number_is_refused() {
    let frame = Frame::new(0, mono(&[0.0, f32::NAN]));
    let error = Harness::default().run(node(serde_json::json!({})).as_mut(), frame).unwrap_err();
    assert!(error.to_string().starts_with("sample 1 (of all channels) is NaN"), "{error}");
}

#[test]
fn a_parameter_out_of_range_is_named_with_what_is_allowed() {
    let check = |params: serde_json::Value, expect: &str| {
        let error = stock().create("VAD", &object(params)).err().unwrap();
        assert_eq!(error.to_string(), expect);
    };
    check(serde_json::json!({ "threshold": 1.5 }), "parameter 'threshold' is 1.5: allowed is number, 0 to 1");
    check(
        serde_json::json!({ "min_speech_ms": -1 }),
        "parameter 'min_speech_ms' is -1: allowed is integer, 0 to 10000 (ms)",
    );
    check(
        serde_json::json!({ "min_silence_ms": 100, "pad_ms": 101 }),
        "parameter 'pad_ms' is 101: allowed is integer, 0 to min_silence_ms, 100 (ms)",
    );
    check(
        serde_json::json!({ "treshold": 0.5 }),
        "unknown parameter 'treshold' = 0.5: there are threshold, min_speech_ms, min_silence_ms, pad_ms, sample_rate, frame_duration_ms, energy_threshold; did you mean 'threshold'?",
    );
}

fn everything_is_speech() -> serde_json::Value {
    serde_json::json!({ "threshold": 0 })
}

fn node(params: serde_json::Value) -> Box<dyn Node> {
    stock().create("VAD", &object(params)).unwrap()
}

fn object(params: serde_json::Value) -> Params {
    serde_json::from_value(params).unwrap()
}

/// The reports on `pieces`, and the final one.
fn detect(mut node: Box<dyn Node>, pieces: &[Audio]) -> Vec<SpeechReport> {
    let harness = Harness::default();
    let mut outputs = Vec::new();
    for (sequence, piece) in pieces.iter().enumerate() {
        outputs.extend(harness.run(node.as_mut(), Frame::new(sequence as u64, piece.clone())).unwrap());
    }
    outputs.extend(harness.flush(node.as_mut()).unwrap());
    outputs.iter().map(report).collect()
}

fn report(output: &Output) -> SpeechReport {
    let RuntimeData::Json(json) = &output.data else { panic!("VAD gives JSON") };
    json.parse().unwrap()
}

fn mono(samples: &[f32]) -> Audio {
    audio(samples, 16_000, 1)
}

fn audio(samples: &[f32], rate: u32, channels: u32) -> Audio {
    let bytes = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<_>>();
    let (rate, channels) = (SampleRate::new(rate).unwrap(), ChannelCount::new(channels).unwrap());
    Audio::new(Bytes::from(bytes), SampleFormat::F32, rate, channels).unwrap()
}
