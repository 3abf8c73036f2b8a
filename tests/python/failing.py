"""Nodes that go wrong on command."""

import ctypes
import os
import signal
import sys

from remotemedia import Audio, Data, Node, Text


class Bad(Node):
    """Does what the text says."""

    def process(self, text: Text) -> Data:
        match text.text:
            case "raise":
                self.deeper()
            case "type":
                return Audio(samples=text, sample_rate=1)  # pyright: ignore
            case "number":
                return 7  # pyright: ignore
            case "exit":
                print("these are my last words", file=sys.stderr, flush=True)
                os._exit(7)
            case "segv":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "system exit":
                sys.exit("told to leave")
            case _:
                pass
        return text

    def deeper(self) -> None:
        raise LookupError("told to fail") from ZeroDivisionError("the cause")


class Unmade(Node):
    """Cannot be made."""

    def __init__(self, *, reason: str) -> None:
        raise OSError(reason)

    def process(self, text: Text) -> Text:
        return text
