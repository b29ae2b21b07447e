from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detzoo.detectors.cornernet import Assignment, CornerNet, Outputs
from detzoo.nn import Backbone
from detzoo.types import Frame, Images, Target

from .targets import target_of as target

K, E = 3, 1
H, W = 8, 16


def make(**settings: object) -> CornerNet:
    settings = {"upsample_channels": 16, "head_channels": 8} | settings
    return CornerNet(backbone=Backbone("test_resnet"), num_classes=K, **settings).eval()


@pytest.fixture(scope="module")
def detector() -> CornerNet:
    torch.manual_seed(0)
    return make()


def empty(batch: int = 1, embedding: int = E) -> Outputs:
    """No corner anywhere, and embeddings that agree nowhere."""
    apart = torch.tensor([-50.0, 50.0]).view(1, 2, 1, 1, 1)
    return Outputs(
        torch.full((batch, 2, K, H, W), -9.0),
        apart.repeat(batch, 1, embedding, H, W),
        torch.full((batch, 2, 2, H, W), 0.5),
    )


def perfect(detector: CornerNet, targets: list[Target]) -> Outputs:
    """The outputs of a network that has learnt these targets and nothing else.

    Objects that have a corner's cell in common have their embedding in common too: a cell has one.
    """
    truth = detector.assign(targets, (H, W))
    outputs = empty(len(targets))
    tags: dict[tuple[int, ...], float] = {}
    for n, (image, cells) in enumerate(zip(truth.image.tolist(), truth.cell.tolist(), strict=True)):
        places = [(image, corner, *cells[corner]) for corner in (0, 1)]
        tag = next((tags[place] for place in places if place in tags), float(n))
        for place, offset in zip(places, truth.offset[n], strict=True):
            tags[place] = tag
            image, corner, x, y = place
            outputs.embedding[image, corner, :, y, x] = tag
            outputs.offset[image, corner, :, y, x] = offset
    return outputs._replace(heatmap=torch.logit(truth.heatmap, 1e-6))


def test_assignment_by_hand(detector: CornerNet) -> None:
    """(8, 5, 28, 16) is (2, 1.25, 7, 4) in cells: corners in cells (2, 1) and (6, 3), the last one
    that the box covers."""
    truth = detector.assign([target([]), target([(8, 5, 28, 16, 1)])], (H, W))
    assert truth.image.tolist() == [1]
    assert truth.cell.tolist() == [[[2, 1], [6, 3]]]
    assert truth.offset.tolist() == [[[0.0, 0.25], [1.0, 1.0]]]
    assert (truth.heatmap == 1).nonzero().tolist() == [[1, 0, 1, 1, 2], [1, 1, 1, 3, 6]]
    # radius: -0.3 * 7.75 + sqrt(2.325^2 + 4 * 0.3 * 0.7 * 13.75) = 1.79, so r = 1, sigma = 1/2
    assert truth.heatmap[1, 0, 1, 1, 3].item() == pytest.approx(math.exp(-2))
    assert truth.heatmap[1, 0, 1, 1, 4] == 0


def test_penalty_reduction_by_size_fixed_or_off() -> None:
    sizes = torch.tensor([[5.0, 3.0], [50.0, 30.0]])
    small, large = make().radii(sizes).tolist()
    assert 1 < small < 2 and large == pytest.approx(10 * small)
    assert make(penalty="fixed").radii(sizes).tolist() == [2.5, 2.5]
    assert make(penalty="off").radii(sizes).tolist() == [0, 0]


def test_pull_and_push_by_hand(detector: CornerNet) -> None:
    """Objects of embeddings (0, 2) and (1.5, 1.5) in one image, and one (1, 1) in another.

    Pull: means 1, 1.5, 1; ((1 + 1) + 0 + 0) / 3. Push: the two of one image are 0.5 apart, both
    ways, of 2 pairs: 0.5. A crowd box, in the first image, neither pulls nor pushes.
    """
    embedding = torch.tensor([[0.0, 2], [1.5, 1.5], [1, 1], [5, 1]])[..., None]
    image = torch.tensor([0, 0, 1, 0])
    weight = torch.tensor([1.0, 1, 1, 0])
    none = torch.zeros(0)
    pull, push = detector.grouping(embedding, Assignment(none, none, image, none, none, weight))
    assert pull.item() == pytest.approx(2 / 3)
    assert push.item() == pytest.approx(0.5)


def test_losses_by_hand(detector: CornerNet) -> None:
    """Everything at probability 1/2, offsets at 1/2."""
    targets = [target([(8, 5, 28, 16, 1)])]
    outputs = empty()._replace(
        heatmap=torch.zeros(1, 2, K, H, W), embedding=torch.zeros(1, 2, E, H, W)
    )
    losses = detector.losses(outputs, targets)
    truth = detector.assign(targets, (H, W)).heatmap
    negatives = ((1 - truth) ** 4).sum()  # the peaks' own terms are 0
    assert losses["heatmap"].item() == pytest.approx((2 + negatives.item()) * 0.25 * math.log(2))
    # smooth L1 of 0.5, 0.25, 0.5 and 0.5
    assert losses["offset"].item() == pytest.approx(3 * 0.125 + 0.03125)
    assert losses["pull"] == losses["push"] == 0


def test_a_perfect_network_has_almost_no_loss(detector: CornerNet) -> None:
    targets = [target([(8, 4, 28, 16, 1), (30, 10, 50, 30, 0)])]
    losses = detector.losses(perfect(detector, targets), targets)
    assert losses["offset"] == losses["pull"] == losses["push"] == 0
    assert losses["heatmap"] < 1.5  # 1 - Gaussian is no label


def test_a_crowd_is_no_positive_and_what_it_covers_is_no_negative(detector: CornerNet) -> None:
    """(8, 4, 28, 17) touches columns 2..6 and rows 1..4."""
    outputs = Outputs(*(x.requires_grad_() for x in empty()))
    targets = [target([(8, 4, 28, 17, 1)], crowd=[True])]
    sum(detector.losses(outputs, targets).values()).backward()
    covered = torch.zeros(H, W, dtype=torch.bool)
    covered[1:5, 2:7] = True
    assert (outputs.heatmap.grad[..., covered] == 0).all()
    assert (outputs.heatmap.grad[..., ~covered] > 0).all()
    assert (outputs.offset.grad == 0).all() and (outputs.embedding.grad == 0).all()


SCENES = {
    "three classes": [(8, 4, 28, 16, 1), (30.5, 10.25, 50, 30, 0), (36, 12, 56, 29, 2)],
    "nested, one class": [(2, 2, 60, 30, 1), (10, 6, 40, 24, 1), (17, 9, 30, 18, 1)],
    "a top-left corner in common": [(4, 4, 20, 28, 0), (4, 4, 50, 12, 0)],
    "a bottom-right corner in common": [(4, 4, 40, 28, 0), (21, 13, 40, 28, 0)],
    "a corner in common, two classes": [(4, 4, 20, 28, 0), (4, 4, 50, 12, 2)],
    "at the image's edges": [(0, 0, 64, 32, 1), (40, 20, 64, 32, 0), (0, 17, 9, 32, 2)],
    "corners in neighbouring cells": [(8, 8, 30, 20, 1), (12, 8, 36, 22, 1)],
    "tiny": [(3, 2, 6, 5, 2)],
    "at the edges of a padded image": [(8, 4, 48, 28, 1), (20, 12, 48, 20, 0)],
    "none": [],
}
SIZES = {"at the edges of a padded image": (28, 48)}


@pytest.mark.parametrize("nms", ["soft", "hard", "none"])
def test_the_ideal_output_round_trip(nms: str) -> None:
    """Promise 7: targets -> what a perfect network puts out -> decode -> the same boxes."""
    detector = make(nms=nms, nms_threshold=0.7)  # two of a scene have an IoU of 0.56
    targets = [target(objects) for objects in SCENES.values()]
    sizes = [SIZES.get(name, (4 * H, 4 * W)) for name in SCENES]
    decoded = detector.decode(perfect(detector, targets), sizes)
    for name, found, truth in zip(SCENES, decoded, targets, strict=True):
        sure = found.scores > 0.51  # a corner and nothing make a half
        boxes, labels = found.boxes[sure], found.labels[sure]
        assert len(boxes) == len(truth.boxes), name
        order = [((boxes - box).abs().sum(1)).argmin().item() for box in truth.boxes]
        assert sorted(order) == list(range(len(boxes))), name
        torch.testing.assert_close(boxes[order], truth.boxes, atol=1e-4, rtol=0)
        assert torch.equal(labels[order], truth.labels)


def corner(
    outputs: Outputs, which: int, label: int, x: int, y: int, logit: float, tag: float
) -> None:
    outputs.heatmap[0, which, label, y, x] = logit
    outputs.embedding[0, which, :, y, x] = tag


def test_pairs_by_hand() -> None:
    """Corners that go together in class, embedding and place, and four that fail in one each."""
    outputs = empty()
    corner(outputs, 0, 1, 2, 1, 2.0, 1.0)  # top-left, class 1, cell (2, 1)
    corner(outputs, 1, 1, 8, 5, 0.0, 1.4)  # fits
    corner(outputs, 1, 2, 10, 3, 5.0, 1.0)  # another class
    corner(outputs, 1, 1, 12, 6, 5.0, 1.6)  # too far in embedding
    corner(outputs, 1, 1, 0, 6, 5.0, 1.0)  # to the left
    corner(outputs, 1, 1, 12, 0, 5.0, 1.0)  # above
    mean, geometric = (
        make(pair_score=kind, score_threshold=0.5).decode(outputs, [(4 * H, 4 * W)])[0]
        for kind in ("mean", "geometric")
    )
    for found in (mean, geometric):
        assert found.boxes.tolist() == [[10, 6, 34, 22]] and found.labels.tolist() == [1]
    p, q = 1 / (1 + math.exp(-2)), 0.5
    assert mean.scores.item() == pytest.approx((p + q) / 2)
    assert geometric.scores.item() == pytest.approx(math.sqrt(p * q))


def test_fewer_peaks_than_asked_for_make_no_pairs() -> None:
    """What top_peaks fills up with is no corner, though half its pairs' score is a true one's."""
    ramp = torch.arange(float(H * W)).view(H, W) - 999  # its one peak is the last cell
    outputs = empty()._replace(heatmap=ramp.repeat(1, 2, K, 1, 1))
    outputs.embedding.zero_()
    corner(outputs, 0, 0, 1, 1, 9.0, 0.0)
    found = make(score_threshold=0.1).decode(outputs, [(4 * H, 4 * W)])[0]
    assert found.boxes.tolist() == [[6, 6, 62, 30]]  # with that peak, of probability 0
    assert found.scores.item() == pytest.approx(0.5, abs=1e-3)


def test_an_embedding_may_have_more_dimensions() -> None:
    detector = make(embedding=3)
    outputs = empty(embedding=3)
    corner(outputs, 0, 1, 2, 1, 2.0, 1.0)
    corner(outputs, 1, 1, 8, 5, 2.0, 1.3)  # sqrt(3) * 0.3 = 0.52 away
    assert not (detector.decode(outputs, [(4 * H, 4 * W)])[0].scores > 0.5).any()
    outputs.embedding[0, 1, 0, 5, 8] = 1.2  # now 0.47
    assert (detector.decode(outputs, [(4 * H, 4 * W)])[0].scores > 0.5).sum() == 1


def test_no_corner_is_found_in_the_padding(detector: CornerNet) -> None:
    outputs = empty()
    corner(outputs, 0, 0, 1, 1, 5.0, 0.0)
    corner(outputs, 1, 0, 8, 3, 9.0, 0.0)  # in the padding of a 16 x 32 image, beside
    corner(outputs, 1, 0, 7, 3, 5.0, 0.0)  # this one, inside
    found = detector.decode(outputs, [(16, 32)])[0]
    assert found.boxes[0].tolist() == [6, 6, 30, 14]
    assert found.scores[0].item() == pytest.approx(1 / (1 + math.exp(-5)))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"heatmap", "pull", "push", "offset"}),
        ({"offsets": False}, {"heatmap", "pull", "push"}),
    ],
)
def test_switches_leave_their_losses_out(settings: dict, names: set) -> None:
    detector = make(**settings).train()
    images = Images(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), [Frame(0, (64, 96), (64, 96))])
    targets = [target([(8, 4, 28, 16, 1)])]
    outputs = detector.network(images, targets)
    assert outputs.heatmap.shape == (1, 2, K, 16, 24)
    assert outputs.embedding.shape == (1, 2, 1, 16, 24)
    assert outputs.offset.shape == (1, 2, 2, 16, 24)
    assert set(detector.losses(outputs, targets)) == names


def test_without_corner_pooling_a_corner_knows_only_what_is_near() -> None:
    """With it a pixel in the far corner reaches the heatmap at the other end of its row."""
    torch.manual_seed(0)
    x = torch.randn(1, 16, 4, 40)
    far = x.clone()
    far[..., -1] += 5
    for pooling in (True, False):
        head = make(corner_pooling=pooling).head[0].corners[0]
        change: Tensor = head(x)[0] - head(far)[0]
        assert (change[..., 0] != 0).any() == pooling


def test_network_is_one_graph_of_static_shapes(detector: CornerNet) -> None:
    images = Images(
        torch.randint(0, 255, (2, 3, 64, 64)).byte(), [Frame(i, (64, 60), (64, 60)) for i in (0, 1)]
    )
    compiled = torch.compile(detector.network, backend="eager", fullgraph=True)
    with torch.no_grad():
        for a, b in zip(compiled(images), detector.network(images), strict=True):
            torch.testing.assert_close(a, b)


def test_heatmaps_are_the_likeliest_class(detector: CornerNet) -> None:
    outputs = empty()
    corner(outputs, 1, 2, 3, 4, 0.0, 0.0)
    maps = detector.heatmaps(outputs)
    assert list(maps) == ["top-left corners", "bottom-right corners"]
    assert maps["bottom-right corners"].shape == (1, H, W)
    assert maps["bottom-right corners"][0, 4, 3] == 0.5
    assert maps["top-left corners"].max() < 0.01


@pytest.mark.parametrize(
    ("setting", "value"), [("penalty", "radius"), ("pair_score", "sum"), ("nms", "hybrid")]
)
def test_errors_name_the_value(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} is '{value}'; choose one of"):
        make(**{setting: value})
