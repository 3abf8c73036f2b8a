"""A node that takes as long to load as a test wants."""

import os
import time
from pathlib import Path

from remotemedia import Node, Text


class Sluggish(Node):
    """Says a text again, when it has loaded."""

    @classmethod
    def setup(cls) -> None:
        gate = Path(os.environ["TEST_DIR"]) / "loaded"
        deadline = time.monotonic() + 60
        while not gate.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{gate} did not come")
            time.sleep(0.005)

    def process(self, text: Text) -> Text:
        return text
