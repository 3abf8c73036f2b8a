"""A node that says when it is loaded, so that tests can count it."""

import sys

from remotemedia import Node, Text


class Counted(Node):
    """Passes text on."""

    @classmethod
    def setup(cls) -> None:
        print("counted is loaded", file=sys.stderr, flush=True)

    def process(self, text: Text) -> Text:
        return text
