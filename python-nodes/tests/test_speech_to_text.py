"""Speech is understood, in real recordings, where the extra is installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from recordings import NAMES, audio, loudspeaker, need, packed, packed_wav

from remotemedia import Audio, Json, Text
from remotemedia.data import Data
from remotemedia.testing import Trial

need("pocketsphinx", "onnxruntime", "silero_vad")

from remotemedia.nodes.silero_vad import SileroVAD
from remotemedia.nodes.speech import SAMPLE_RATE, Mark
from remotemedia.nodes.speech_to_text import SpeechToText

if TYPE_CHECKING:
    from numpy.typing import NDArray

PHRASES = ", ".join((*NAMES, "noise"))
LOUDSPEAKERS = f"""#JSGF V1.0;
grammar loudspeakers;
public <name> = (front | rear) (left | right | center) | side (left | right) | noise;
"""
CARDS = {
    "001": "ten of clubs",
    "002": "four queen of clubs",
    "003": "seven of clubs",
    "004": "five five",
    "005": "eight of spades four of clubs seven of hearts",
}


def results(given: list[Data]) -> list[dict[str, Any]]:
    assert all(isinstance(data, Json) for data in given)
    return [data.value for data in given if isinstance(data, Json)]


def said(given: list[Data]) -> list[str]:
    assert all(isinstance(data, Text) for data in given)
    return [data.text for data in given if isinstance(data, Text)]


def understood(samples: NDArray[np.int16], **params: Any) -> list[str]:
    """What was said in a recording, in one piece."""
    with Trial(SpeechToText, output="text", **params) as node:
        return said(node.process(audio(samples))) + said(node.flush())


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_a_loudspeaker_is_understood_with_a_grammar(name: str) -> None:
    assert understood(loudspeaker(name), grammar=LOUDSPEAKERS) == [name]
    assert understood(loudspeaker(name), phrases=PHRASES) == [name]


def test_noise_is_not_taken_for_any_word_of_a_grammar() -> None:
    assert understood(loudspeaker("noise"), grammar=LOUDSPEAKERS) == []


@pytest.mark.parametrize("name", CARDS)
def test_every_playing_card_is_understood_with_a_grammar(name: str) -> None:
    assert understood(packed_wav(f"cards/{name}.wav"), grammar=packed("cards/cards.gram").decode()) == [CARDS[name]]


def test_most_words_are_understood_without_a_grammar() -> None:
    command = np.frombuffer(packed("goforward.raw"), np.int16)
    [text] = understood(command)
    assert text.startswith("go forward ten")


def stream(samples: NDArray[np.int16], size: int, *, vad: bool) -> list[dict[str, Any]]:
    """The results of a live stream in pieces of this size, with or without a detector of speech before it."""
    told: list[dict[str, Any]] = []
    with Trial(SpeechToText, grammar=LOUDSPEAKERS) as text, Trial(SileroVAD, output="speech", min_silence_ms=500) as gate:
        for start in range(0, len(samples), size):
            piece = audio(samples[start : start + size])
            if not vad:
                told += results(text.process(piece))
                continue
            for output in gate.outputs(piece):
                assert isinstance(output.data, Audio)
                told += results(text.process(output.data, metadata=output.metadata))
        for rest in gate.flush() if vad else ():
            told += results(text.process(rest))
        return told + results(text.flush())


@pytest.mark.parametrize("vad", [True, False])
def test_a_live_stream_is_written_down_word_by_word_and_utterance_by_utterance(vad: bool) -> None:
    pause = np.zeros(SAMPLE_RATE, np.int16)
    samples, begins = [pause], list[float]()
    for name in NAMES[:4]:
        begins.append(sum(map(len, samples)) / SAMPLE_RATE)
        samples += [loudspeaker(name), pause]
    told = stream(np.concatenate(samples), 320, vad=vad)
    finals = [result for result in told if result["final"]]
    assert [result["text"] for result in finals] == list(NAMES[:4])
    assert [result["utterance"] for result in finals] == [0, 1, 2, 3]
    for begin, final in zip(begins, finals, strict=True):
        assert begin - 0.1 < final["start_s"] < begin + 0.3
        assert [word["word"] for word in final["words"]] == final["text"].split()
        times = [time for word in final["words"] for time in (word["start_s"], word["end_s"])]
        assert times == sorted(times) and final["start_s"] - 0.01 <= times[0] and times[-1] <= final["end_s"] + 0.02
        partials = [one["text"] for one in told if one["utterance"] == final["utterance"] and not one["final"]]
        assert partials and final["text"].split()[0] in partials[:2]
        assert all(one != after for one, after in zip(partials, partials[1:])), "only what changes is told"
    assert json.loads(json.dumps(told)) == told


def test_audio_of_any_layout_is_heard_alike() -> None:
    name = loudspeaker("side left")
    floats = (name / 32_768).astype(np.float32)
    layouts = [name, floats, name.astype(np.int32) << 16, np.stack([name, name], axis=1), floats[:, np.newaxis]]
    for samples in layouts:
        with Trial(SpeechToText, output="text", grammar=LOUDSPEAKERS) as node:
            given = node.process(Audio(samples=samples, sample_rate=SAMPLE_RATE)) + node.flush()
        assert said(given) == ["side left"]


def test_what_cannot_be_heard_is_refused_with_what_to_do() -> None:
    with Trial(SpeechToText) as node:
        with pytest.raises(ValueError, match="put an AudioResample before it"):
            node.process(Audio(samples=np.zeros(10, np.float32), sample_rate=48_000))
        with pytest.raises(ValueError, match="allowed are begin, middle, end, whole"):
            node.process(audio(np.zeros(10, np.int16)), metadata={"speech.part": "chorus"})


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"grammar": "front | rear"}, "no JSGF with a public rule"),
        ({"grammar": "#JSGF V1.0; grammar a; import <b.c>; public <a> = <c>;"}, "write its rules into it"),
        ({"grammar": "#JSGF V1.0; grammar a; public <a> = left <b>;"}, "no rule <b>"),
        ({"grammar": "#JSGF V1.0; grammar a; <a> = left;"}, "no JSGF with a public rule"),
        ({"phrases": "front centre, Xyzzy, plugh"}, "no pronunciation is known of 'xyzzy', 'plugh'"),
        ({"phrases": " , "}, "list what may be said"),
        ({"phrases": "left | right"}, "what repeats or varies is a grammar"),
        ({"phrases": "left", "grammar": LOUDSPEAKERS}, "give one of them"),
        ({"phrases": "xyzzy", "pronunciations": "xyzzy"}, "has no phones"),
        ({"phrases": "xyzzy", "pronunciations": "xyzzy QQ"}, "phones are of ARPABET"),
    ],
)
def test_a_vocabulary_that_is_of_no_use_is_told_why(params: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("|", r"\|")):
        Trial(SpeechToText, **params)


def test_a_word_that_the_dictionary_does_not_have_is_understood_by_its_pronunciation() -> None:
    spoken = loudspeaker("side right")
    assert understood(spoken, phrases="sydrite, left", pronunciations="sydrite S AY D R AY T") == ["sydrite"]
    # It is a word of that session alone.
    with pytest.raises(ValueError, match="no pronunciation is known of 'sydrite'"):
        Trial(SpeechToText, phrases="sydrite")


def test_an_utterance_without_a_pause_is_ended_after_half_a_minute() -> None:
    hum = np.random.default_rng(1).normal(0, 300, 31 * SAMPLE_RATE).astype(np.int16)
    with Trial(SpeechToText, grammar=LOUDSPEAKERS) as node:
        mark = Mark(part="begin", time_s=5.0)
        told = results(node.process(audio(hum), metadata=mark.metadata())) + results(node.flush())
    finals = [result for result in told if result["final"]]
    assert [(result["start_s"], result["end_s"]) for result in finals] == [(5.0, 35.0), (35.0, 36.0)]
