"""Runs a node in this process, on data given by a test: no gateway, no worker, no shared memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import Any, Self

from . import _native
from ._driver import factory
from ._spec import spec_of
from .data import Data
from .node import Node, Output


class Trial:
    """One node in one session.

    Parameters are checked as those of a manifest are, and what the node gives is checked as a worker does.

    >>> with Trial(Gain, factor=2.0) as gain:
    ...     [louder] = gain.process(Audio(samples=samples, sample_rate=16_000))
    """

    def __init__(self, node: type[Node], /, **params: Any) -> None:
        spec = spec_of(node)
        _set_up(node)
        self._native = _native.Trial(spec.to_json(), factory(spec), json.dumps(params))
        self._sequence = 0

    def process(
        self,
        data: Data | str | None = None,
        /,
        *,
        timestamp_us: int | None = None,
        metadata: Mapping[str, str] | None = None,
        **ports: Data | str,
    ) -> list[Data]:
        """Hands one piece to the node, or one by port to a node that has several, and gives what came of it."""
        given = self._call(data, timestamp_us, metadata, ports)
        return [data for data, _, _ in given]

    def outputs(
        self,
        data: Data | str | None = None,
        /,
        *,
        timestamp_us: int | None = None,
        metadata: Mapping[str, str] | None = None,
        **ports: Data | str,
    ) -> list[Output]:
        """As `process`, with what is said about each output."""
        given = self._call(data, timestamp_us, metadata, ports)
        return [Output(data=data, metadata=said, timestamp_us=time) for data, said, time in given]

    def flush(self) -> list[Data]:
        """Tells the node that its input has ended."""
        return [data for data, _, _ in self._native.flush()]

    def _call(
        self,
        data: Data | str | None,
        timestamp_us: int | None,
        metadata: Mapping[str, str] | None,
        ports: Mapping[str, Data | str],
    ) -> list[tuple[Data, dict[str, str], int | None]]:
        inputs = list(ports.items()) if data is None else [("", data)]
        sequence, self._sequence = self._sequence, self._sequence + 1
        return self._native.process(inputs, sequence, timestamp_us, dict(metadata or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._native


@cache
def _set_up(node: type[Node]) -> None:
    """Once in each process, as a worker does."""
    node.setup()
