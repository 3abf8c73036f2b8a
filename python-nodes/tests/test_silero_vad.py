"""The Silero node, where its extra is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from recordings import NAMES, audio, loudspeaker, need

from remotemedia import Audio, Json, Output
from remotemedia.testing import Trial

need("onnxruntime", "silero_vad")

from remotemedia.nodes.silero_vad import FRAME, Segmenter, SileroVAD
from remotemedia.nodes.speech import SAMPLE_RATE, Mark

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def names_and_pauses() -> NDArray[np.int16]:
    """A second of silence around each name of a loudspeaker."""
    pause = np.zeros(SAMPLE_RATE, np.int16)
    return np.concatenate([pause, *(part for name in NAMES for part in (loudspeaker(name), pause))])


def passed(samples: NDArray[np.int16], size: int) -> tuple[list[Output], list[Any]]:
    """What goes on of a stream in pieces of this size, and what of its flush."""
    with Trial(SileroVAD, output="speech", min_silence_ms=500) as vad:
        pieces: list[Output] = []
        for start in range(0, len(samples), size):
            said = {"at": str(start)}
            pieces += vad.outputs(audio(samples[start : start + size]), metadata=said, timestamp_us=start * 1_000 // 16)
        return pieces, vad.flush()


def marked(piece: Output) -> tuple[Mark, NDArray[Any]]:
    assert isinstance(piece.data, Audio) and piece.metadata is not None
    mark = Mark.of(piece.metadata)
    assert mark is not None
    return mark, piece.data.samples[:, 0]


def test_only_speech_goes_on_as_it_came_with_marks_that_part_utterances() -> None:
    samples = names_and_pauses()
    wholes: list[NDArray[Any]] = []
    for size in (320, 1_000, SAMPLE_RATE, len(samples)):
        pieces, rest = passed(samples, size)
        assert rest == [], "a second of silence ends the last one before the flush"
        begun, last_end = 0, 0
        heard: list[NDArray[Any]] = []
        for mark, part in map(marked, pieces):
            at = round(mark.time_s * SAMPLE_RATE)
            assert (part == samples[at : at + len(part)]).all(), "nothing is changed"
            assert mark.begins == (at != last_end) or at == 0, "within an utterance nothing is missing"
            begun, last_end = begun + mark.begins, at + len(part)
            heard.append(part)
        assert begun == sum(marked(piece)[0].ends for piece in pieces) == len(NAMES)
        wholes.append(np.concatenate(heard))
    assert all(np.array_equal(whole, wholes[0]) for whole in wholes), "however the stream is cut"
    assert len(wholes[0]) < 0.8 * len(samples)


def test_pieces_that_go_on_keep_their_own_time_and_what_was_said_of_their_input() -> None:
    pieces, _ = passed(names_and_pauses(), 320)
    for piece in pieces:
        mark, _ = marked(piece)
        assert piece.timestamp_us is not None and abs(piece.timestamp_us - mark.time_s * 1e6) <= 63
        assert piece.metadata is not None and int(piece.metadata["at"]) >= round(mark.time_s * SAMPLE_RATE) - 320


def test_speech_that_the_stream_ends_within_goes_on_to_its_last_sample() -> None:
    speech = loudspeaker("front center")[:17_777]
    pieces, rest = passed(speech, 320)
    parts = [part for _, part in map(marked, pieces)] + [data.samples[:, 0] for data in rest]
    heard = np.concatenate(parts)
    assert np.array_equal(heard, speech[len(speech) - len(heard) :])
