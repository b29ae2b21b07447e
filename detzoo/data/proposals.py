"""Regions that may hold an object, from the image alone: the input of R-CNN and Fast R-CNN.

A proposer takes an (H, W, 3) uint8 RGB array and gives (P, 4) float32 boxes, xyxy in its pixels,
inside it, each with an area, best first. The same image gives the same boxes.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from detzoo.data.resize import resample

EDGES = ("thinned", "sobel", "canny")


class Proposer(abc.ABC):
    """A way to propose regions.

    parallel: whether several processes are faster than one. uses_pixels: whether the boxes depend
    on the pixels; where only the image's size counts, nothing is decoded and nothing is stored.
    """

    parallel = True
    uses_pixels = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.uses_pixels = vars(cls).get("looks", cls.uses_pixels)  # its earlier name

    @abc.abstractmethod
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (P, 4) float32."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values that identify these proposals; they are the key of the cache."""


class Grid(Proposer):
    """A fixed grid of boxes, for any image: needs no library and almost no time.

    smallest: side of the smallest, as a part of the image's longer side; every further size is
    `growth` times as large, up to the image itself. ratios: height over width. step: from one box
    to the next, as a part of its sides. The order is random but fixed, so that the first n are
    spread over the image and over all sizes.
    """

    parallel = False
    uses_pixels = False

    def __init__(
        self,
        smallest: float = 0.08,
        growth: float = 1.5,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        step: float = 0.4,
    ) -> None:
        if not 0 < smallest <= 1 or growth <= 1 or step <= 0:
            raise ValueError(
                f"grid: smallest {smallest}, growth {growth}, step {step}: need 0 < smallest <= 1, "
                "growth > 1 and step > 0"
            )
        self.smallest, self.growth, self.step = float(smallest), float(growth), float(step)
        self.ratios = tuple(map(float, ratios))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        return _grid(height, width, self.smallest, self.growth, self.ratios, self.step)

    def describe(self) -> dict[str, Any]:
        sizes = {"smallest": self.smallest, "growth": self.growth}
        return {"kind": "grid", **sizes, "ratios": list(self.ratios), "step": self.step}


@lru_cache(maxsize=64)
def _grid(
    height: int,
    width: int,
    smallest: float,
    growth: float,
    ratios: tuple[float, ...],
    step: float,
) -> np.ndarray:
    """Images of one size share one array; do not write into it."""
    longer = max(height, width)
    sizes = 1 + math.floor(math.log(1 / smallest) / math.log(growth) + 1e-9)
    boxes = []
    for side in (longer * smallest * growth**i for i in range(sizes)):
        for ratio in ratios:
            h, w = min(height, side * ratio**0.5), min(width, side / ratio**0.5)
            y, x = (
                np.linspace(0, length - part, 1 + math.ceil((length - part) / (step * part)))
                for length, part in ((height, h), (width, w))
            )
            x1, y1 = (corner.ravel() for corner in np.meshgrid(x, y))
            boxes.append(np.stack([x1, y1, x1 + w, y1 + h], 1))
    unique = np.unique(np.concatenate(boxes).astype(np.float32), axis=0)
    return np.random.default_rng(0).permutation(unique)


class SelectiveSearch(Proposer):
    """Selective search (Uijlings 2013), by OpenCV: similar neighbouring regions are merged step by
    step.

    quality: more colour spaces and groupings, several times the boxes and the time. side: the
    longer side, in pixels, to which larger images are shrunk first; R-CNN searched at a width of
    500. limit: the most boxes. The order is the paper's, larger regions tend to come first, but
    with a fixed seed: OpenCV's own differs from call to call.
    """

    def __init__(self, quality: bool = False, side: int = 320, limit: int = 2000) -> None:
        _opencv()
        self.quality, self.side, self.limit = quality, side, limit

    def __call__(self, image: np.ndarray) -> np.ndarray:
        small = _shrink(image, self.side)
        search = _opencv().ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(small[..., ::-1]))  # BGR
        if self.quality:
            search.switchToSelectiveSearchQuality()
        else:
            search.switchToSelectiveSearchFast()
        found = np.unique(search.process(), axis=0)  # x, y, width, height
        area = found[:, 2].astype(np.int64) * found[:, 3]
        place = np.empty(len(found))
        place[np.argsort(-area, kind="stable")] = np.arange(1, len(found) + 1)
        order = np.argsort(place * np.random.default_rng(0).random(len(found)))
        return _to_image(found[order][: self.limit], small, image)

    def describe(self) -> dict[str, Any]:
        method = {"kind": "selective_search", "quality": self.quality}
        return {**method, "side": self.side, "limit": self.limit}


class EdgeBoxes(Proposer):
    """EdgeBoxes (Zitnick 2014), by OpenCV: a box is good if it holds whole contours.

    edges: the contours, from the gradient's strength. `thinned` has it where no neighbour across
    the edge is stronger, of an image smoothed by a Gaussian of one pixel: a line instead of a band,
    as the paper's edges are (its section 2), though these come from a trained forest, whose model
    file we do without. `sobel` has it everywhere, which takes several times as long; `canny` where
    Canny's detector has an edge. side, limit: as in SelectiveSearch. alpha: step of the sliding
    window. beta: threshold of its NMS. min_area: smaller boxes are not proposed, as a part of the
    longer side's square.
    """

    def __init__(
        self,
        edges: str = "thinned",
        side: int = 320,
        limit: int = 2000,
        alpha: float = 0.65,
        beta: float = 0.75,
        min_area: float = 0.004,  # as the paper's code: 1000 square pixels, at 500 px
    ) -> None:
        if edges not in EDGES:
            raise ValueError(f"proposals.edges is {edges!r}; choose one of {', '.join(EDGES)}")
        _opencv()
        self.edges, self.side, self.limit = edges, side, limit
        self.alpha, self.beta, self.min_area = alpha, beta, min_area

    def __call__(self, image: np.ndarray) -> np.ndarray:
        cv2 = _opencv()
        small = _shrink(image, self.side)
        strength, direction = self.contours(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        if not strength.any():
            return np.zeros((0, 4), np.float32)  # an even image has no contour
        search = cv2.ximgproc.createEdgeBoxes(
            alpha=self.alpha,
            beta=self.beta,
            maxBoxes=self.limit,
            minBoxArea=self.min_area * max(small.shape) ** 2,
        )
        boxes = search.getBoundingBoxes(strength / strength.max(), direction)[0]
        return _to_image(boxes, small, image)

    def contours(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) uint8 -> (H, W) float32 each: an edge's strength, 0 where there is none, and the
        direction across it in [0, pi)."""
        cv2 = _opencv()
        thinned = self.edges == "thinned"
        smooth = cv2.GaussianBlur(grey, (0, 0), 1.0) if thinned else grey
        across, down = (cv2.Sobel(smooth, cv2.CV_16S, *axis) for axis in ((1, 0), (0, 1)))
        strength = np.hypot(across.astype(np.float32), down)
        if thinned:  # by Canny's, of which thresholds of 0 leave the thinning alone
            strength *= cv2.Canny(across, down, 0, 0, L2gradient=True) > 0
        elif self.edges == "canny":
            strength *= cv2.Canny(grey, 50, 150) > 0
        return strength, np.arctan2(down.astype(np.float32), across) % np.pi

    def describe(self) -> dict[str, Any]:
        window = {"alpha": self.alpha, "beta": self.beta, "min_area": self.min_area}
        sizes = {"side": self.side, "limit": self.limit}
        return {"kind": "edge_boxes", "edges": self.edges, **sizes, **window}


def installed() -> list[str]:
    """The configurations in conf/proposals that use the image and can be built here.

    Which of them is better depends on the images: on bccd EdgeBoxes cover 0.97 of the objects at an
    IoU of 0.5 and selective search 0.82; on aquarium 0.43 and 0.50 (`detzoo propose`, val).
    """
    try:
        _opencv()
    except ImportError:
        return []
    return ["edge_boxes", "selective_search"]


def _opencv() -> ModuleType:
    try:
        import cv2
        import cv2.ximgproc
    except ImportError as error:
        raise ImportError(
            "selective search and EdgeBoxes need OpenCV with its contrib modules: "
            "pip install 'detzoo[proposals]'; proposals=grid needs nothing"
        ) from error
    return cv2


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    """The image with its longer side at most `side`."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return resample(image, (height, width))


def _to_image(found: np.ndarray, small: np.ndarray, image: np.ndarray) -> np.ndarray:
    """x, y, width, height in the small image -> xyxy in the image; boxes without area are
    dropped."""
    found = np.asarray(found, np.float32).reshape(-1, 4)
    boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)
    (height, width), (h, w) = image.shape[:2], small.shape[:2]
    boxes *= np.array([width / w, height / h] * 2, np.float32)
    boxes = boxes.clip(0, np.array([width, height] * 2, np.float32))
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
