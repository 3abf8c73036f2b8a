"""A node to begin with: NewNode."""

from typing import Annotated

import numpy as np

from remotemedia import Audio, Json, Node, Range


class NewNode(Node):
    """Says whether audio is loud."""

    def __init__(self, *, threshold: Annotated[float, Range(min=0, max=1)] = 0.25) -> None:
        self.threshold = threshold

    @classmethod
    def setup(cls) -> None:
        """Once in each process: load the model here, into the class."""

    def process(self, audio: Audio) -> Json:
        samples = audio.samples
        full_scale = {"float32": 1.0, "int16": 2.0**15, "int32": 2.0**31}[samples.dtype.name]
        peak = float(np.abs(samples, dtype=np.float64).max(initial=0.0)) / full_scale
        return Json(value={"peak": peak, "loud": peak > self.threshold})
