"""Writes down what is said: ``python -m remotemedia.worker remotemedia.nodes.speech_to_text``.

Wants the extra ``speech-to-text``, which brings pocketsphinx and a model of American English.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, cast

from ..data import Audio, Json, Text
from ..node import Context, Node, Output
from .decoders import Decoder, Decoders, Hypothesis
from .speech import SAMPLE_RATE, Mark, mono16, refuse_other_rates
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UTTERANCE_S: Final = 30.0
"""Seconds after which an utterance is ended though nobody paused: what a decoder keeps grows with its length."""
FRAMES_PER_S: Final = 100
"""Of the decoder's own clock."""

_VARIANT = re.compile(r"\(\d+\)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word that was heard. Times are from the stream's begin."""

    word: str
    start_s: float
    end_s: float
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """As results tell it."""
        return {
            "word": self.word,
            "start_s": round(self.start_s, 2),
            "end_s": round(self.end_s, 2),
            "confidence": round(self.confidence, 3),
        }


@dataclass(kw_only=True, slots=True)
class Utterance:
    """What is being said."""

    decoder: Decoder
    number: int
    """Utterances before it."""
    start_s: float
    samples: int = 0
    told: str = ""
    """The last partial result."""

    def hear(self, samples: NDArray[np.int16]) -> None:
        """It goes on with this."""
        if len(samples):
            self.decoder.process_raw(samples.data.cast("B"))
            self.samples += len(samples)

    @property
    def end_s(self) -> float:
        """Seconds from the stream's begin to what was heard last."""
        return self.start_s + self.samples / SAMPLE_RATE

    def partial(self) -> dict[str, Any] | None:
        """What it seems to be so far, if that has changed."""
        text = _text(self.decoder.hyp())
        if text == self.told:
            return None
        self.told = text
        return self._result(text, final=False)

    def final(self) -> dict[str, Any]:
        """What it was. Nothing may be heard after."""
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        text = _text(hypothesis)
        words = [word.to_json() for word in self._words()] if text else []
        confidence = round(hypothesis.prob, 3) if hypothesis and text else 0.0
        return {**self._result(text, final=True), "confidence": confidence, "words": words}

    def _result(self, text: str, *, final: bool) -> dict[str, Any]:
        return {
            "text": text,
            "final": final,
            "utterance": self.number,
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
        }

    def _words(self) -> Iterator[Word]:
        for segment in self.decoder.seg() or ():
            # Silence, noise and the ends of a sentence are in brackets.
            if segment.word[0] not in "<[+(":
                yield Word(
                    word=_VARIANT.sub("", segment.word),
                    start_s=self.start_s + segment.start_frame / FRAMES_PER_S,
                    end_s=self.start_s + (segment.end_frame + 1) / FRAMES_PER_S,
                    confidence=segment.prob,
                )


class SpeechToText(Node):
    """Writes down English speech in audio of 16 kHz: what is being said as JSON, or what was said as text."""

    aliases = ("SpeechToTextNode",)

    decoders: ClassVar[Decoders]

    def __init__(
        self,
        *,
        output: Literal["json", "text"] = "json",
        partials: bool = True,
        grammar: str | None = None,
        phrases: str | None = None,
        pronunciations: str | None = None,
    ) -> None:
        self._tells_text = output == "text"
        self._tells_partials = partials and not self._tells_text
        self._vocabulary = Vocabulary.read(grammar=grammar, phrases=phrases, pronunciations=pronunciations)
        self._decoder: Decoder | None = self.decoders.take(self._vocabulary)
        self._endpointer = self.decoders.endpointer()
        self._rest = b""
        self._utterance: Utterance | None = None
        self._utterances = 0

    @classmethod
    def setup(cls) -> None:
        cls.decoders = Decoders(node=cls.__name__)

    def process(self, audio: Audio, ctx: Context) -> Iterator[Json | Text]:
        refuse_other_rates(audio)
        mark = Mark.of(ctx.metadata)
        if mark is None:
            yield from self._hear_stream(mono16(audio).tobytes())
        else:
            yield from self._hear_marked(mono16(audio), mark)
        if self._tells_partials and self._utterance is not None:
            changed = self._utterance.partial()
            if changed is not None:
                yield Json(value=changed)

    def flush(self) -> Iterator[Json | Text]:
        if self._rest or self._endpointer.in_speech:
            yield from self._hear_found(self._endpointer.end_stream(self._rest))
        yield from self._end()

    def close(self) -> None:
        decoder, self._decoder = self._decoder, None
        # To end an utterance that nobody waits for takes longer than to load another decoder.
        if decoder is not None and self._utterance is None:
            self.decoders.give_back(decoder, self._vocabulary)

    def _hear_marked(self, samples: NDArray[np.int16], mark: Mark) -> Iterator[Json | Text]:
        """Speech that was found before it came here."""
        if mark.begins:
            yield from self._end()
        if self._utterance is None:
            self._begin(mark.time_s)
        yield from self._hear(samples)
        if mark.ends:
            yield from self._end()

    def _hear_stream(self, pcm: bytes) -> Iterator[Json | Text]:
        """Audio in which speech is still to be found."""
        pcm, size = self._rest + pcm, self._endpointer.frame_bytes
        whole = len(pcm) // size * size
        self._rest = pcm[whole:]
        for start in range(0, whole, size):
            yield from self._hear_found(self._endpointer.process(pcm[start : start + size]))

    def _hear_found(self, speech: bytes | None) -> Iterator[Json | Text]:
        import numpy as np

        if speech is None:
            return
        if self._utterance is None:
            self._begin(self._endpointer.speech_start)
        yield from self._hear(np.frombuffer(speech, np.int16))
        if not self._endpointer.in_speech:
            yield from self._end()

    def _hear(self, samples: NDArray[np.int16]) -> Iterator[Json | Text]:
        room = int(UTTERANCE_S * SAMPLE_RATE)
        while self._utterance is not None and self._utterance.samples + len(samples) > room:
            taken = room - self._utterance.samples
            self._utterance.hear(samples[:taken])
            samples, start_s = samples[taken:], self._utterance.end_s
            yield from self._end()
            self._begin(start_s)
        if self._utterance is not None:
            self._utterance.hear(samples)

    def _begin(self, start_s: float) -> None:
        if self._decoder is None:
            raise RuntimeError("nothing is heard after the close")
        self._decoder.start_utt()
        self._utterance = Utterance(decoder=self._decoder, number=self._utterances, start_s=start_s)
        self._utterances += 1

    def _end(self) -> Iterator[Json | Text]:
        utterance, self._utterance = self._utterance, None
        if utterance is None:
            return
        result = utterance.final()
        if not self._tells_text:
            yield Json(value=result)
        elif result["text"]:
            times = {"start_s": str(result["start_s"]), "end_s": str(result["end_s"])}
            told = Output(data=Text(text=result["text"], language="en"), metadata=times)
            # An `Output` stands for its data in what a node declares to give.
            yield cast("Text", told)


def _text(hypothesis: Hypothesis | None) -> str:
    return hypothesis.hypstr if hypothesis is not None else ""
