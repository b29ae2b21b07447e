from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detzoo.detectors.centernet import CenterNet, Outputs
from detzoo.nn.backbones import Backbone
from detzoo.nn.stride4 import Deconvolutions, TopDown
from detzoo.types import Frame, Images, Target

from .targets import target_of as target

K = 3


def make(**settings: object) -> CenterNet:
    backbone = Backbone("test_resnet")
    settings = {"upsample": "topdown", "upsample_channels": 16, "head_channels": 8} | settings
    return CenterNet(backbone=backbone, num_classes=K, **settings).eval()


@pytest.fixture(scope="module")
def detector() -> CenterNet:
    torch.manual_seed(0)
    return make()


def perfect(detector: CenterNet, targets: list[Target], shape: tuple[int, int]) -> Outputs:
    """The outputs of a network that has learnt these targets and nothing else."""
    truth = detector.assign(targets, shape)
    size = torch.zeros(len(targets), 2, *shape)
    offset = torch.zeros_like(size)
    at = (truth.image, slice(None), truth.cell[:, 1], truth.cell[:, 0])
    size[at], offset[at] = truth.size, truth.offset
    return Outputs(torch.logit(truth.heatmap, 1e-6), size, offset)


def test_assignment_by_hand(detector: CenterNet) -> None:
    """(8, 4, 28, 16) is (2, 1, 7, 4) in cells of 4 pixels: centre (4.5, 2.5), size (5, 3)."""
    truth = detector.assign([target([]), target([(8, 4, 28, 16, 1)])], (8, 16))
    assert truth.image.tolist() == [1]
    assert truth.cell.tolist() == [[4, 2]]
    assert truth.size.tolist() == [[5.0, 3.0]]
    assert truth.offset.tolist() == [[0.5, 0.5]]
    assert truth.heatmap.shape == (2, K, 8, 16)
    assert (truth.heatmap == 1).nonzero().tolist() == [[1, 1, 2, 4]]
    # radius: -0.7 * 8 + sqrt(5.6^2 + 4 * 0.7 * 0.3 * 15) = 1.03, so r = 1, sigma = 1/2
    assert truth.heatmap[1, 1, 2, 5].item() == pytest.approx(math.exp(-2))
    assert truth.heatmap[1, 1, 2, 6] == 0
    assert truth.negative.all()


def test_an_object_at_the_far_corner_stays_on_the_map(detector: CenterNet) -> None:
    truth = detector.assign([target([(64, 32, 64, 32, 0)])], (8, 16))
    assert truth.cell.tolist() == [[15, 7]]


def test_losses_by_hand(detector: CenterNet) -> None:
    """Everything at probability 1/2, size and offset 0."""
    targets = [target([(8, 4, 28, 16, 1)])]
    outputs = Outputs(*(torch.zeros(1, n, 8, 16) for n in (K, 2, 2)))
    losses = detector.losses(outputs, targets)
    truth = detector.assign(targets, (8, 16)).heatmap
    negatives = ((1 - truth) ** 4).sum()  # the peak's own term is 0
    expected = (1 + negatives) * 0.25 * math.log(2)
    assert losses["heatmap"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["size"].item() == pytest.approx(0.1 * (5 + 3))
    assert losses["offset"].item() == pytest.approx(0.5 + 0.5)


def test_a_perfect_network_has_almost_no_loss(detector: CenterNet) -> None:
    targets = [target([(8, 4, 28, 16, 1), (30, 10, 50, 30, 0)])]
    losses = detector.losses(perfect(detector, targets, (8, 16)), targets)
    assert losses["size"] == losses["offset"] == 0
    # 1 - Gaussian is no label: what is near a peak costs a little even so
    assert losses["heatmap"] < 0.5


def test_the_loss_is_finite_however_sure_the_network_is(detector: CenterNet) -> None:
    targets = [target([(8, 4, 28, 16, 1)])]
    for value in (-1e4, 1e4):
        outputs = Outputs(*(torch.full((1, n, 8, 16), value).requires_grad_() for n in (K, 2, 2)))
        total = sum(detector.losses(outputs, targets).values())
        total.backward()
        assert torch.isfinite(total)
        assert all(torch.isfinite(x.grad).all() for x in outputs)


def gradient(detector: CenterNet, targets: list[Target]) -> tuple[Tensor, Tensor]:
    outputs = Outputs(*(torch.zeros(1, n, 8, 16, requires_grad=True) for n in (K, 2, 2)))
    sum(detector.losses(outputs, targets).values()).backward()
    return outputs.heatmap.grad[0], outputs.size.grad[0]


def test_a_crowd_is_no_positive_and_what_it_covers_is_no_negative(detector: CenterNet) -> None:
    """(8, 4, 28, 17) touches columns 2..6 and rows 1..4."""
    heatmap, size = gradient(detector, [target([(8, 4, 28, 17, 1)], crowd=[True])])
    covered = torch.zeros(8, 16, dtype=torch.bool)
    covered[1:5, 2:7] = True
    assert (heatmap[:, covered] == 0).all()
    assert (heatmap[:, ~covered] > 0).all()
    assert (size == 0).all()


def test_an_object_inside_a_crowd_is_a_positive(detector: CenterNet) -> None:
    objects = [(8, 4, 28, 17, 1), (12, 6, 20, 14, 2)]  # the second's centre is cell (4, 2)
    heatmap, size = gradient(detector, [target(objects, crowd=[True, False])])
    assert heatmap[2, 2, 4] < 0
    assert (size != 0).nonzero().tolist() == [[0, 2, 4], [1, 2, 4]]


def test_the_ideal_output_round_trip(detector: CenterNet) -> None:
    """Promise 7: targets -> what a perfect network puts out -> decode -> the same boxes."""
    objects = [
        [(8, 4, 28, 16, 1), (30.5, 10.25, 50, 30, 0), (36, 12, 52, 29, 2), (0, 0, 64, 32, 1)],
        [],
        [(3, 2, 6, 5, 2)],
        [(4, 4, 20, 28, 0), (4, 4, 50, 12, 0)],  # a corner in common
        [(2, 2, 60, 30, 1), (10, 6, 40, 24, 1), (9, 9, 22, 18, 1)],  # nested
        [(0, 0, 4, 4, 1), (40, 20, 64, 32, 0), (0, 17, 9, 32, 2)],  # at the edges
    ]
    targets = [target(o) for o in objects]
    outputs = perfect(detector, targets, (8, 16))
    decoded = detector.decode(outputs, [(32, 64)] * len(targets))
    for found, truth in zip(decoded, targets, strict=True):
        sure = found.scores > 0.5
        boxes, labels = found.boxes[sure], found.labels[sure]
        order = [((boxes - box).abs().sum(1)).argmin().item() for box in truth.boxes]
        assert sorted(order) == list(range(len(boxes)))
        torch.testing.assert_close(boxes[order], truth.boxes, atol=1e-4, rtol=0)
        assert torch.equal(labels[order], truth.labels)


def test_decode_by_hand(detector: CenterNet) -> None:
    """A peak in cell (3, 1), offset (0.25, 0.5), size (2, 4): centre (13, 6), box 8 by 16."""
    outputs = Outputs(
        torch.full((1, K, 8, 16), -9.0), torch.ones(1, 2, 8, 16), torch.zeros(1, 2, 8, 16)
    )
    outputs.heatmap[0, 2, 1, 3] = 0.0
    outputs.size[0, :, 1, 3] = torch.tensor([2.0, 4.0])
    outputs.offset[0, :, 1, 3] = torch.tensor([0.25, 0.5])
    found = detector.decode(outputs, [(12, 64)])[0]
    assert found.boxes[0].tolist() == [9, 0, 17, 12]  # clipped above and at the image's 12 rows
    assert found.scores[0] == 0.5 and found.labels[0] == 2


def test_no_object_is_found_in_the_padding(detector: CenterNet) -> None:
    """A peak there must neither be found nor take an object's place among the best."""
    outputs = Outputs(*(torch.ones(1, n, 8, 16) for n in (K, 2, 2)))
    outputs = outputs._replace(heatmap=torch.full((1, K, 8, 16), -9.0))
    outputs.heatmap[0, 0, 4, 8] = 9.0  # in the padding of a 16 x 32 image, and
    outputs.heatmap[0, 0, 3, 7] = 5.0  # this one, beside it, is inside
    found = detector.decode(outputs, [(16, 32)])[0]
    assert round(found.scores[0].item(), 3) == 0.993
    assert (found.boxes <= torch.tensor([32, 16, 32, 16])).all()


def test_at_most_max_detections_and_only_above_the_threshold() -> None:
    outputs = Outputs(
        torch.randn(2, K, 16, 16), torch.ones(2, 2, 16, 16), torch.zeros(2, 2, 16, 16)
    )
    detector = make(max_detections=7, score_threshold=0.5)
    for found in detector.decode(outputs, [(64, 64)] * 2):
        assert len(found) == 7
    outputs.heatmap.clamp_(max=-0.1)
    assert [len(d) for d in detector.decode(outputs, [(64, 64)] * 2)] == [0, 0]


def test_nms_is_an_option() -> None:
    """Two peaks of a class with nearly the same box, which the paper's decoder keeps."""
    outputs = Outputs(
        torch.full((1, K, 8, 16), -9.0), torch.full((1, 2, 8, 16), 6.0), torch.zeros(1, 2, 8, 16)
    )
    outputs.heatmap[0, 0, 4, [4, 6]] = torch.tensor([2.0, 1.0])
    outputs.size[0, :, 4, 6] = 6.5
    sizes = [(32, 64)]
    assert len(make(score_threshold=0.1).decode(outputs, sizes)[0]) == 2
    assert len(make(score_threshold=0.1, nms_threshold=0.4).decode(outputs, sizes)[0]) == 1


def test_a_size_per_class_is_read_where_the_class_is() -> None:
    detector = make(class_agnostic_size=False)
    outputs = Outputs(
        torch.full((1, K, 8, 16), -9.0),
        torch.arange(6.0).view(1, 6, 1, 1).repeat(1, 1, 8, 16),  # class k: 2k wide, 2k + 1 high
        torch.zeros(1, 2, 8, 16),
    )
    outputs.heatmap[0, 2, 4, 8] = 3.0
    found = detector.decode(outputs, [(32, 64)])[0]
    x1, y1, x2, y2 = found.boxes[0].tolist()
    assert (x2 - x1, y2 - y1) == (16, 20) and found.labels[0] == 2
    losses = detector.losses(outputs, [target([(24, 6, 40, 26, 2), (4, 4, 12, 16, 1)])])
    assert losses["size"] == 0  # 4 x 5 cells of class 2, 2 x 3 of class 1


def test_smooth_l1_is_an_option() -> None:
    """Sizes 5 and 3 off by 5 and 3: 4.5 + 2.5; offsets 0.5 and 0.5: 0.125 each."""
    outputs = Outputs(*(torch.zeros(1, n, 8, 16) for n in (K, 2, 2)))
    losses = make(box_loss="smooth_l1").losses(outputs, [target([(8, 4, 28, 16, 1)])])
    assert losses["size"].item() == pytest.approx(0.1 * 7)
    assert losses["offset"].item() == pytest.approx(0.25)


def test_without_offsets_a_centre_is_the_middle_of_its_cell() -> None:
    detector = make(offsets=False)
    images = Images(torch.zeros(1, 3, 32, 64, dtype=torch.uint8), [Frame(0, (32, 64), (32, 64))])
    outputs = detector.network(images)
    assert (outputs.offset == 0.5).all() and outputs.offset.shape == (1, 2, 8, 16)
    assert "offset" not in detector.losses(outputs, [target([(8, 4, 28, 16, 1)])])


def test_the_flip_test_sees_an_image_and_its_mirror_image_alike() -> None:
    torch.manual_seed(0)
    detector = make(flip_test=True)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of this image, or the maps would be flat
    pixels = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    frames = [Frame(0, (64, 96), (64, 96))]
    detector.train().network(Images(pixels, frames))
    detector.eval()
    one = detector.network(Images(pixels, frames))
    other = detector.network(Images(pixels.flip(-1), frames))
    torch.testing.assert_close(one.heatmap, other.heatmap.flip(-1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.size, other.size.flip(-1))
    detector.flip_test = False
    plain = detector.network(Images(pixels, frames))
    assert not torch.allclose(one.heatmap, plain.heatmap)
    assert torch.allclose(one.offset, plain.offset)


@pytest.mark.parametrize("upsample", ["deconv", "topdown"])
def test_the_map_has_stride_4(upsample: str) -> None:
    detector = make(upsample=upsample)
    images = Images(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), [Frame(0, (64, 96), (64, 96))])
    outputs = detector.network(images)
    assert outputs.heatmap.shape == (1, K, 16, 24)
    assert outputs.size.shape == outputs.offset.shape == (1, 2, 16, 24)


def test_the_heatmap_starts_at_a_tenth() -> None:
    assert torch.sigmoid(make().head[0].heatmap.bias).tolist() == pytest.approx([0.1] * K, abs=1e-3)


def test_network_is_one_graph_of_static_shapes(detector: CenterNet) -> None:
    images = Images(
        torch.randint(0, 255, (2, 3, 64, 64)).byte(), [Frame(i, (64, 60), (64, 60)) for i in (0, 1)]
    )
    compiled = torch.compile(detector.network, backend="eager", fullgraph=True)
    with torch.no_grad():
        for a, b in zip(compiled(images), detector.network(images), strict=True):
            torch.testing.assert_close(a, b)


def test_deconvolutions_begin_as_bilinear_interpolation() -> None:
    """A transposed convolution alone doubles a ramp: 0 4 8 -> .. 1 3 5 7 .. inside."""
    up = Deconvolutions([2], [8], channels=2).layers[3]
    ramp = torch.tensor([0.0, 4.0, 8.0]).expand(1, 2, 3, 3)
    assert up(ramp)[0, 0, 2, 1:5].tolist() == [1, 3, 5, 7]


def test_errors_name_the_value() -> None:
    with pytest.raises(ValueError, match="upsample is 'fpn'; choose one of deconv, topdown, dla"):
        make(upsample="fpn")
    with pytest.raises(ValueError, match="box_loss is 'l2'; choose one of l1, smooth_l1"):
        make(box_loss="l2")
    with pytest.raises(ValueError, match="reading is 'exact'"):
        make(radius="exact")
    with pytest.raises(ValueError, match="3 deconvolutions"):
        Deconvolutions([8, 16], [4, 32], channels=(64, 64))
    with pytest.raises(ValueError, match=r"no map has stride 4, the backbone's have \[8, 16\]"):
        TopDown([8, 16], [8, 16])
