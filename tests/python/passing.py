"""Forwards: what every Python worker under test has beside its own nodes."""

from remotemedia import Data, Node


class PyPass(Node):
    """Forwards its input untouched."""

    repeatable = True

    def process(self, data: Data) -> Data:
        return data
