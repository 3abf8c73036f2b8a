"""The Silero node, where its extra is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from remotemedia import Audio, Json
from remotemedia.testing import Trial

for needed in ("onnxruntime", "silero_vad"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)

from remotemedia.nodes.silero_vad import FRAME, SAMPLE_RATE, Segmenter, SileroVAD


def report(given: list[Any]) -> dict[str, Any]:
    [data] = given
    assert isinstance(data, Json)
    return data.value


def test_segments_begin_and_end_with_speech_and_pauses_within_are_kept() -> None:
    segmenter = Segmenter(threshold=0.5, min_speech=2 * FRAME, min_silence=3 * FRAME, pad=0)
    for score in [0.1, 0.6, 0.4, 0.9, 0.1, 0.1, 0.6, 0.1, 0.1, 0.1, 0.1, 0.6, 0.1, 0.1, 0.1]:
        segmenter.score(score)
    assert [(segment.start // FRAME, segment.end // FRAME) for segment in segmenter.closed] == [(1, 7)]
    assert segmenter.open is None


def test_silence_is_no_speech_and_pieces_of_any_size_are_heard_alike() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, SAMPLE_RATE).astype(np.float32)
    finals: list[dict[str, Any]] = []
    for size in (100, 512, SAMPLE_RATE):
        with Trial(SileroVAD) as vad:
            for start in range(0, len(noise), size):
                said = report(vad.process(Audio(samples=noise[start : start + size], sample_rate=SAMPLE_RATE)))
                assert not said["has_speech"]
            finals.append(report(vad.flush()))
    assert finals[0] == finals[1] == finals[2]
    assert finals[0]["final"] and finals[0]["segments"] == [] and finals[0]["time_s"] == 1.0


def test_another_rate_is_refused_with_what_to_do() -> None:
    with Trial(SileroVAD) as vad, pytest.raises(ValueError, match="put an AudioResample before it"):
        vad.process(Audio(samples=np.zeros(10, np.float32), sample_rate=8_000))
