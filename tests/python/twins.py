"""Twins of the nodes of the Rust worker under test: what one does, the other does."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from remotemedia import Audio, Context, Data, Json, Node, Output, Range, Text

Count = Annotated[int, Range(min=0, max=2**32 - 1)]


class PyPassThrough(Node):
    """Forwards its input untouched."""

    repeatable = True

    def process(self, data: Data) -> Data:
        return data


class PyMulti(Node):
    """Forwards its input several times."""

    repeatable = True

    def __init__(self, *, outputs: Count) -> None:
        self.outputs = outputs

    def process(self, data: Data) -> Iterator[Data]:
        for _ in range(self.outputs):
            yield data


class PySilent(Node):
    """Takes its input, and gives nothing for it."""

    repeatable = True

    def process(self, data: Data) -> None:
        del data


class PySlow(Node):
    """Forwards its input after a while."""

    repeatable = True

    def __init__(self, *, ms: Annotated[int, Range(min=0, max=2**32 - 1, unit="ms")]) -> None:
        self.ms = ms

    def process(self, data: Data) -> Data:
        time.sleep(self.ms / 1000)
        return data


class PyLiar(Node):
    """Says that it gives audio, and gives text."""

    repeatable = True

    def process(self, data: Data) -> Audio:
        del data
        return "a lie"  # pyright: ignore[reportReturnType]


class PyJoin(Node):
    """Says what came on its ports together."""

    repeatable = True

    def process(self, left: Text, right: Text | None) -> Json:
        return Json(value={"left": left.text, "right": right.text if right else None})


class PyFault(Node):
    """Forwards its input, and goes wrong at one sequence."""

    def __init__(
        self,
        *,
        how: Literal["fail", "panic", "abort", "exit", "wrong_kind", "panic_in_flush", "panic_in_new"],
        at: Count,
    ) -> None:
        self.how = how
        self.at = at
        if how == "panic_in_new":
            raise AssertionError("told to panic when made")

    def process(self, data: Data, ctx: Context) -> Data:
        if ctx.sequence == self.at:
            match self.how:
                case "fail":
                    raise RuntimeError(f"told to fail at {self.at}")
                case "panic":
                    raise AssertionError(f"told to panic at {self.at}")
                case "abort":
                    os.abort()
                case "exit":
                    os._exit(0)
                case "wrong_kind":
                    return Text(text="not what came")
                case "panic_in_flush" | "panic_in_new":
                    pass
        return data

    def flush(self) -> None:
        if self.how == "panic_in_flush":
            raise AssertionError("told to panic in flush")


class PyDiary(Node):
    """Counts its inputs and says what it was told of each."""

    def __init__(self, *, path: str) -> None:
        self.path = Path(path)
        self.inputs = 0

    def open(self, session: str) -> None:
        del session
        self.write("open")

    def process(self, text: Text, ctx: Context) -> Output:
        self.write(f"process {text.text}")
        self.inputs += 1
        said = {
            "inputs": self.inputs,
            "sequence": ctx.sequence,
            "timestamp_us": ctx.timestamp_us,
            "metadata": dict(ctx.metadata),
        }
        return Output(data=Json(value=said))

    def flush(self) -> Json:
        self.write("flush")
        return Json(value={"inputs": self.inputs, "over": True})

    def close(self) -> None:
        self.write("close")

    def write(self, line: str) -> None:
        with self.path.open("a") as diary:
            diary.write(f"{line}\n")
