from __future__ import annotations

import pytest
import torch

from detzoo.nn import BoxHead, RegionFeatures

FULLY_CONNECTED = (
    *((6, "weight", (16, 147)), (6, "bias", (16,))),
    *((7, "weight", (16, 16)), (7, "bias", (16,))),
)


def box(side: float) -> list[float]:
    return [0.0, 0.0, side, side]


def test_levels_by_hand():
    """1612.03144, equation 1: 224 px is level 4, half of it 3, twice it 5; bounded to 2..5."""
    regions = RegionFeatures((4, 8, 16, 32))
    sides = [224, 223, 112, 111, 56, 10, 448, 10_000]
    levels = regions.levels(torch.tensor([box(s) for s in sides])) + 2
    assert levels.tolist() == [4, 3, 3, 2, 2, 2, 5, 5]
    corner = torch.full((1, 2), 501.1459)  # float32 makes this side 111.99997
    assert regions.levels(torch.cat([corner, corner + 112], 1)).item() + 2 == 3
    assert RegionFeatures((4, 8), canonical_size=56.0).levels(torch.tensor([box(28)])).item() == 1


@pytest.mark.parametrize("kind", ["align", "pool"])
def test_a_ramp_is_read_where_the_region_is(kind):
    # On a map whose value is its column, 16 x 16 at stride 4: a region from x = 16 to 32 spans
    # columns 4 to 8. Align averages them (centres at 3.5 .. 7.5), pool takes the last of each bin.
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    regions = RegionFeatures((4,), kind=kind, size=2)
    found = regions([ramp], [torch.tensor([[16.0, 16, 32, 32]])])
    expected = [[4.5, 6.5]] * 2 if kind == "align" else [[6.0, 8.0]] * 2
    assert found[0, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["align", "pool"])
def test_regions_keep_their_order_across_levels_and_images(kind):
    # Every map of a 512 px image is constant: 100 * level + image.
    strides = (4, 8, 16, 32)
    maps = [
        torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 512 // s, 512 // s) + 100 * level
        for level, s in enumerate(strides)
    ]
    rois = [torch.tensor([box(448), box(56)]), torch.tensor([box(112), box(10), box(224)])]
    found = RegionFeatures(strides, kind=kind, size=1)(maps, rois)
    assert found.flatten().tolist() == [300, 0, 101, 1, 201]


def test_half_maps_are_read_as_they_are_at_inference_and_as_floats_in_training():
    maps = [torch.rand(2, 8, size, size).bfloat16() for size in (32, 16)]
    rois = [torch.tensor([box(60), [8.0, 4, 100, 90]]), torch.tensor([box(112)])]
    regions = RegionFeatures((4, 8), canonical_size=28.0)
    exact = regions([x.float() for x in maps], rois)
    assert torch.equal(regions(maps, rois), exact)
    with torch.no_grad():
        found = regions(maps, rois)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0.02)


class OnGPU(torch.Tensor):
    """Of the CPU, but takes every branch that a GPU's tensor would take."""

    is_cuda = property(lambda self: True)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_align_has_a_gradient_for_the_box_on_every_device(device):
    maps = [torch.rand(1, 3, 32, 32), torch.rand(1, 3, 16, 16)]
    rois = torch.tensor([[8.0, 4, 100, 90], [10.0, 20, 40, 60]], requires_grad=True)
    read = rois if device == "cpu" else rois.as_subclass(OnGPU)
    RegionFeatures((4, 8), canonical_size=28.0)(maps, [read]).square().sum().backward()
    assert (rois.grad != 0).all()


@pytest.mark.parametrize("kind", ["align", "align_max", "pool"])
def test_no_regions(kind):
    maps = [torch.rand(2, 3, 8, 8)] * 2
    found = RegionFeatures((4, 8), kind=kind)(maps, [torch.zeros(0, 4)] * 2)
    assert found.shape == (0, 3, 7, 7)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_align_takes_the_mean_or_the_maximum_of_a_bin_s_samples(device):
    """1703.06870, table 2c. A bin of 4 x 4 cells whose four samples are on 1, 2, 3 and 8."""
    cells = torch.zeros(1, 1, 4, 4)
    for corner, value in (((0, 0), 1.0), ((0, 2), 2.0), ((2, 0), 3.0), ((2, 2), 8.0)):
        row, column = corner
        cells[..., row : row + 2, column : column + 2] = value
    boxes = torch.tensor([[0.0, 0, 4, 4]])
    boxes = boxes if device == "cpu" else boxes.as_subclass(OnGPU)
    for kind, expected in (("align", 3.5), ("align_max", 8.0)):
        found = RegionFeatures((1,), kind=kind, size=1)([cells], [boxes])
        assert found.shape == (1, 1, 1, 1) and found.item() == expected
    maps, boxes = [torch.rand(1, 3, 32, 32)], torch.tensor([[3.0, 5, 70, 90]])
    both = [RegionFeatures((4,), kind=kind)(maps, [boxes]) for kind in ("align", "align_max")]
    assert (both[1] >= both[0]).all() and both[0].shape == both[1].shape


def test_unknown_features_are_refused():
    with pytest.raises(ValueError, match="align_max, align, pool"):
        RegionFeatures((4,), kind="crop")


def test_box_head_shapes():
    scores, deltas = BoxHead(3, 7, 16, num_classes=5)(torch.rand(2, 3, 7, 7))
    assert scores.shape == (2, 6) and deltas.shape == (2, 5, 4)


def test_a_pretrained_backbone_hands_its_fully_connected_layers_over():
    """Once, and only to a head of their size."""
    begun = {f"fc{i}.{part}": torch.rand(shape) for i, part, shape in FULLY_CONNECTED}
    for width, size in ((16, 7), (16, 3)):
        backbone = torch.nn.Identity()
        backbone.fully_connected = dict(begun)
        head = BoxHead(3, size, width, num_classes=5, backbone=backbone)
        assert "fully_connected" not in vars(backbone)
        same = torch.equal(head.fc6.weight, begun["fc6.weight"]) if size == 7 else False
        assert same == (size == 7)
        assert torch.equal(head.fc7.bias, begun["fc7.bias"]) == (size == 7)


def test_dropout_is_of_training_alone():
    head, x = BoxHead(3, 7, 64, num_classes=5, dropout=0.5), torch.rand(2, 3, 7, 7)
    assert not torch.equal(head.train()(x)[0], head(x)[0])
    assert torch.equal(head.eval()(x)[0], head(x)[0])
