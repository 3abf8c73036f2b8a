"""Text is spoken, where espeak-ng is installed."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from remotemedia import Audio, Text
from remotemedia.data import Data
from remotemedia.nodes import sounding
from remotemedia.nodes.sounding import Sounding
from remotemedia.nodes.text_to_speech import MissingProgramError, TextToSpeech
from remotemedia.testing import Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

if shutil.which("espeak-ng") is None:
    pytest.skip("espeak-ng is not installed", allow_module_level=True)


def heard(given: list[Data]) -> NDArray[Any]:
    pieces = [data for data in given if isinstance(data, Audio)]
    assert len(pieces) == len(given) and {piece.sample_rate for piece in pieces} == {22_050}
    return np.concatenate([piece.samples[:, 0] for piece in pieces])


def spoken(text: str, **params: Any) -> NDArray[Any]:
    with Trial(TextToSpeech, **params) as node:
        return heard(node.process(Text(text=text)))


def loudness(samples: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64)))))


def test_text_is_heard_in_pieces_of_the_asked_length() -> None:
    with Trial(TextToSpeech, chunk_ms=50) as node:
        pieces = node.process("front center, rear left")
    samples = heard(pieces)
    assert [len(piece.samples) for piece in pieces[:-1] if isinstance(piece, Audio)] == [1_102] * (len(pieces) - 1)
    assert samples.dtype == np.int16 and 22_050 < len(samples) < 3 * 22_050
    assert loudness(samples) > 1_000
    assert np.array_equal(samples, spoken("front center, rear left", chunk_ms=700)), "however it is cut"


def test_rate_pitch_volume_and_voice_are_heard() -> None:
    words = "rear left, side right, front center"
    plain = spoken(words)
    assert len(spoken(words, rate=350)) < 0.7 * len(plain)
    assert loudness(spoken(words, volume=20)) < 0.4 * loudness(plain)
    assert len(spoken(words, word_gap_ms=200)) > len(plain) + 0.5 * 22_050
    others = [spoken(words, pitch=90), spoken(words, voice="de"), spoken(words, voice="en-us+f3")]
    assert all(len(other) != len(plain) or not np.array_equal(other, plain) for other in others)


def test_a_text_is_spoken_in_its_own_language_unless_a_voice_is_asked_for() -> None:
    german = Text(text="guten Morgen", language="de")
    with Trial(TextToSpeech) as node:
        assert np.array_equal(heard(node.process(german)), spoken("guten Morgen", voice="de"))
    with Trial(TextToSpeech, voice="en") as node:
        assert np.array_equal(heard(node.process(german)), spoken("guten Morgen"))


def test_nothing_is_said_of_nothing_and_no_text_is_taken_for_an_option() -> None:
    assert Trial(TextToSpeech).process(" \n") == []
    assert loudness(spoken("--version")) > 1_000
    assert loudness(spoken("grüß dich, \x00 $(true)")) > 1_000


def test_a_voice_that_there_is_not_is_refused_by_its_name() -> None:
    for voice in ("klingonese", "../../etc/passwd", "--help", ""):
        with pytest.raises(ValueError, match="voice"):
            Trial(TextToSpeech, voice=voice)
    with Trial(TextToSpeech) as node, pytest.raises(ValueError, match="ended with 1: .*voice does not exist"):
        node.process(Text(text="hm", language="tlh-x"))


def test_a_missing_program_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgramError, match="apt-get install espeak-ng"):
        TextToSpeech.setup()


def test_a_program_that_makes_no_sound_is_given_up_and_reaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounding, "SILENT_S", 0.1)
    begin = time.monotonic()
    silent = Sounding(command=[sys.executable, "-c", "import time; time.sleep(60)"], text="")
    with pytest.raises(TimeoutError, match="made no sound"), silent:
        pass
    assert time.monotonic() - begin < 10
    assert silent.ended == -9


def test_who_stops_listening_ends_the_program() -> None:
    text = Text(text="word " * 10_000)
    before = threading.active_count()
    with Sounding(command=["espeak-ng", "--stdin", "--stdout"], text=text.text) as endless:
        samples = np.zeros(1_000, np.int16)
        assert endless.read(samples) == 1_000
        assert endless.ended is None
    assert endless.ended == -9 and threading.active_count() == before
