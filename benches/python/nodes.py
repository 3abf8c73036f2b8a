"""Nodes that are measured."""

import time
from collections.abc import Iterator

from remotemedia import Data, Node, Text


class PyPass(Node):
    """Forwards its input untouched."""

    repeatable = True

    def process(self, data: Data) -> Data:
        return data


class PassInside(PyPass):
    """The same, in the process of a node that is stuck."""


class Burn(Node):
    """Computes, in Python alone, for as many steps as the text says."""

    def process(self, text: Text) -> str:
        total = 0
        for number in range(int(text.text)):
            total = (total * 31 + number) % 1_000_003
        return str(total)


class BurnAlone(Burn):
    """For a process that has all sessions."""


class BurnBeside(Burn):
    """For processes that share the sessions."""


class Hold(Node):
    """Says so, and computes for about as many seconds as the text says without ever letting go of the interpreter's lock."""

    PROBE = 3_000_000

    def process(self, text: Text) -> Iterator[str]:
        begin = time.perf_counter()
        # One call of a function in C: nothing in it gives the lock to another thread.
        sum(range(self.PROBE))
        steps_per_second = self.PROBE / (time.perf_counter() - begin)
        yield "begun"
        sum(range(int(steps_per_second * float(text.text))))
        yield "over"
