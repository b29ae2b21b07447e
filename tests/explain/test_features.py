"""Features, neighbours, channels and classes of detectors whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from detzoo.data import Letterbox
from detzoo.detectors import RCNN, RetinaNet
from detzoo.explain import features as ops
from detzoo.explain import look
from detzoo.explain.ascent import class_image
from detzoo.explain.patches import Peaks, patch_of
from detzoo.explain.receptive import Field, receptive_fields
from detzoo.nn import Backbone
from explain.known import RedInBox, picture

BOXES = torch.tensor([[8.0, 8, 16, 16], [20, 4, 28, 12], [0, 20, 8, 28]])


def test_a_feature_is_the_mean_of_the_maps_over_the_box() -> None:
    detector = RedInBox().eval()
    view = look(detector, picture())
    maps = ops.maps_at(detector, view, BOXES)
    assert maps.widths == [3]
    found = ops.features_of(maps, view, BOXES)
    assert torch.allclose(found[:, 0], torch.tensor([230.0, 200, 60]) / 255, atol=1e-4)


def test_a_feature_of_crops_is_of_each_crop() -> None:
    """The same for any chunk size, also beside a blank crop."""
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    detector = RCNN(backbone=Backbone("test_resnet"), num_classes=2, crop=32, context=2).eval()
    detector.resize = Letterbox(64)
    view = look(detector, image)
    found = []
    for chunk in (128, 2, 1):
        detector.chunk = chunk
        maps = ops.maps_at(detector, view, BOXES)
        assert len(maps.crops) == len(maps.levels[0]) == 3
        found.append(ops.features_of(maps, view, BOXES))
    assert all(torch.allclose(found[0], other, atol=1e-5) for other in found[1:])
    alone = ops.features_of(ops.maps_at(detector, view, BOXES[1:2]), view, BOXES[1:2])
    assert torch.allclose(alone[0], found[0][1], atol=1e-5)


def test_a_layer_by_its_name() -> None:
    detector = RetinaNet(backbone=Backbone("test_resnet"), num_classes=2, channels=8).eval()
    detector.resize = Letterbox(64)
    view = look(detector, picture(64, 64))
    assert len(ops.maps_at(detector, view, BOXES).widths) == 5, "P3 to P7"
    (width,) = ops.maps_at(detector, view, BOXES, "backbone.model.layer2").widths
    assert width == detector.backbone.channels[1]
    with pytest.raises(ValueError, match=r"layer is 'backbone\.layer2'.*near are .*layer2"):
        ops.maps_at(detector, view, BOXES, "backbone.layer2")


def test_each_level_counts_alike() -> None:
    found = ops.directions(torch.tensor([[3.0, 4, 0.1], [0, 0, 5]]), [2, 1])
    assert torch.allclose(found, torch.tensor([[0.6, 0.8, 1], [0, 0, 1]]))


def test_neighbours_vote() -> None:
    train = torch.tensor([[0.0], [1], [2], [10], [11], [12]])
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    near = ops.nearest(train, torch.tensor([[0.4], [11.2]]), 3)
    assert near.tolist() == [[0, 1, 2], [4, 5, 3]]
    assert ops.majority_vote(labels[near]).tolist() == [0, 1]
    assert ops.majority_vote(torch.tensor([[2, 1, 1], [2, 1, 0]])).tolist() == [1, 2], (
        "then the nearest"
    )


def test_silhouettes_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(40, 3, generator=generator)
    labels = torch.arange(40) % 3
    values[labels == 1] += 3
    labels[0] = 7  # alone in its class
    wanted = metrics.silhouette_samples(values.numpy(), labels.numpy())
    assert np.allclose(ops.silhouettes(values, labels), wanted, atol=1e-5)
    assert np.isnan(ops.silhouettes(values, labels * 0)).all()


def test_principal_components_and_the_embedding_are_the_same_each_time() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(30, 1, generator=generator) * torch.tensor([3.0, 0, 0, 0])
    values = values + 0.1 * torch.randn(30, 4, generator=generator)
    plane, shares = ops.principal_components(values)
    assert plane.shape == (30, 2) and shares[0] > 0.95 > 0.1 > shares[1]
    assert abs(float(torch.corrcoef(torch.stack([plane[:, 0], values[:, 0]]))[0, 1])) > 0.999
    assert torch.equal(plane, ops.principal_components(values)[0])
    pytest.importorskip("sklearn")
    assert torch.equal(ops.tsne(values, 3), ops.tsne(values, 3))
    assert ops.tsne(torch.ones(30, 4)) is None, "scikit-learn ends the process"


def test_without_scikit_learn_there_is_no_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.manifold", None)
    assert ops.tsne(torch.randn(9, 3)) is None


def test_separation_is_the_share_of_variance_between_classes() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    values = torch.tensor([[0.0, 0, 5], [0, 1, 5], [1, 0, 5], [1, 1, 5]])
    assert ops.class_separation(values, labels).tolist() == [1, 0, 0]


def test_peaks_are_the_highest_cells_of_the_best_images() -> None:
    peaks = Peaks(2)
    for image, (value, y, x) in enumerate([(3.0, 1, 2), (9.0, 0, 0), (5.0, 2, 1)]):
        level = torch.zeros(1, 2, 3, 4)
        level[0, 1, y, x] = value
        peaks.add(image, ops.Maps([level], None))
    assert [(p.value, p.image, p.cell) for p in peaks.of(1)] == [(9, 1, (0, 0)), (5, 2, (2, 1))]
    assert [p.image for p in peaks.of(0)] == [0, 1], "among equals the first"


class Net(nn.Module):
    """Branches, strides, holes, pooling, padding and enlarging, all of positive weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.holes = nn.Conv2d(2, 2, 3, padding=2, dilation=2)
        self.down = nn.Conv2d(2, 2, (3, 1), stride=2, padding=(1, 0))
        self.up = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.first(x)
        x = x + self.holes(nn.functional.avg_pool2d(x, 3, 1, 1)).relu()
        low = self.down(nn.functional.pad(x, (1, 0, 0, 0)))
        near = nn.functional.interpolate(low, scale_factor=2, mode="nearest")
        smooth = nn.functional.interpolate(low, scale_factor=2, mode="bilinear")
        return x, low, near, smooth, self.up(low), torch.cat([x, near[..., :32]], 1)


class Netted(RedInBox):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck, self.resize = Net(), None, Letterbox(64)

    def network(self, images, targets=None):
        return self.backbone(images.pixels)


def reached(x: torch.Tensor, y: torch.Tensor, cell: tuple[int, int]) -> list[tuple[int, int]]:
    """Per side, the first and the last pixel (and one) that the cell has a slope to."""
    (slope,) = torch.autograd.grad(y[0, :, cell[0], cell[1]].sum(), x, retain_graph=True)
    seen = slope[0].abs().sum(0) > 0
    sides = (seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0])
    return [(int(side[0]), int(side[-1]) + 1) for side in sides]


def test_receptive_fields_are_where_the_gradient_is() -> None:
    detector = Netted().eval()
    view = look(detector, picture(64, 64))
    fields = receptive_fields(detector, view.images)
    x = view.pixels.clone().requires_grad_()
    maps = detector.backbone(x)
    assert len(fields) == len(maps) == 6
    assert fields[0][0] == Field(2, -7, 8), "2 cells of holes and 1 of pooling, of 2 px, and 1"
    for level, (both, y) in enumerate(zip(fields, maps, strict=True)):
        for cell in ((8, 9), (11, 12), (3, 3)):
            spans = [field.span(c, 64) for field, c in zip(both, cell, strict=True)]
            for (low, high), (first, last) in zip(spans, reached(x, y, cell), strict=True):
                assert low <= first and last <= high, (level, cell)
                slack = 0 if level < 2 else 2 * both[0].step + 2  # of cells between whole ones
                assert first - low <= slack and high - last <= slack, (level, cell)


def test_receptive_fields_of_a_pyramid_hold_its_gradient() -> None:
    torch.manual_seed(0)
    detector = RetinaNet(backbone=Backbone("test_resnet"), num_classes=2, channels=8).eval()
    detector.resize = Letterbox(256)
    view = look(detector, np.zeros((256, 256, 3), np.uint8))
    fields = receptive_fields(detector, view.images)
    x = torch.rand(1, 3, 256, 256, requires_grad=True)
    for both, y in zip(fields, detector.neck(detector.backbone(x)), strict=True):
        cell = (y.shape[2] // 2, y.shape[3] // 2)
        assert both[0].step == 256 / y.shape[2]
        spans = [field.span(c, 256) for field, c in zip(both, cell, strict=True)]
        for (low, high), (first, last) in zip(spans, reached(x, y, cell), strict=True):
            assert low <= first and last <= high


def test_a_patch_lies_in_the_pixels_of_the_image_itself() -> None:
    detector = RedInBox().eval()  # its neck is a convolution of 1 x 1
    view = look(detector, picture(64, 128))  # seen at half and a quarter of its size, letterboxed
    detector.backbone = nn.Identity()
    maps = ops.maps_at(detector, view, BOXES)
    peaks = Peaks(1)
    peaks.add(0, maps)
    (peak,) = peaks.of(0)
    box = patch_of(peak, (Field(), Field()), view, maps)
    y, x = peak.cell
    assert box == (4 * x, 4 * y, 4 * x + 4, 4 * y + 4)


def test_a_class_image_makes_the_class_s_score_rise() -> None:
    detector = RedInBox().eval()
    first, second = (class_image(detector, 0, (32, 32), seed=2, steps=30) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)
    assert first.pixels.shape == (32, 32, 3) and first.score > first.before + 0.2
    red, rest = first.pixels[8:16, 8:16, 0].mean(), first.pixels[20:, 20:, 0].mean()
    assert red > rest + 50
    assert class_image(detector, 5, (32, 32)) is None, "nobody proposes such a class"
