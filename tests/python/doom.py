"""The twin of the worker under test's `Doom`: ends its process, or worse, on command."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from remotemedia import Audio, Context, Data, Node, Range

Fault = Literal[
    "none",
    "panic",
    "abort",
    "segv",
    "kill",
    "stop",
    "spin",
    "hold",
    "memory",
    "exit",
    "flood",
    "orphan",
    "descriptors",
]
When = Literal["made", "input", "holding", "output", "flush", "drop", "left_behind"]

LONG = 30.0
MADE_SAMPLES = 16_384


class PyDoom(Node):
    """Forwards its input, and does what no node should."""

    def __init__(
        self,
        *,
        fault: Fault = "none",
        when: When = "input",
        at: Annotated[int, Range(min=0, max=2**32 - 1)] = 0,
        gate: str | None = None,
        once: str | None = None,
    ) -> None:
        self.fault: Fault = fault
        self.when: When = when
        self.at = at
        self.gate = gate
        self.once = once
        self.inputs = 0
        self.kept: list[object] = []
        self.moment("made")

    def process(self, data: Data, ctx: Context) -> Iterator[Data]:
        place = self.inputs
        self.inputs += 1
        if self.when == "holding":
            self.kept.append(data)
            if place == self.at:
                self.kept.append(ctx.loan((MADE_SAMPLES,), np.float32))
                self.commit()
        if place == self.at:
            self.moment("input")
        if self.when == "output" and place == 0:
            for _ in range(self.at - 1):
                yield self.made(ctx)
            self.commit()
        yield data

    def flush(self) -> None:
        self.moment("flush")

    def close(self) -> None:
        self.moment("drop")
        if self.when == "left_behind":
            threading.Thread(target=self.commit_behind_the_gate, daemon=True).start()

    def made(self, ctx: Context) -> Audio:
        samples = ctx.loan((MADE_SAMPLES,), np.float32)
        samples[:] = 7
        return Audio(samples=samples, sample_rate=16_000)

    def commit_behind_the_gate(self) -> None:
        deadline = time.monotonic() + LONG
        while self.gate is not None and not Path(self.gate).exists():
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        self.commit()

    def moment(self, moment: When) -> None:
        if self.when == moment:
            self.commit()

    def commit(self) -> None:
        if self.once is not None:
            try:
                mark = open(self.once, "x")
            except FileExistsError:
                return
            with mark:
                # The clock is one for all processes.
                mark.write(f"{time.monotonic_ns()} {os.getpid()}")
        self.do()

    def do(self) -> None:
        match self.fault:
            case "none":
                pass
            case "panic":
                raise AssertionError("told to panic")
            case "abort":
                os.abort()
            case "segv":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                # To this thread: one that is sent to the process may be taken by another, some time later.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            case "spin":
                while True:
                    pass
            case "hold":
                # In one call of C, which keeps the interpreter's lock to its end, and that is far.
                sum(range(10**13))
            case "memory":
                while True:
                    self.kept.append(b"x" * (1 << 20))
            case "exit":
                os._exit(0)
            case "flood":
                line = "x" * 1_023
                for _ in range(4_096):
                    print(line, file=sys.stderr)
                print("that was the flood", file=sys.stderr)
            case "orphan":
                leave_an_orphan()
            case "descriptors":
                take_all_descriptors()


class PyRepeatableDoom(PyDoom):
    """The same, and says of itself that it may be run again."""

    repeatable = True


def take_all_descriptors() -> None:
    """A few hundred, for that is then all there are; to the end of the process, whatever becomes of the node."""
    few = 512
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    taken: list[object] = []

    def take() -> None:
        try:
            while True:
                taken.append(open("/dev/null"))
        except OSError:
            return

    def take_what_comes_free() -> None:
        while True:
            take()
            time.sleep(0.002)

    take()
    threading.Thread(target=take_what_comes_free, daemon=True).start()


def leave_an_orphan() -> None:
    """A child that has all that its parent has, and outlives it."""
    if os.fork() == 0:
        time.sleep(LONG)
        os._exit(0)
    os.abort()
