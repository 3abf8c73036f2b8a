"""Takes the silence out of a stream, and says of what is left where utterances begin and end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..data import Audio
from ..node import Output
from .speech import SAMPLE_RATE, Mark, Part


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """An input, kept by reference as long as parts of it may have to go on."""

    start: int
    """Samples before it."""
    audio: Audio
    timestamp_us: int | None

    @property
    def stop(self) -> int:
        """Samples up to its end."""
        return self.start + len(self.audio.samples)


@dataclass(kw_only=True, slots=True)
class Stretch:
    """Neighbouring samples of one utterance, counted from the stream's begin, that are to go on."""

    start: int
    stop: int
    begins: bool
    """Whether its utterance begins with it."""
    ends: bool = False
    """Whether its utterance ends with it."""


@dataclass(kw_only=True, slots=True)
class Utterances:
    """Audio that goes on as it came, as soon as it is known to be speech.

    An utterance begins ``pad`` samples before speech that has lasted for ``min_speech``, and goes on until speech is
    known to have ended: so it holds the silence that told.
    """

    min_speech: int
    pad: int
    _kept: deque[Heard] = field(default_factory=deque[Heard])
    _stretches: list[Stretch] = field(default_factory=list[Stretch])
    _heard: int = 0
    _decided: int = 0
    """Samples of which it is known whether they go on."""
    _is_speaking: bool = False

    def hear(self, audio: Audio, timestamp_us: int | None) -> None:
        """The stream goes on with this."""
        self._kept.append(Heard(start=self._heard, audio=audio, timestamp_us=timestamp_us))
        self._heard += len(audio.samples)

    def decide(self, *, scored: int, speech: tuple[int, int] | None) -> None:
        """So many samples are known, and at their end this is speech that goes on, from its begin to its end."""
        until = min(scored, self._heard)
        was_speaking = self._is_speaking
        if speech is None:
            self._is_speaking = False
        elif speech[1] - speech[0] >= self.min_speech:
            self._is_speaking = True
        if was_speaking:
            self._go_on(until)
        elif self._is_speaking and speech is not None:
            self._stretches.append(Stretch(start=max(self._decided, speech[0] - self.pad), stop=until, begins=True))
        else:
            silent = scored if speech is None else speech[0]
            until = max(self._decided, min(until, silent - self.pad))
        self._decided = until
        if was_speaking and not self._is_speaking and self._stretches:
            self._stretches[-1].ends = True

    def pieces(self, metadata: Mapping[str, str]) -> Iterator[Output]:
        """What is to go on, slices of what came, each with its mark beside this metadata."""
        stretches, self._stretches = self._stretches, []
        for stretch in stretches:
            touched = [heard for heard in self._kept if heard.start < stretch.stop and stretch.start < heard.stop]
            for heard in touched:
                yield _piece(stretch, heard, metadata, is_first=heard is touched[0], is_last=heard is touched[-1])
        while self._kept and self._kept[0].stop <= self._decided:
            self._kept.popleft()

    def _go_on(self, until: int) -> None:
        last = self._stretches[-1] if self._stretches else None
        if last is not None and not last.ends and last.stop == self._decided:
            last.stop = until
        elif until > self._decided:
            self._stretches.append(Stretch(start=self._decided, stop=until, begins=False))


def _piece(
    stretch: Stretch, heard: Heard, metadata: Mapping[str, str], *, is_first: bool, is_last: bool
) -> Output:
    start, stop = max(stretch.start, heard.start), min(stretch.stop, heard.stop)
    part = _part(begins=stretch.begins and is_first, ends=stretch.ends and is_last)
    mark = Mark(part=part, time_s=start / SAMPLE_RATE)
    samples = heard.audio.samples[start - heard.start : stop - heard.start]
    later_us = (start - heard.start) * 1_000_000 // SAMPLE_RATE
    return Output(
        data=Audio(samples=samples, sample_rate=heard.audio.sample_rate),
        metadata={**metadata, **mark.metadata()},
        timestamp_us=None if heard.timestamp_us is None else heard.timestamp_us + later_us,
    )


def _part(*, begins: bool, ends: bool) -> Part:
    if begins:
        return "whole" if ends else "begin"
    return "end" if ends else "middle"
