"""What a node class says of itself, as the gateway is told it."""

from __future__ import annotations

import collections.abc
import inspect
import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from .data import KINDS, Data
from .node import Alias, Context, Node, Output, Range

_INTEGERS = (-(2**63), 2**63 - 1)
_NUMBERS = (-1.7976931348623157e308, 1.7976931348623157e308)
_TEXT_BYTES = 65_536
_MANY = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
    collections.abc.Awaitable,
    collections.abc.Coroutine,
)


class NodeDefinitionError(TypeError):
    """A class cannot be a node as it is written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """A node class, looked at once."""

    node: type[Node]
    inputs: tuple[tuple[str, tuple[type, ...]], ...]
    """The data parameters of ``process`` and the classes each takes; no classes mean any."""
    needed: frozenset[str]
    """Those of them without which ``process`` is not called."""
    context: str | None
    """The parameter of ``process`` that takes the context."""
    produces: tuple[type, ...]
    parameters: tuple[dict[str, Any], ...]

    def to_json(self) -> str:
        """The form that the native module reads."""
        first, *others = self.inputs
        ports = self.inputs if others else ()
        document = {
            "name": self.node.__name__,
            "aliases": list(self.node.aliases),
            "summary": _summary(self.node),
            "accepts": [] if ports else _kinds(first[1]),
            "ports": [{"name": name, "accepts": _kinds(classes)} for name, classes in ports],
            "produces": _kinds(self.produces),
            "parameters": list(self.parameters),
            "repeatable": self.node.repeatable,
            "stateless": self.node.stateless,
        }
        return json.dumps(document)


def spec_of(node: type[Node]) -> Spec:
    """Looks at a class; raises `NodeDefinitionError` with what is wrong."""
    process = getattr(node, "process", None)
    if not callable(process):
        raise NodeDefinitionError(f"{node.__name__} has no process method: def process(self, data: Audio) -> Audio")
    hints = _hints(node, process)
    inputs: list[tuple[str, tuple[type, ...]]] = []
    needed: set[str] = set()
    context: str | None = None
    for parameter in _parameters(process):
        hint = hints.get(parameter.name, Any)
        if hint is Context:
            context = parameter.name
        else:
            inputs.append((parameter.name, _classes(node, parameter.name, hint)))
            if not _may_miss(parameter, hint):
                needed.add(parameter.name)
    if not inputs:
        raise NodeDefinitionError(f"{node.__name__}.process takes no data: def process(self, data: Audio) -> Audio")
    produces = _classes(node, "return", _given(hints.get("return", Any)))
    parameters = tuple(_parameter(node, parameter) for parameter in _params_of_init(node))
    return Spec(
        node=node,
        inputs=tuple(inputs),
        needed=frozenset(needed),
        context=context,
        produces=produces,
        parameters=parameters,
    )


def _may_miss(parameter: inspect.Parameter, hint: Any) -> bool:
    is_optional = get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)
    return is_optional or hint in (Any, object) or parameter.default is not parameter.empty


def _hints(node: type, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise NodeDefinitionError(f"an annotation of {node.__name__}.{function.__name__} cannot be read: {error}") from error


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())[1:]


def _given(hint: Any) -> Any:
    """What comes out of iterators and coroutines."""
    while get_origin(hint) in _MANY:
        arguments = get_args(hint)
        hint = arguments[-1] if get_origin(hint) is collections.abc.Coroutine else arguments[0]
    return hint


def _classes(node: type, name: str, hint: Any) -> tuple[type, ...]:
    if hint == Data:
        return ()
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    found: list[type] = []
    for option in options:
        option = _given(option)
        if option in (Any, Output, object, Data):
            return ()
        if option is str:
            option = next(known for known, kind in KINDS.items() if kind == "text")
        if option is type(None) or option is None:
            continue
        if option not in KINDS:
            known = ", ".join(known.__name__ for known in KINDS)
            raise NodeDefinitionError(f"{node.__name__}.process: {name} is annotated {option!r}: there are {known}")
        found.append(option)
    return tuple(found)


def _kinds(classes: tuple[type, ...]) -> list[str]:
    return sorted({KINDS[known] for known in classes})


def _summary(node: type) -> str:
    return (inspect.getdoc(node) or "").split("\n\n", 1)[0].replace("\n", " ") if node.__doc__ else ""


def _params_of_init(node: type[Node]) -> list[tuple[inspect.Parameter, Any]]:
    init = node.__init__
    if init is object.__init__:
        return []
    hints = _hints(node, init)
    return [(parameter, hints.get(parameter.name, Any)) for parameter in _parameters(init)]


def _parameter(node: type, found: tuple[inspect.Parameter, Any]) -> dict[str, Any]:
    parameter, hint = found
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise NodeDefinitionError(f"{node.__name__}({stars}{parameter.name}): parameters have names of their own")
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    present = [option for option in options if option is not type(None)]
    if len(present) != 1:
        raise NodeDefinitionError(f"{node.__name__}({parameter.name}: {hint!r}): one type, or one or None")
    if parameter.default is parameter.empty:
        absent: Any = "Refused"
    elif parameter.default is None:
        absent = "Unset"
    else:
        absent = {"Default": json.dumps(parameter.default)}
    values = _values(node, parameter.name, present[0])
    aliases = [note.name for note in getattr(present[0], "__metadata__", ()) if isinstance(note, Alias)]
    return {"name": parameter.name, "aliases": aliases, "values": values, "absent": absent, "summary": ""}


def _values(node: type, name: str, hint: Any) -> Any:
    bounds: Range | None = None
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        bounds = next((note for note in notes if isinstance(note, Range)), None)
    if hint is bool:
        return "Boolean"
    if hint is int:
        low, high = (bounds.min, bounds.max) if bounds else _INTEGERS
        return {"Integer": {"min": int(low), "max": int(high), "unit": bounds.unit if bounds else ""}}
    if hint is float:
        low, high = (bounds.min, bounds.max) if bounds else _NUMBERS
        return {"Number": {"min": float(low), "max": float(high), "unit": bounds.unit if bounds else ""}}
    if hint is str:
        return {"Text": {"max_bytes": _TEXT_BYTES}}
    if get_origin(hint) is Literal and all(isinstance(word, str) for word in get_args(hint)):
        return {"Choice": {"of": list(get_args(hint))}}
    raise NodeDefinitionError(
        f"{node.__name__}({name}: {hint!r}): a parameter is int, float, bool, str or a Literal of words"
    )
