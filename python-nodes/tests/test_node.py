"""Nodes of every manner of writing, run as a worker runs them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from remotemedia import (
    Audio,
    Binary,
    Context,
    Control,
    Data,
    EncodedVideo,
    File,
    Json,
    Node,
    Numpy,
    Output,
    Tensor,
    Text,
    Video,
)
from remotemedia.testing import Trial


class Pass(Node):
    """Forwards its input."""

    def process(self, data: Data) -> Data:
        return data


class Again(Node):
    """Gives what it got, made anew from its fields."""

    def process(self, data: Data) -> Data:
        return type(data)(**{name: getattr(data, name) for name in data.__slots__})


def audio(frames: int, channels: int = 1) -> Audio:
    samples = np.arange(frames * channels, dtype=np.float32).reshape(frames, channels)
    return Audio(samples=samples, sample_rate=16_000)


PIECES: list[Data] = [
    audio(7, 2),
    Audio(samples=np.array([[1], [-2]], np.int16), sample_rate=8_000),
    Video(pixels=np.arange(18, dtype=np.uint8).reshape(2, 3, 3), format="RGB24", width=3, height=2, frame_number=4),
    Video(pixels=np.arange(17, dtype=np.uint8), format="I420", width=3, height=3),
    EncodedVideo(data=np.arange(5, dtype=np.uint8), codec="VP8", width=3, height=2, keyframe=True),
    Tensor(array=np.ones((2, 0, 3), np.float16), layout="NCH"),
    Tensor(array=np.array(3, np.int32)),
    Json(value={"a": [1, 2.5, None, "ü"]}, schema="s"),
    Text(text="grüß", language="de", channel="x"),
    Binary(data=np.arange(3, dtype=np.uint8), mime_type="image/png"),
    Control(word="batch_hint", numbers=(3,), segment_id="s", timestamp_ms=5),
    Numpy(array=np.arange(6, dtype=np.complex128).reshape(2, 3)),
    File(path="/media/x.wav", offset=1, length=2, size=9, filename="x.wav", mime_type="audio/wav"),
]


def fields(data: Data) -> dict[str, object]:
    told: dict[str, object] = {}
    for name in data.__slots__:
        value = getattr(data, name)
        if isinstance(value, np.ndarray):
            array = cast("NDArray[Any]", value)
            value = (array.dtype.str, array.shape, array.tobytes())
        told[name] = value
    return told


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: type(piece).__name__)
@pytest.mark.parametrize("node", [Pass, Again])
def test_every_kind_comes_back_as_it_went_out(node: type[Node], piece: Data) -> None:
    with Trial(node) as trial:
        [came] = trial.process(piece)
    assert type(came) is type(piece)
    assert fields(came) == fields(piece)


def test_inputs_are_read_only_and_outlive_their_call() -> None:
    class Keep(Node):
        kept: Audio

        def process(self, data: Audio) -> None:
            with pytest.raises(ValueError, match="read-only"):
                data.samples[0] = 1
            Keep.kept = data

    with Trial(Keep) as trial:
        assert trial.process(audio(1_000)) == []
    gc.collect()
    assert (Keep.kept.samples == audio(1_000).samples).all()


def test_a_loan_and_a_slice_of_the_input_are_sent_as_they_are() -> None:
    class Half(Node):
        def process(self, data: Audio, ctx: Context) -> Iterator[Audio]:
            yield Audio(samples=data.samples[3:7], sample_rate=data.sample_rate)
            out = ctx.loan(data.samples.shape, np.float32)
            np.multiply(data.samples, 2, out=out)
            yield Audio(samples=out, sample_rate=data.sample_rate)
            with pytest.raises(ValueError, match="read-only"):
                out[0] = 7

    with Trial(Half) as trial:
        part, doubled = trial.process(audio(10))
    assert isinstance(part, Audio) and isinstance(doubled, Audio)
    assert part.samples[:, 0].tolist() == [3, 4, 5, 6]
    assert (doubled.samples == 2 * audio(10).samples).all()


def test_an_array_that_does_not_lie_in_one_piece_is_copied() -> None:
    class Every(Node):
        def process(self, data: Audio) -> Audio:
            return Audio(samples=data.samples[::2], sample_rate=data.sample_rate)

    with Trial(Every) as trial:
        [came] = trial.process(audio(9, 2))
    assert isinstance(came, Audio)
    assert (came.samples == audio(9, 2).samples[::2]).all()


def test_nothing_one_many_and_what_is_asynchronous_are_outputs() -> None:
    class Manner(Node):
        def __init__(self, *, how: str) -> None:
            self.how = how

        def process(self, data: Text) -> Iterator[str] | str | None:
            match self.how:
                case "none":
                    return None
                case "one":
                    return data.text
                case _:
                    return iter(data.text)

        def flush(self) -> str:
            return "end"

    class Later(Node):
        async def process(self, data: Text) -> str:
            await asyncio.sleep(0)
            return data.text

    class LaterMany(Node):
        async def process(self, data: Text) -> AsyncIterator[str]:
            for word in data.text:
                await asyncio.sleep(0)
                yield word

    def words(trial: Trial) -> list[str]:
        given = [*trial.process("ab"), *trial.flush()]
        return [data.text for data in given if isinstance(data, Text)]

    assert words(Trial(Manner, how="none")) == ["end"]
    assert words(Trial(Manner, how="one")) == ["ab", "end"]
    assert words(Trial(Manner, how="many")) == ["a", "b", "end"]
    assert words(Trial(Later)) == ["ab"]
    assert words(Trial(LaterMany)) == ["a", "b"]


def test_outputs_have_the_metadata_of_their_input_unless_they_say_other() -> None:
    class Said(Node):
        def process(self, data: Text, ctx: Context) -> Iterator[Output | str]:
            yield f"{ctx.node} {ctx.sequence} {ctx.timestamp_us} {dict(ctx.metadata)}"
            yield Output(data="x", metadata={"k": "w"}, timestamp_us=9)

    with Trial(Said) as trial:
        first, second = trial.outputs("a", timestamp_us=5, metadata={"k": "v"})
    assert isinstance(first.data, Text) and first.data.text == "Said 0 5 {'k': 'v'}"
    assert (first.metadata, second.metadata, second.timestamp_us) == ({"k": "v"}, {"k": "w"}, 9)


def test_named_inputs_come_by_name() -> None:
    class Mix(Node):
        def process(self, left: Text, right: Text | None) -> str:
            return f"{left.text}+{right.text if right else 'nothing'}"

    with Trial(Mix) as trial:
        given = trial.process(right="r", left="l") + trial.process(left="l")
        with pytest.raises(ValueError, match="nothing came on input 'left' for sequence 2"):
            trial.process(right="r")
    assert [data.text for data in given if isinstance(data, Text)] == ["l+r", "l+nothing"]


def test_what_goes_wrong_is_told_with_its_traceback() -> None:
    class Bad(Node):
        def process(self, data: Text) -> Data:
            if data.text == "kind":
                return object()  # pyright: ignore[reportReturnType]
            if data.text == "dtype":
                return Audio(samples=np.zeros(3), sample_rate=1)  # pyright: ignore[reportArgumentType]
            raise LookupError(f"told to fail by {data.text}")

    trial = Trial(Bad)
    for word, expected in (
        ("me", "LookupError: told to fail by me"),
        ("kind", "a node gives Audio, Video"),
        ("dtype", "audio samples are float32, int16 or int32, got dtype 'f8'"),
    ):
        with pytest.raises(ValueError, match=expected):
            trial.process(word)
    with pytest.raises(ValueError, match="test_node.py"):
        trial.process("me")


def test_parameters_are_checked_as_those_of_a_manifest() -> None:
    class Timed(Node):
        def __init__(self, *, milliseconds: int) -> None: ...
        def process(self, data: Text) -> None: ...

    for params, expected in (({}, "'milliseconds' is missing"), ({"milliseconds": "1"}, "allowed is integer")):
        with pytest.raises(ValueError, match=expected):
            Trial(Timed, **params)


def test_open_and_close_are_called_once_around_all() -> None:
    said: list[str] = []

    class Life(Node):
        @classmethod
        def setup(cls) -> None:
            said.append("setup")

        def open(self, session: str) -> None:
            said.append("open")

        def process(self, data: Text) -> None:
            said.append("process")

        def flush(self) -> None:
            said.append("flush")

        def close(self) -> None:
            said.append("close")

    with Trial(Life) as trial:
        trial.process("a")
        trial.flush()
    assert said == ["setup", "open", "process", "flush", "close"]
