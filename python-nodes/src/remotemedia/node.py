"""What a node's author writes: a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .data import Data

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ._native import Context as NativeContext


class Node:
    """The base of all nodes.

    The constructor's parameters are the node's parameters in manifests: annotated with ``int``, ``float``, ``bool``,
    ``str``, a ``Literal`` of words, one of these ``| None``, or ``Annotated`` with a `Range`. They are checked before
    the node is made.

    ``process`` takes data, as annotated, and optionally a `Context`. It gives nothing, one piece of data, or an
    iterator of pieces; it may be a coroutine or an asynchronous generator. Several data parameters are the node's
    named inputs.
    """

    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of the type in manifests."""
    repeatable: ClassVar[bool] = False
    """Whether the same input through a fresh node gives the same output, and has no effect elsewhere, so that work may be
    done again when a worker dies. A node that is not is called at most once for an input."""
    stateless: ClassVar[bool] = False
    """Whether what it gives for an input depends on that input alone, and its flush gives nothing: a stream goes on with
    a fresh node where another has died."""

    @classmethod
    def setup(cls) -> None:
        """Once in each process, before the first session: load models here, into the class."""

    def open(self, session: str) -> None:
        """Before the first input. ``session`` is its name in logs and errors."""

    def flush(self) -> Any:
        """The input has ended: gives what was kept back, as ``process`` does."""

    def close(self) -> None:
        """After the last call, however the session ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """The numbers that a parameter may be, both ends included."""

    min: float
    max: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name of a parameter, in manifests that exist: the same value means the same."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """Data with what is said about it, where that differs from the input's."""

    data: Data | str
    """A str is a `Text`."""
    metadata: Mapping[str, str] | None = None
    """None: that of the input."""
    timestamp_us: int | None = None
    """None: that of the input."""

    _is_output: ClassVar[bool] = True


@dataclass(kw_only=True, slots=True)
class Context:
    """What the node works on, and where it gets memory."""

    session: str
    """The session's name in logs and errors."""
    node: str
    """The node's id in its pipeline."""
    sequence: int = 0
    """The input's sequence number."""
    timestamp_us: int | None = None
    """The input's presentation time in microseconds, if it has one."""
    metadata: Mapping[str, str]
    """The input's metadata."""
    native: NativeContext

    def loan(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A writable array in shared memory, not zeroed. Given as output, it is sent without a copy, and is read-only
        from then on.

        Raises `MemoryError` if nothing so large exists, or nothing comes free in time.
        """
        import math

        import numpy as np

        kind = np.dtype(dtype)
        extent = (shape,) if isinstance(shape, int) else shape
        return np.ndarray(extent, kind, self.native.loan(kind.itemsize * math.prod(extent)))  # pyright: ignore[reportArgumentType]

    def working(self) -> None:
        """Says that the node is at work on its input and will go on. Where the client has set no time for it, that begins
        anew, up to what the service allows at most (30 s). Call it from time to time in what takes seconds.

        Raises `RuntimeError` outside `process` and `flush`.
        """
        self.native.working()
