"""Speech, as nodes hand it to each other: audio of 16 kHz, cut into utterances by what its metadata says.

The audio of an utterance goes on in pieces as it is heard. Each piece says which part of its utterance it is, and when
it began, so that what comes after it knows utterances without listening for pauses again, and tells times as they are
in the stream from which silence was taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, cast

import numpy as np

from ..data import Audio

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE: Final = 16_000
"""What the models hear."""

Part: TypeAlias = Literal["begin", "middle", "end", "whole"]
"""Of an utterance: its first piece, one within, its last, or all of it."""

_PART = "speech.part"
_TIME = "speech.time_s"
_PARTS: Mapping[str, Part] = {"begin": "begin", "middle": "middle", "end": "end", "whole": "whole"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What a piece of an utterance says of itself."""

    part: Part
    time_s: float
    """Of its first sample, from the stream's begin."""

    @property
    def begins(self) -> bool:
        """Whether nothing of its utterance came before."""
        return self.part in ("begin", "whole")

    @property
    def ends(self) -> bool:
        """Whether nothing of its utterance comes after."""
        return self.part in ("end", "whole")

    def metadata(self) -> dict[str, str]:
        """As it stands in a frame."""
        return {_PART: self.part, _TIME: f"{self.time_s:.4f}"}

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Self | None:
        """The mark that a frame bears, if any; raises `ValueError` for one that is none."""
        said, time_s = metadata.get(_PART), metadata.get(_TIME)
        if said is None and time_s is None:
            return None
        part = _PARTS.get(said or "")
        if part is None or time_s is None:
            raise ValueError(
                f"a piece of speech says {_PART} '{said}' and {_TIME} '{time_s}': "
                f"allowed are {', '.join(_PARTS)}, and seconds"
            )
        return cls(part=part, time_s=float(time_s))


def refuse_other_rates(audio: Audio) -> None:
    """Raises `ValueError` with what to do if the models do not hear this rate."""
    if audio.sample_rate != SAMPLE_RATE:
        raise ValueError(
            f"sample rate is {audio.sample_rate} Hz: {SAMPLE_RATE} Hz is heard, put an AudioResample before it"
        )


def mono(audio: Audio) -> NDArray[np.float32]:
    """The mean of all channels, with full scale at 1."""
    samples = audio.samples.reshape(len(audio.samples), -1)
    scale = 1.0 if samples.dtype.kind == "f" else 1.0 / -float(np.iinfo(samples.dtype.name).min)
    return (samples.mean(axis=1, dtype=np.float64) * scale).astype(np.float32)


def mono16(audio: Audio) -> NDArray[np.int16]:
    """The mean of all channels as integers of 16 bits; what is beyond full scale is cut off. Audio that is so already
    is given as it is."""
    samples = audio.samples.reshape(len(audio.samples), -1)
    if samples.dtype == np.int16 and samples.shape[1] == 1:
        return np.ascontiguousarray(cast("NDArray[np.int16]", samples[:, 0]))
    return np.clip(np.rint(mono(audio) * 32_768.0), -32_768, 32_767).astype(np.int16)
