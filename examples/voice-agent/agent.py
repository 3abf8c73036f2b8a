"""The part of a voice agent that listens: one node, the same before and after."""

import math
from typing import Annotated

import numpy as np

from remotemedia import Audio, Json, Node, Range

LOW_HZ, HIGH_HZ = 100.0, 4_000.0


class Agent(Node):
    """Says of every frame of a call whether somebody speaks.

    Its filters are written in Python, as those of agents often are, and its model is a small one: for every frame it
    holds the interpreter's lock.
    """

    def __init__(self, *, bands: Annotated[int, Range(min=2, max=10_000)] = 200) -> None:
        """The more bands, the more work for each frame."""
        self.frequencies = [LOW_HZ * (HIGH_HZ / LOW_HZ) ** (band / (bands - 1)) for band in range(bands)]
        generator = np.random.default_rng(seed=4)
        self.weights = generator.standard_normal((bands, 16), np.float32) / np.float32(math.sqrt(bands))
        self.state = np.zeros(16, np.float32)

    def process(self, audio: Audio) -> Json:
        samples: list[float] = audio.samples[:, 0].tolist()
        energies = [self.energy(samples, frequency / audio.sample_rate) for frequency in self.frequencies]
        features = np.log1p(np.asarray(energies, np.float32))
        self.state = np.tanh(features @ self.weights + np.float32(0.5) * self.state)
        return Json(value={"speech": float(np.abs(self.state).mean())})

    def energy(self, samples: list[float], cycles: float) -> float:
        """How much there is of one frequency, by Goertzel's recurrence."""
        coefficient = 2.0 * math.cos(2.0 * math.pi * cycles)
        last = before = 0.0
        for sample in samples:
            last, before = sample + coefficient * last - before, last
        return last * last + before * before - coefficient * last * before
