"""Finds speech with the Silero model, and tells of it or lets only it pass.

``python -m remotemedia.worker remotemedia.nodes.silero_vad`` runs it. Wants the extra ``silero-vad``, which brings onnxruntime, and the model, which its own package ships. That package's
dependencies include torch, which is not used here: ``pip install --no-deps silero-vad`` leaves it out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import numpy as np

from ..data import Audio, Json
from ..node import Alias, Context, Node, Output, Range
from .extras import MissingExtraError, load
from .speech import SAMPLE_RATE, mono, refuse_other_rates
from .utterances import Utterances

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME = 512
"""Samples that it scores at a time: 32 ms."""
CONTEXT = 64
"""Samples of the frame before, which it hears again."""
HYSTERESIS = 0.15
"""A frame this much below the threshold continues speech that it could not begin."""


@dataclass(slots=True)
class Segment:
    """A stretch of speech, in samples from the stream's begin."""

    start: int
    end: int


@dataclass(slots=True)
class Segmenter:
    """Turns scores of frames into segments."""

    threshold: float
    min_speech: int
    min_silence: int
    pad: int
    scored: int = 0
    """Samples in whole frames so far."""
    open: Segment | None = None
    """Speech that goes on; its end is that of the last frame that was speech."""
    closed: list[Segment] = field(default_factory=list[Segment])

    def score(self, score: float) -> None:
        """The next frame has this score."""
        begin, self.scored = self.scored, self.scored + FRAME
        if score >= self.threshold - (HYSTERESIS if self.open else 0.0):
            if self.open is None:
                self.open = Segment(begin, self.scored)
            self.open.end = self.scored
        elif self.open is not None and self.scored - self.open.end >= self.min_silence:
            self.close()

    def close(self) -> None:
        """Nothing more belongs to what is open."""
        if self.open is not None and self.open.end - self.open.start >= self.min_speech:
            self.closed.append(self.open)
        self.open = None

    def padded(self, segment: Segment, is_open: bool) -> dict[str, Any]:
        """As reports tell it."""
        start = max(0, segment.start - self.pad) / SAMPLE_RATE
        end = min(self.scored, segment.end + self.pad) / SAMPLE_RATE
        return {"start_s": start, "end_s": end, "open": is_open}


class SileroVAD(Node):
    """Finds speech in audio of 16 kHz with the Silero model, and gives its segments as JSON, or itself as audio."""

    aliases = ("SileroVADNode",)
    repeatable = True

    model: ClassVar[Any]

    def __init__(
        self,
        *,
        output: Literal["report", "speech"] = "report",
        threshold: Annotated[float, Range(min=0, max=1)] = 0.5,
        min_speech_ms: Annotated[int, Range(min=0, max=10_000, unit="ms"), Alias("min_speech_duration_ms")] = 100,
        min_silence_ms: Annotated[int, Range(min=0, max=10_000, unit="ms"), Alias("min_silence_duration_ms")] = 300,
        pad_ms: Annotated[int, Range(min=0, max=10_000, unit="ms"), Alias("speech_pad_ms")] = 30,
        sample_rate: Annotated[int, Range(min=SAMPLE_RATE, max=SAMPLE_RATE, unit="Hz")] | None = None,
    ) -> None:
        del sample_rate  # Manifests of SileroVADNode say it, and it can be no other.

        def samples(milliseconds: int) -> int:
            return milliseconds * SAMPLE_RATE // 1_000

        self._segmenter = Segmenter(threshold, samples(min_speech_ms), samples(min_silence_ms), samples(pad_ms))
        passes = output == "speech"
        self._passing = Utterances(min_speech=samples(min_speech_ms), pad=samples(pad_ms)) if passes else None
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)
        self._heard = 0
        self._told = 0
        self._score = 0.0
        self._highest = 0.0

    @classmethod
    def setup(cls) -> None:
        onnxruntime = load("onnxruntime", node=cls.__name__, extra="silero-vad")
        options = onnxruntime.SessionOptions()
        # Frames come one after the other: more threads would only wait for each other.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        cls.model = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])

    def process(self, audio: Audio, ctx: Context) -> Json | Iterator[Audio]:
        refuse_other_rates(audio)
        was_open = self._segmenter.open is not None
        samples = mono(audio)
        self._heard += len(samples)
        if self._passing is not None:
            self._passing.hear(audio, ctx.timestamp_us)
        pending = np.concatenate((self._rest, samples))
        whole = len(pending) // FRAME * FRAME
        self._rest = pending[whole:].copy()
        scores = [self._listen(frame) for frame in pending[:whole].reshape(-1, FRAME)]
        if self._passing is not None:
            return passed(self._passing.pieces(ctx.metadata))
        self._score = scores[-1] if scores else self._score
        self._highest = max([self._highest, *scores])
        ended = self._segmenter.closed[self._told :]
        self._told = len(self._segmenter.closed)
        has_speech = was_open or bool(ended) or self._segmenter.open is not None
        return self._report(ended, has_speech=has_speech, confidence=max(scores, default=self._score), final=False)

    def flush(self) -> Json | Iterator[Audio]:
        if len(self._rest):
            self._listen(np.pad(self._rest, (0, FRAME - len(self._rest))))
        self._segmenter.close()
        if self._passing is not None:
            self._passing.decide(scored=self._segmenter.scored, speech=None)
            return passed(self._passing.pieces({}))
        found = self._segmenter.closed
        return self._report(found, has_speech=bool(found), confidence=self._highest, final=True)

    def _listen(self, frame: NDArray[np.float32]) -> float:
        heard = np.concatenate((self._context, frame))[np.newaxis]
        inputs = {"input": heard, "state": self._state, "sr": np.array(SAMPLE_RATE, np.int64)}
        score, self._state = self.model.run(None, inputs)
        self._context = frame[-CONTEXT:].copy()
        self._segmenter.score(float(score[0, 0]))
        if self._passing is not None:
            speech = self._segmenter.open
            is_open = None if speech is None else (speech.start, speech.end)
            self._passing.decide(scored=self._segmenter.scored, speech=is_open)
        return float(score[0, 0])

    def _report(self, segments: list[Segment], *, has_speech: bool, confidence: float, final: bool) -> Json:
        told = [self._segmenter.padded(segment, is_open=False) for segment in segments]
        if self._segmenter.open is not None:
            told.append(self._segmenter.padded(self._segmenter.open, is_open=True))
        return Json(
            value={
                "has_speech": has_speech,
                "confidence": confidence,
                "segments": told,
                "time_s": self._heard / SAMPLE_RATE,
                "final": final,
            }
        )


def passed(pieces: Iterator[Output]) -> Iterator[Audio]:
    """An `Output` stands for its data in what a node declares to give."""
    return cast("Iterator[Audio]", pieces)


def model_path() -> Path:
    """The model in the package that ships it, which is looked for and not imported: that would want torch."""
    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        remedy = "pip install --no-deps silero-vad"
        raise MissingExtraError(node="SileroVAD", module="silero_vad", remedy=remedy)
    return Path(package.submodule_search_locations[0]) / "data" / "silero_vad_16k_op15.onnx"
