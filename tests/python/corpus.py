"""Reads the golden corpus."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from remotemedia import Context, Data, Json, Node


class PyTell(Node):
    """Gives what its input says, as the golden corpus has it."""

    repeatable = True

    def process(self, data: Data, ctx: Context) -> Json:
        return Json(value=told(data, ctx.metadata))


class PyAgain(Node):
    """Gives its input made anew from its fields."""

    repeatable = True

    def process(self, data: Data) -> Data:
        return type(data)(**{name: getattr(data, name) for name in data.__slots__})


def told(data: Data, metadata: Mapping[str, str]) -> dict[str, Any]:
    fields = {name: shown(getattr(data, name)) for name in data.__slots__}
    return {"class": type(data).__name__, "fields": fields, "metadata": dict(metadata)}


def shown(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    array = cast("NDArray[Any]", value)
    values = [element(number) for number in array.ravel(order="C").tolist()]
    return {"dtype": array.dtype.name, "shape": list(array.shape), "values": values}


def element(number: Any) -> Any:
    if isinstance(number, complex):
        return [element(number.real), element(number.imag)]
    if isinstance(number, float) and (not np.isfinite(number) or str(number) == "-0.0"):
        return str(number)
    return number
