"""What flows between nodes: one frozen class a kind.

Arrays of received data look into shared memory: they are read-only, and stay valid as long as they are kept, because
each holds its lease. An array that is given back, or a slice of it along its first axis, is sent on without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples: TypeAlias = NDArray[np.float32] | NDArray[np.int16] | NDArray[np.int32]
    Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Audio:
    """Audio samples."""

    samples: Samples
    """Of shape (frames, channels): float32 with full scale at ±1, int16 or int32. One dimension is taken for mono."""
    sample_rate: int
    """Frames per second."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Video:
    """One picture as raw pixels."""

    pixels: Bytes
    """RGB24: (height, width, 3). RGBA32: (height, width, 4). GRAY8: (height, width). The others: flat, see `planes`."""
    format: Literal["RGB24", "RGBA32", "YUV420P", "I420", "GRAY8", "NV12"]
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    frame_number: int = 0
    """Pictures before it."""
    timestamp_us: int = 0
    """Presentation time in microseconds."""

    def planes(self) -> tuple[Bytes, ...]:
        """The planes as views: (Y, U, V), or (Y, UV) of NV12 with (…, 2), or the packed pixels alone."""
        if self.format not in ("YUV420P", "I420", "NV12"):
            return (self.pixels,)
        chroma = ((self.height + 1) // 2, (self.width + 1) // 2)
        luma_bytes, chroma_bytes = self.height * self.width, chroma[0] * chroma[1]
        flat = self.pixels.reshape(-1)
        luma = flat[:luma_bytes].reshape(self.height, self.width)
        if self.format == "NV12":
            return luma, flat[luma_bytes:].reshape(*chroma, 2)
        first = flat[luma_bytes : luma_bytes + chroma_bytes].reshape(chroma)
        return luma, first, flat[luma_bytes + chroma_bytes :].reshape(chroma)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EncodedVideo:
    """One picture as a codec left it."""

    data: Bytes
    """The bit stream; empty where the encoder dropped the picture."""
    codec: Literal["VP8", "H264", "AV1"]
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    keyframe: bool = False
    """Whether it decodes without any other."""
    frame_number: int = 0
    """Pictures before it."""
    timestamp_us: int = 0
    """Presentation time in microseconds."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tensor:
    """A dense array of numbers."""

    array: NDArray[Any]
    """float32, float16, int32, int8 or uint8."""
    layout: str = ""
    """What the dimensions stand for, such as NCHW, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Json:
    """A JSON document."""

    value: Any
    """As `json.loads` gives it."""
    schema: str = ""
    """The schema's name, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Text."""

    text: str
    language: str = ""
    """ISO 639-1, or nothing."""
    channel: str = ""
    """The text channel it belongs to, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Binary:
    """Bytes that no node looks into by itself."""

    data: Bytes
    mime_type: str = ""
    """What they are, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A word between nodes."""

    word: Literal["cancel_speculation", "batch_hint", "deadline_warning"]
    numbers: tuple[int, ...]
    """cancel_speculation: begin and end. batch_hint: how many pieces. deadline_warning: microseconds left."""
    segment_id: str = ""
    timestamp_ms: int = 0
    """When it was made, in milliseconds since the Unix epoch."""
    annotations: str = ""
    """One JSON object, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Numpy:
    """An array with strides."""

    array: NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file, by reference."""

    path: str
    offset: int = 0
    length: int = 0
    """From the offset; 0 is all to its end."""
    size: int = 0
    """Of the whole file."""
    filename: str = ""
    mime_type: str = ""
    stream_id: str = ""


Data: TypeAlias = Audio | Video | EncodedVideo | Tensor | Json | Text | Binary | Control | Numpy | File
"""Any kind."""

KINDS: dict[type, str] = {
    Audio: "audio",
    Video: "video",
    EncodedVideo: "video",
    Tensor: "tensor",
    Json: "json",
    Text: "text",
    Binary: "binary",
    Control: "control",
    Numpy: "numpy",
    File: "file",
}
"""What manifests, errors and metrics call them."""
