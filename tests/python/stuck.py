"""Nodes of a process whose interpreter is kept from them."""

import ctypes
import os
from collections.abc import Iterator

from remotemedia import Node, Text


class PollFd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


class Stuck(Node):
    """Holds the interpreter's lock until something comes through the pipe that the text names."""

    DEADLINE_MS = 30_000

    def process(self, text: Text) -> Iterator[str]:
        pipe = os.open(text.text, os.O_RDONLY | os.O_NONBLOCK)
        yield "begun"
        wanted = PollFd(pipe, 1, 0)
        # PyDLL and not CDLL: the lock is kept over the call, as in a loop of C code.
        came = ctypes.PyDLL(None).poll(ctypes.byref(wanted), 1, self.DEADLINE_MS)
        os.close(pipe)
        yield "over" if came == 1 else "nothing came"


class Inside(Node):
    """Forwards its input, when it can."""

    def process(self, text: Text) -> Text:
        return text
