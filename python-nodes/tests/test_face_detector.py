"""A face is found in a real photograph, where the extra and the picture are installed."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from remotemedia import Json, Video
from remotemedia.data import Data
from remotemedia.testing import Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

for needed in ("cv2", "skimage"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)

from remotemedia.nodes.face_detector import FaceDetector

cv2: Any = importlib.import_module("cv2")


def picture(name: str) -> NDArray[np.uint8]:
    """A photograph of scikit-image's, as RGB. The package is looked for and not imported: that would want scipy."""
    package = importlib.util.find_spec("skimage")
    assert package is not None and package.submodule_search_locations
    pixels = cv2.imread(str(Path(package.submodule_search_locations[0]) / "data" / f"{name}.png"))
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def video(pixels: NDArray[np.uint8], pixel_format: Any) -> Video:
    converted = {
        "RGB24": lambda: pixels,
        "RGBA32": lambda: cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA),
        "GRAY8": lambda: cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY),
        "I420": lambda: cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420).reshape(-1),
        "YUV420P": lambda: cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420).reshape(-1),
        # The second plane says nothing of brightness: here it holds no colour.
        "NV12": lambda: np.concatenate(
            [cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).reshape(-1), np.full(pixels.size // 6, 128, np.uint8)]
        ),
    }
    height, width = pixels.shape[:2]
    data = converted[pixel_format]()
    return Video(pixels=data, format=pixel_format, width=width, height=height, frame_number=7)


def report(given: list[Data]) -> dict[str, Any]:
    [data] = given
    assert isinstance(data, Json)
    return data.value


@pytest.mark.parametrize("pixel_format", ["RGB24", "RGBA32", "GRAY8", "I420", "YUV420P", "NV12"])
def test_the_astronauts_face_is_found_where_it_is_in_every_format(pixel_format: str) -> None:
    with Trial(FaceDetector) as node:
        found = report(node.process(video(picture("astronaut"), pixel_format)))
    assert (found["width"], found["height"], found["frame_number"]) == (512, 512, 7)
    [face] = found["faces"]
    # Her eyes and mouth, as a person sees them in the picture.
    for x, y in ((204, 108), (245, 108), (226, 150)):
        assert face["x"] < x < face["x"] + face["width"] and face["y"] < y < face["y"] + face["height"]
    assert 80 <= face["width"] <= 120 and face["confidence"] > 1


def test_no_face_is_found_where_there_is_none_or_none_so_large() -> None:
    coffee = video(picture("coffee"), "RGB24")
    with Trial(FaceDetector, min_neighbors=8) as node:
        assert report(node.process(coffee))["faces"] == []
    with Trial(FaceDetector, min_size=200) as node:
        assert report(node.process(video(picture("astronaut"), "GRAY8")))["faces"] == []


def test_a_picture_smaller_than_any_face_has_none() -> None:
    with Trial(FaceDetector) as node:
        assert report(node.process(video(np.zeros((9, 7, 3), np.uint8), "RGB24")))["faces"] == []
