"""Nodes that end their process, or hold it up, on command."""

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import time

import numpy as np

from remotemedia import Audio, Context, Data, Node, Text


class Doomed(Node):
    """Does what the text says."""

    def process(self, text: Text, ctx: Context) -> Data:
        match text.text.split():
            case ["exit"]:
                print("line one\nthese are my last words", file=sys.stderr, flush=True)
                os._exit(3)
            case ["segv"]:
                ctypes.string_at(0)
            case ["kill"]:
                print("killed by my own hand", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case ["memory"]:
                print("taking all there is", file=sys.stderr, flush=True)
                hoard: list[bytes] = []
                while True:
                    hoard.append(b"x" * (8 << 20))
            case ["hold"]:
                # In one call of C, which keeps the interpreter's lock to its end, and that is far.
                print("counting", file=sys.stderr, flush=True)
                sum(range(10**13))
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["work", seconds]:
                until = time.monotonic() + float(seconds)
                while time.monotonic() < until:
                    time.sleep(0.05)
                    ctx.working()
            case ["flood", mebibytes]:
                line = "x" * 1023
                for _ in range(int(mebibytes) << 10):
                    print(line)
                    print(line, file=sys.stderr)
            case _:
                pass
        return text


class Forking(Node):
    """Keeps its inputs, and forks children that end in one way or another while it does; gives the sum of all."""

    def __init__(self, *, ending: str) -> None:
        self.ending = ending
        self.kept: list[Audio] = []

    def process(self, audio: Audio) -> Text:
        self.kept.append(audio)
        return Text(text=f"{self.child()} {sum(float(np.sum(one.samples)) for one in self.kept)}")

    def child(self) -> int:
        """How it ended: its exit code."""
        if self.ending == "multiprocessing":
            process = multiprocessing.get_context("fork").Process(target=self.let_go)
            process.start()
            process.join()
            assert process.exitcode is not None
            return process.exitcode
        child = os.fork()
        if child == 0:
            self.let_go()
            match self.ending:
                case "exit":
                    sys.exit("the child leaves through the node's call")
                case "return":
                    return -1
                case _:
                    os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def let_go(self) -> None:
        self.kept.clear()
        gc.collect()
