"""R-CNN and Fast R-CNN: the detectors that look at regions which others proposed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detzoo.data import Grid, Letterbox, Proposer
from detzoo.detector import Detector
from detzoo.detectors import RCNN, FastRCNN
from detzoo.nn import Backbone
from detzoo.ops import boxes as box_ops
from detzoo.ops.rois import WEIGHTS
from detzoo.types import Frame, Images

from .targets import target

K = 3
SIZE = (64, 96)
KINDS = {"rcnn": RCNN, "fast_rcnn": FastRCNN}
SMALL = {
    "rcnn": {"crop": 32, "context": 2, "chunk": 5},
    "fast_rcnn": {"neck": "fpn", "channels": 8},
}


def make(kind: str, **settings: object) -> Detector:
    torch.manual_seed(0)
    fixed = {"backbone": Backbone("test_resnet"), "num_classes": K, "head_width": 16}
    return KINDS[kind](**(fixed | SMALL[kind] | settings)).eval()


def images(*proposals: list[tuple[float, ...]]) -> Images:
    torch.manual_seed(3)
    pixels = torch.randint(0, 256, (len(proposals), 3, *SIZE), dtype=torch.uint8)
    given = [torch.tensor(rows, dtype=torch.float32).reshape(-1, 4) for rows in proposals]
    return Images(pixels, [Frame(i, SIZE, SIZE) for i in range(len(given))], given)


SOME = [(4, 6, 42, 33), (50, 30, 90, 60), (60, 2, 94, 22), (0, 0, 96, 64)]
TRUTH = [target((3, 5, 40, 30, 0), (60, 1, 96, 20, 1)), target()]
# What proposals and truths may look like, and whether there is anything to learn from them.
EDGES = {
    "partly outside": ([[(-20, -10, 30, 30), (80, 50, 120, 90)], SOME], TRUTH, True),
    "wholly outside": ([[(-90, -90, -50, -50), (200, 10, 240, 60)], SOME], TRUTH, True),
    "without an area": ([[(10, 10, 10, 40), (20, 20, 20, 20), (5, 60, 90, 60)], SOME], TRUTH, True),
    "none for one image": ([[], SOME], TRUTH, True),
    "none for the image without objects": ([SOME, []], TRUTH, True),
    "none at all, objects": ([[], []], TRUTH, True),
    "none at all, no objects": ([[], []], [target(), target()], False),
    "one alone": ([[(10, 10, 40, 40)], []], [target(), target()], True),
    "all background": ([[(45, 40, 55, 60), (70, 40, 80, 60)]] * 2, TRUTH, True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("edge", EDGES)
def test_edge_cases_train_and_score(kind: str, edge: str) -> None:
    proposals, truth, learns = EDGES[edge]
    settings = {"roi_background": 0.0} if kind == "fast_rcnn" else {}
    detector, batch = make(kind, score_threshold=0.0, **settings), images(*proposals)
    found = detector(batch)
    for detections, given in zip(found, proposals, strict=True):
        assert len(detections) == 0 if not given else detections.boxes.isfinite().all()
        assert (detections.boxes >= 0).all()
        assert (detections.boxes <= torch.tensor([96, 64, 96, 64])).all()
    detector.train()
    losses = detector(batch, truth)
    assert set(losses) == {"class", "box"}
    total = sum(losses.values())
    assert total.isfinite() and (total > 0) == learns
    total.backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_cap_keeps_the_first(kind: str) -> None:
    detector = make(kind, max_proposals=2, score_threshold=0.0)
    with torch.no_grad():
        outputs = detector.network(images(SOME, SOME[:1]))
    assert [rois.tolist() for rois in outputs.rois] == [
        [list(box) for box in SOME[:2]],
        [list(SOME[0])],
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_ideal_outputs_give_the_objects_back(kind: str) -> None:
    detector = make(kind)
    rois = [torch.tensor([[4.0, 6, 42, 33], [60, 2, 94, 22], [20, 20, 60, 60]]), torch.zeros(0, 4)]
    scores, deltas = torch.zeros(3, K + 1), torch.zeros(3, K, 4)
    scores[2, K] = 12.0
    for row, (box, label) in enumerate(zip(TRUTH[0].boxes, TRUTH[0].labels, strict=True)):
        scores[row, label] = 24.0
        deltas[row, label] = box_ops.encode(rois[0][row], box, WEIGHTS)
    outputs = type(detector.network(images(SOME)))(rois, None, None, scores, deltas)
    first, second = detector.decode(outputs, [SIZE, SIZE])
    assert len(second) == 0 and first.labels.tolist() == [0, 1]
    torch.testing.assert_close(first.boxes, TRUTH[0].boxes, atol=1e-3, rtol=0)


def test_background_begins_where_the_paper_says() -> None:
    """Section 2.3: an IoU below 0.1 is no background; 64 regions, a quarter of them positives."""
    boxes = [(3, 5, 40, 30)] * 30 + [(3, 5, 14, 25)] * 30 + [(70, 40, 80, 60)] * 90
    proposals = [torch.tensor(boxes, dtype=torch.float32)]
    rois, labels, _ = make("fast_rcnn").assign(proposals, TRUTH[:1])
    assert (labels < K).sum() == 16 and (labels == K).sum() == 30
    assert (rois[0][:, 0] != 70).all()
    rois, labels, _ = make("fast_rcnn", roi_background=0.0).assign(proposals, TRUTH[:1])
    assert (labels < K).sum() == 16 and (labels == K).sum() == 48
    rois, labels, _ = make("fast_rcnn").assign(proposals, [target()])
    assert len(rois[0]) == len(labels) == 0


def test_r_cnn_sees_what_it_is_shown_and_nothing_else() -> None:
    """A region's output is a function of its own crop: distant pixels have no effect."""
    detector, batch = make("rcnn"), images([(10, 10, 30, 30), (60, 30, 90, 60)])
    with torch.no_grad():
        before = detector.network(batch).scores
        batch.pixels[..., :, 45:] = 0
        after = detector.network(batch).scores
        one = make("rcnn", chunk=1)
        apart = one.network(batch).scores
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
    torch.testing.assert_close(apart, after)


class Middle(Proposer):
    """The middle of the image."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        return np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], np.float32)

    def describe(self) -> dict:
        return {"kind": "middle"}


@pytest.mark.parametrize("kind", KINDS)
def test_predict_proposes_by_itself_in_original_pixels(kind: str) -> None:
    detector = make(kind, proposer=Middle())
    detector.resize = Letterbox(64)
    with torch.no_grad():
        for parameter in detector.head.deltas.parameters():
            parameter.zero_()  # a region stays where it was proposed
    (found,) = detector.predict([np.full((100, 200, 3), 90, np.uint8)], score_threshold=0.0)
    assert len(found) == K
    torch.testing.assert_close(found.boxes, torch.tensor([[50.0, 25, 150, 75]] * K))
    assert isinstance(make(kind).proposer, Grid)


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_proposals_are_refused(kind: str) -> None:
    batch = images(SOME)
    with pytest.raises(ValueError, match="come without proposals"):
        make(kind)(Images(batch.pixels, batch.frames))


def test_errors() -> None:
    with pytest.raises(ValueError, match="context is 16; a crop of 32"):
        make("rcnn", context=16)
    with pytest.raises(ValueError, match="chunk is 0"):
        make("rcnn", chunk=0)
    with pytest.raises(ValueError, match="fpn, one_map"):
        make("fast_rcnn", neck="bifpn")
