"""Finds faces: ``python -m remotemedia.worker remotemedia.nodes.face_detector``.

Wants the extra ``face-detector``, which brings OpenCV below 5: its package ships the cascade.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from ..data import Json, Video
from ..node import Node, Range
from .extras import MissingExtraError, load

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CASCADE = "haarcascade_frontalface_default.xml"


class FaceDetector(Node):
    """Finds faces that look into the camera, and gives their boxes as JSON, in pixels of the picture."""

    aliases = ("FaceDetectorNode",)
    repeatable = True
    stateless = True

    cv2: ClassVar[Any]
    cascade: ClassVar[str]

    def __init__(
        self,
        *,
        min_size: Annotated[int, Range(min=20, max=16_384, unit="px")] = 40,
        scale_factor: Annotated[float, Range(min=1.01, max=2)] = 1.1,
        min_neighbors: Annotated[int, Range(min=0, max=100)] = 5,
    ) -> None:
        self._min_size = min_size
        self._scale_factor = scale_factor
        self._min_neighbors = min_neighbors
        # One for each session: it keeps the picture it works on.
        self._classifier = self.cv2.CascadeClassifier(self.cascade)

    @classmethod
    def setup(cls) -> None:
        cls.cv2 = load("cv2", node=cls.__name__, extra="face-detector")
        cls.cascade = str(Path(cls.cv2.__file__).parent / "data" / CASCADE)
        if not Path(cls.cascade).is_file():
            remedy = "pip install './python-nodes[face-detector]', since OpenCV 5 ships no cascades"
            raise MissingExtraError(node=cls.__name__, module=f"cv2 with {CASCADE}", remedy=remedy)
        # Sessions have the processors: more threads for a picture would take them from each other.
        cls.cv2.setNumThreads(1)

    def process(self, video: Video) -> Json:
        boxes, _, weights = self._classifier.detectMultiScale3(
            self._gray(video),
            scaleFactor=self._scale_factor,
            minNeighbors=self._min_neighbors,
            minSize=(self._min_size, self._min_size),
            outputRejectLevels=True,
        )
        found = sorted(zip(boxes, weights, strict=True), key=lambda face: -float(face[1]))
        return Json(
            value={
                "faces": [_face(box, float(weight)) for box, weight in found],
                "width": video.width,
                "height": video.height,
                "frame_number": video.frame_number,
            }
        )

    def _gray(self, video: Video) -> NDArray[np.uint8]:
        match video.format:
            case "RGB24":
                return self.cv2.cvtColor(video.pixels, self.cv2.COLOR_RGB2GRAY)
            case "RGBA32":
                return self.cv2.cvtColor(video.pixels, self.cv2.COLOR_RGBA2GRAY)
            case "GRAY8" | "YUV420P" | "I420" | "NV12":
                # The first plane is how bright it is.
                return video.planes()[0]


def _face(box: NDArray[np.int32], weight: float) -> dict[str, Any]:
    x, y, width, height = (int(side) for side in box)
    return {"x": x, "y": y, "width": width, "height": height, "confidence": round(weight, 3)}
