"""Real recordings, which `scripts/recordings` fetches."""

from __future__ import annotations

import importlib.util
import io
import tarfile
import wave
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from remotemedia import Audio

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEECH = Path(__file__).parents[2] / ".cache" / "speech"
LOUDSPEAKERS = SPEECH / "alsa" / "usr" / "share" / "sounds" / "alsa"
SENTENCES = SPEECH / "pocketsphinx-5.1.1.tar.gz"
NAMES = ("front center", "front left", "front right", "rear center", "rear left", "rear right", "side left", "side right")
"""What is said in the recordings of alsa-utils, but for one that is noise."""


def need(*modules: str) -> None:
    """Skips the tests of a file where the extra of its node, or the recordings, are not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed", allow_module_level=True)
    if not (LOUDSPEAKERS.is_dir() and SENTENCES.is_file()):
        pytest.skip("there are no recordings: scripts/recordings fetches them", allow_module_level=True)


def loudspeaker(name: str) -> NDArray[np.int16]:
    """The name of a loudspeaker as a person says it, brought from 48 to 16 kHz."""
    with wave.open(str(LOUDSPEAKERS / f"{name.title().replace(' ', '_')}.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (48_000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    # A sinc that keeps what 16 kHz can carry, in a Hamming window.
    window = np.sinc(np.arange(-60, 61) / 3 * 0.9) * np.hamming(121)
    near = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 60), len(window))[::3]
    return np.rint(near @ (window / window.sum())).astype(np.int16)


@cache
def _packed() -> dict[str, bytes]:
    with tarfile.open(SENTENCES) as archive:
        files = [member for member in archive if "/test/data/" in member.name and member.isfile()]
        opened = {member.name.split("/test/data/")[1]: archive.extractfile(member) for member in files}
        return {name: file.read() for name, file in opened.items() if file is not None}


def packed(name: str) -> bytes:
    """A file of pocketsphinx's own test data."""
    return _packed()[name]


def packed_wav(name: str) -> NDArray[np.int16]:
    """A recording of pocketsphinx's own test data, of 16 kHz."""
    with wave.open(io.BytesIO(packed(name))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def audio(samples: NDArray[np.int16]) -> Audio:
    """Of 16 kHz."""
    return Audio(samples=samples, sample_rate=16_000)
