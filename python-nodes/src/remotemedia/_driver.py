"""Calls nodes as their authors wrote them, for the native module."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from ._spec import Spec
from .data import Data
from .node import Context, Node

if TYPE_CHECKING:
    import asyncio

    from ._native import Context as NativeContext


def factory(spec: Spec) -> Callable[[dict[str, Any], str, str, NativeContext], Driver]:
    """What makes nodes of a class, as the native module calls it."""

    def make(params: dict[str, Any], session: str, node_id: str, native: NativeContext) -> Driver:
        return Driver(spec, spec.node(**params), Context(session=session, node=node_id, metadata={}, native=native))

    return make


class Driver:
    """One node in one session."""

    __slots__ = ("_context", "_names", "_node", "_process", "_spec")

    def __init__(self, spec: Spec, node: Node, context: Context) -> None:
        self._spec = spec
        self._node = node
        self._process: Callable[..., Any] = getattr(node, "process")
        self._context = context
        self._names = tuple(name for name, _ in spec.inputs)
        _finished(node.open(context.session))

    def process(
        self, inputs: dict[str, Data], sequence: int, timestamp_us: int | None, metadata: Mapping[str, str]
    ) -> Any:
        """One call of the node. What came without a port's name is its first input."""
        context = self._context
        context.sequence, context.timestamp_us, context.metadata = sequence, timestamp_us, metadata
        arguments: dict[str, Any] = {}
        for (name, classes), data in zip(self._spec.inputs, self._in_order(inputs)):
            if data is not None and classes and not isinstance(data, classes):
                wanted = " or ".join(taken.__name__ for taken in classes)
                raise TypeError(f"input '{name}' expects {wanted}, got {type(data).__name__}")
            if data is None and name in self._spec.needed:
                raise LookupError(f"nothing came on input '{name}' for sequence {sequence}")
            arguments[name] = data
        if self._spec.context is not None:
            arguments[self._spec.context] = context
        return _finished(self._process(**arguments))

    def flush(self) -> Any:
        """The input has ended."""
        return _finished(self._node.flush())

    def close(self) -> None:
        """Nothing more is called."""
        _finished(self._node.close())

    def _in_order(self, inputs: dict[str, Data]) -> list[Data | None]:
        if len(self._names) == 1:
            return list(inputs.values())
        return [inputs.get(name) for name in self._names]


def _finished(result: Any) -> Any:
    """What a call gives, with all that is asynchronous about it done on the loop of this process."""
    if inspect.iscoroutine(result):
        return _finished(_on_loop(result))
    if inspect.isasyncgen(result):
        return _drained(result)
    return result


def _drained(outputs: AsyncIterator[Any]) -> Iterator[Any]:
    while True:
        try:
            yield _on_loop(_next(outputs))
        except StopAsyncIteration:
            return


async def _next(outputs: AsyncIterator[Any]) -> Any:
    return await anext(outputs)


def _on_loop(work: Coroutine[Any, Any, Any]) -> Any:
    # Here and not above: half of the SDK's import, and most nodes are synchronous.
    import asyncio

    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    import asyncio

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="asyncio", daemon=True).start()
    return loop
