"""What a class says of itself, and what is said of a class that cannot be a node."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

import pytest

from remotemedia import Alias, Audio, Context, Data, Json, Node, Output, Range, Text
from remotemedia._spec import NodeDefinitionError, spec_of


class Gain(Node):
    """Makes audio louder
    or softer.

    By a factor.
    """

    def __init__(
        self,
        *,
        factor: Annotated[float, Range(min=0, max=16, unit="times")],
        mode: Literal["hard", "soft"] = "soft",
        frames: int = 3,
        name: str | None = None,
        loud: bool = False,
    ) -> None: ...

    def process(self, audio: Audio, ctx: Context) -> Audio | None: ...


def told(node: type[Node]) -> dict[str, Any]:
    return json.loads(spec_of(node).to_json())


def test_a_class_tells_its_kinds_and_its_parameters() -> None:
    said = told(Gain)
    assert (said["name"], said["summary"]) == ("Gain", "Makes audio louder or softer.")
    assert (said["accepts"], said["produces"], said["ports"]) == (["audio"], ["audio"], [])
    parameters = {parameter["name"]: (parameter["values"], parameter["absent"]) for parameter in said["parameters"]}
    assert parameters == {
        "factor": ({"Number": {"min": 0.0, "max": 16.0, "unit": "times"}}, "Refused"),
        "mode": ({"Choice": {"of": ["hard", "soft"]}}, {"Default": '"soft"'}),
        "frames": ({"Integer": {"min": -(2**63), "max": 2**63 - 1, "unit": ""}}, {"Default": "3"}),
        "name": ({"Text": {"max_bytes": 65_536}}, "Unset"),
        "loud": ("Boolean", {"Default": "false"}),
    }
    assert spec_of(Gain).context == "ctx"


def test_kinds_are_found_in_unions_iterators_and_coroutines() -> None:
    class Many(Node):
        def process(self, data: Audio | Text) -> Iterator[Json]: ...

    class Async(Node):
        async def process(self, data: str) -> Json | str: ...

    class AsyncMany(Node):
        async def process(self, data: Data) -> AsyncIterator[Text]:
            yield Text(text="")

    class Free(Node):
        def process(self, data: Data) -> Output | None: ...

    kinds = [(said["accepts"], said["produces"]) for said in map(told, (Many, Async, AsyncMany, Free))]
    assert kinds == [(["audio", "text"], ["json"]), (["text"], ["json", "text"]), ([], ["text"]), ([], [])]


def test_a_parameter_has_the_other_names_that_its_annotation_says() -> None:
    class Quiet(Node):
        def __init__(
            self,
            *,
            pad_ms: Annotated[int, Range(min=0, max=9), Alias("speech_pad_ms"), Alias("padding")] = 1,
            rate: Annotated[int, Alias("sample_rate")] | None = None,
        ) -> None: ...
        def process(self, data: Audio) -> None: ...

    assert [parameter["aliases"] for parameter in told(Quiet)["parameters"]] == [["speech_pad_ms", "padding"], ["sample_rate"]]


def test_several_data_parameters_are_ports() -> None:
    class Mix(Node):
        def process(self, left: Audio, right: Audio, words: Text | None = None) -> Audio: ...

    said = told(Mix)
    assert said["accepts"] == []
    assert said["ports"] == [
        {"name": "left", "accepts": ["audio"]},
        {"name": "right", "accepts": ["audio"]},
        {"name": "words", "accepts": ["text"]},
    ]


def test_a_class_that_cannot_be_a_node_is_told_why() -> None:
    class Silent(Node):
        pass

    class Empty(Node):
        def process(self, ctx: Context) -> None: ...

    class Wrong(Node):
        def process(self, data: dict[str, int]) -> None: ...

    class Listed(Node):
        def __init__(self, *, words: list[str]) -> None: ...
        def process(self, data: Audio) -> None: ...

    class Open(Node):
        def __init__(self, **options: int) -> None: ...
        def process(self, data: Audio) -> None: ...

    for node, expected in (
        (Silent, "Silent has no process method"),
        (Empty, "Empty.process takes no data"),
        (Wrong, "data is annotated dict"),
        (Listed, "Listed(words: list[str]): a parameter is int, float"),
        (Open, "Open(**options): parameters have names of their own"),
    ):
        with pytest.raises(NodeDefinitionError) as error:
            spec_of(node)
        assert expected in str(error.value)
