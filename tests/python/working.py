"""Nodes that do what they are told."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from remotemedia import Audio, Context, Json, Node, Range, Text


class Gain(Node):
    """Makes audio louder or softer."""

    def __init__(
        self,
        *,
        factor: Annotated[float, Range(min=0, max=16)],
        memory: Literal["lent", "own"] = "lent",
    ) -> None:
        self.factor = factor
        self.memory = memory

    def process(self, audio: Audio, ctx: Context) -> Audio:
        if self.memory == "own":
            return Audio(samples=audio.samples * np.float32(self.factor), sample_rate=audio.sample_rate)
        louder = ctx.loan(audio.samples.shape, np.float32)
        np.multiply(audio.samples, np.float32(self.factor), out=louder)
        return Audio(samples=louder, sample_rate=audio.sample_rate)


class Tail(Node):
    """Gives the second half of audio, where it lies."""

    def process(self, audio: Audio) -> Audio:
        return Audio(samples=audio.samples[len(audio.samples) // 2 :], sample_rate=audio.sample_rate)


class Hoard(Node):
    """Keeps all that it ever got."""

    def __init__(self) -> None:
        self.kept: list[Audio] = []

    def process(self, audio: Audio) -> str:
        self.kept.append(audio)
        return str(len(self.kept))


class Later(Node):
    """Counts the letters of a text, in its own time."""

    async def process(self, text: Text) -> Json:
        await asyncio.sleep(0.001)
        return Json(value={"letters": len(text.text)})


class Paced(Node):
    """Gives the words of a text, the second and later ones when a file is there."""

    def process(self, text: Text) -> Iterator[str]:
        path, *words = text.text.split()
        deadline = time.monotonic() + 10
        for place, word in enumerate(words):
            while place > 0 and not Path(path).exists():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} did not come")
                time.sleep(0.002)
            yield word

    def flush(self) -> str:
        return "over"


class Mix(Node):
    """Says what came on its two inputs."""

    def process(self, left: Text, right: Text) -> str:
        return f"{left.text}+{right.text}"
