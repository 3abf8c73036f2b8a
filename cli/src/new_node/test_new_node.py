"""NewNode, run as a worker runs it."""

import numpy as np
import pytest
from new_node import NewNode

from remotemedia import Audio, Json
from remotemedia.testing import Trial


def test_loud_audio_is_told_from_quiet_audio() -> None:
    loud, quiet = (np.full((160, 1), peak, np.float32) for peak in (0.5, 0.125))
    with Trial(NewNode) as node:
        given = [
            *node.process(Audio(samples=loud, sample_rate=16_000)),
            *node.process(Audio(samples=quiet, sample_rate=16_000)),
        ]
    assert given == [Json(value={"peak": 0.5, "loud": True}), Json(value={"peak": 0.125, "loud": False})]


def test_a_threshold_that_audio_cannot_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="'threshold' is 2: allowed is number, 0 to 1"):
        Trial(NewNode, threshold=2)
