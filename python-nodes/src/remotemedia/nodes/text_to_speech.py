"""Speaks: ``python -m remotemedia.worker remotemedia.nodes.text_to_speech``. Wants the program espeak-ng."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np

from ..data import Audio, Text
from ..node import Context, Node, Range
from .sounding import Sounding

_VOICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")
_CHECK_S = 5.0
"""Seconds for the program to say whether it has a voice."""


class MissingProgramError(FileNotFoundError):
    """The program that a node runs is not installed."""


class TextToSpeech(Node):
    """Speaks text with eSpeak NG, and gives the sound in pieces as it is made."""

    aliases = ("TextToSpeechNode",)
    repeatable = True
    stateless = True

    program: ClassVar[str]

    def __init__(
        self,
        *,
        voice: str | None = None,
        rate: Annotated[int, Range(min=80, max=450, unit="words per minute")] = 175,
        pitch: Annotated[int, Range(min=0, max=99)] = 50,
        volume: Annotated[int, Range(min=0, max=200)] = 100,
        word_gap_ms: Annotated[int, Range(min=0, max=1_000, unit="ms")] = 0,
        chunk_ms: Annotated[int, Range(min=10, max=5_000, unit="ms")] = 100,
    ) -> None:
        self._voice = voice
        self._chunk_ms = chunk_ms
        # The program counts gaps in 10 ms.
        self._arguments = [f"-s{rate}", f"-p{pitch}", f"-a{volume}", f"-g{word_gap_ms // 10}"]
        if voice is not None:
            self._check(voice)

    @classmethod
    def setup(cls) -> None:
        program = shutil.which("espeak-ng")
        if program is None:
            raise MissingProgramError("TextToSpeech runs the program espeak-ng, which is not installed: apt-get install espeak-ng")
        cls.program = program

    def process(self, text: Text, ctx: Context) -> Iterator[Audio]:
        if not text.text.strip():
            return
        voice = self._voice or text.language or "en"
        _refuse_odd(voice)
        command = [self.program, "--stdin", "--stdout", "-b1", "-v", voice, *self._arguments]
        with Sounding(command=command, text=text.text) as sounding:
            frames = sounding.sample_rate * self._chunk_ms // 1_000
            while True:
                # The sound goes from the program's pipe into the memory that is sent.
                samples = ctx.loan((frames, 1), np.int16)
                filled = sounding.read(samples)
                if filled:
                    yield Audio(samples=samples[:filled], sample_rate=sounding.sample_rate)
                if filled < frames:
                    return

    def _check(self, voice: str) -> None:
        _refuse_odd(voice)
        command = [self.program, "-q", "-v", voice, ""]
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CHECK_S, check=False)
        if said.returncode != 0:
            raise ValueError(f"voice '{voice}' is none of eSpeak NG's: `espeak-ng --voices` lists them")


def _refuse_odd(voice: str) -> None:
    # A voice may be a file too: clients shall not name files of this machine.
    if not _VOICE.fullmatch(voice):
        raise ValueError(f"voice '{voice}' is no name of a voice, as 'en-us' or 'de+f3'")
