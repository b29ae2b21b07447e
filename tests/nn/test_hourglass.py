from __future__ import annotations

import pytest
import torch

from detzoo.detectors import CenterNet, CornerNet
from detzoo.nn import Hourglass
from detzoo.types import Frame, Images, Target

SMALL = {"channels": (16, 24, 32), "residuals": 1, "middle": 1, "stem": 8}


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_parameters_of_hourglass_104() -> None:
    """The sums of the docstring; the detectors' totals are the published ones, 191 M and 201 M."""
    with torch.device("meta"):
        backbone = Hourglass()
        cornernet = CornerNet(backbone=backbone, num_classes=80)
        centernet = CenterNet(backbone=backbone, num_classes=80)
    assert parameters(backbone) == 187_700_352
    assert parameters(backbone.stem) == 938_112
    assert [parameters(glass) for glass in backbone.glasses] == [92_134_400] * 2
    assert parameters(cornernet) == 201_035_212  # what CornerNet's own code prints
    assert parameters(centernet) == 191_284_008


def test_a_map_a_stack_at_stride_4() -> None:
    backbone = Hourglass(stacks=2, **SMALL)
    assert backbone.channels == (16, 16) and backbone.strides == (4, 4)
    for height, width in ((32, 48), (20, 36)):  # 5 x 9 cells do not halve evenly
        maps = backbone(torch.zeros(2, 3, height, width))
        assert [x.shape for x in maps] == [(2, 16, height // 4, width // 4)] * 2


def test_halving_and_doubling() -> None:
    """Channels by scale: 16 at stride 4, 24 at 8, 32 at 16, one residual module at the bottom."""
    glass = Hourglass(stacks=1, **SMALL).glasses[0]
    assert glass.down[0].first[0].stride == (2, 2)
    assert glass.down[0].first[0].out_channels == 24
    assert glass.inner.down[0].first[0].out_channels == 32
    assert len(glass.inner.inner) == 1
    assert glass.up[0].second[0].out_channels == 16


@pytest.mark.parametrize("kind", [CenterNet, CornerNet])
def test_every_stack_is_supervised_and_the_last_one_answers(kind) -> None:
    torch.manual_seed(0)
    detector = kind(backbone=Hourglass(stacks=2, **SMALL), num_classes=3, head_channels=8).train()
    pixels = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    images = Images(pixels, [Frame(i, (32, 48), (32, 48)) for i in (0, 1)])
    box = torch.tensor([[4.0, 4, 28, 24]])
    targets = [Target(box, torch.tensor([1]), torch.tensor([False]))] * 2
    outputs = detector.network(images, targets)
    assert len(outputs.heatmap) == 4
    sum(detector.losses(outputs, targets).values()).backward()
    assert all(p.grad is not None for p in detector.parameters())
    detector.eval()
    both, last = detector.network(images, targets), detector.network(images)
    for a, b in zip(both, last, strict=True):
        torch.testing.assert_close(a[2:], b)
    for a, b in zip(
        detector.decode(both, images.sizes), detector.decode(last, images.sizes), strict=True
    ):
        assert torch.equal(a.boxes, b.boxes)


def test_errors_name_the_value() -> None:
    with pytest.raises(ValueError, match="0 stacks"):
        Hourglass(stacks=0)
    with pytest.raises(ValueError, match=r"channels \[256\]"):
        Hourglass(channels=[256])
