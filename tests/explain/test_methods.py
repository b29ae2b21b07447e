"""Maps of a detector whose pixels are known, and of every detector of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from detzoo.data import Letterbox
from detzoo.detectors import RCNN
from detzoo.explain import BASELINES, Asked, draw, explain, look
from detzoo.explain.layers import calls_of
from detzoo.explain.scores import energy, energy_share
from detzoo.explain.target import nearest
from detzoo.nn import Backbone
from detzoo.types import Candidates, Detections
from explain.known import EVERYWHERE, RedInBox, picture

BOXES = torch.tensor([[8.0, 8, 16, 16], [20, 4, 28, 12]])
# Windows and cells reach over the box's edge; Grad-CAM spreads a channel's weight over the map.
COARSE = {"occlusion": 0.5, "d_rise": 0.15, "grad_cam": 0.15}


def asked_for(index: int, factor: float = 1.0) -> Detections:
    return Detections(BOXES[index : index + 1] * factor, torch.tensor([0.9]), torch.tensor([index]))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("method", EVERYWHERE)
def test_the_map_lies_where_the_score_comes_from(method: str, index: int) -> None:
    heat = explain(RedInBox().eval(), picture(), asked_for(index), method)
    assert heat.shape == (32, 32) and heat.dtype == np.float32
    assert heat.max() == pytest.approx(1) and heat.min() >= 0
    mine, other = (energy_share(heat, BOXES[i : i + 1]) for i in (index, 1 - index))
    assert mine >= COARSE.get(method, 0.999)
    assert mine > 1.1 * other or method == "grad_cam"
    assert energy(heat, BOXES[index : index + 1]) > 1.5


@pytest.mark.parametrize("method", EVERYWHERE)
def test_the_same_seed_gives_the_same_map_and_leaves_the_detector_as_it_was(method: str) -> None:
    detector = RedInBox().train()
    first, second = (explain(detector, picture(), asked_for(0), method, seed=3) for _ in range(2))
    assert np.array_equal(first, second)
    assert detector.training and detector.neck.weight.grad is None


def test_the_package_is_the_function_too() -> None:
    import detzoo

    heat = detzoo.explain(RedInBox().eval(), picture(), asked_for(0), method="odam")
    assert np.array_equal(heat, explain(RedInBox().eval(), picture(), asked_for(0)))


def test_another_seed_gives_other_masks() -> None:
    maps = [explain(RedInBox().eval(), picture(), asked_for(0), "d_rise", seed=s) for s in (0, 1)]
    assert not np.array_equal(*maps)


def test_a_letterbox_is_undone() -> None:
    wide = picture(64, 128)  # 16 rows of the network's 32 are padding
    detector = RedInBox().eval()
    detector.boxes = torch.tensor([[8.0, 4, 16, 8], [20, 2, 28, 6]])
    view = look(detector, wide)
    assert view.frame.resized == (16, 32) and view.pixels.shape == (1, 3, 32, 32)
    heat = torch.zeros(32, 32)
    heat[4:8, 8:16] = 1
    found = view.in_original(heat)
    assert found.shape == (64, 128)
    assert found[16:32, 32:64].mean() > 0.8 and found[:, 80:].max() == 0


def test_a_planted_shortcut_is_found_out() -> None:
    corner = torch.tensor([[0.0, 0, 4, 4]])
    image = picture()
    image[:4, :4] = (250, 10, 10)
    honest, cheating = (
        energy_share(explain(detector.eval(), image, asked_for(0), "odam"), corner)
        for detector in (RedInBox(), RedInBox(shortcut=True))
    )
    assert honest == 0 and cheating > 0.7


def test_baselines_look_at_nothing() -> None:
    maps = {name: explain(RedInBox().eval(), picture(), asked_for(0), name) for name in BASELINES}
    assert np.ptp(maps["uniform"]) == 0
    assert np.unravel_index(maps["centred"].argmax(), (32, 32)) in {(15, 15), (16, 16), (15, 16)}
    assert maps["box"][8:16, 8:16].min() >= 1 / 1.1 - 1e-6 and maps["box"].sum() == pytest.approx(
        maps["box"][8:16, 8:16].sum()
    )


def test_guided_backpropagation_and_deconvnet_follow_their_rules() -> None:
    from detzoo.explain.relus import ruled_relus

    x = torch.tensor([-1.0, 2.0, 3.0, 7.0], requires_grad=True)
    slope = torch.tensor([5.0, -1.0, 4.0, 1.0])
    wanted = {"deconvnet": [5, 0, 4, 1], "guided": [0, 0, 4, 1]}
    for rule, answer in wanted.items():
        for relu in (torch.relu, torch.nn.ReLU(), torch.nn.functional.relu, torch.Tensor.relu):
            with ruled_relus(rule):
                y = relu(x)
            assert torch.equal(y, x.clamp(min=0))
            assert torch.autograd.grad(y, x, slope)[0].tolist() == answer
        with ruled_relus(rule):
            y = torch.nn.ReLU6(inplace=True)(x * 1.0)
        assert y.tolist() == [0, 2, 3, 6]
        assert torch.autograd.grad(y, x, slope)[0].tolist() == answer
    with pytest.raises(ValueError, match="rule is 'other'"):
        ruled_relus("other")


def test_a_mean_over_whole_maps_is_what_parts_grad_cam_from_odam() -> None:
    """ODAM weighs cell by cell; Grad-CAM's channel weight is spread over the map, so that the other
    red object lights up too."""
    maps = {m: explain(RedInBox().eval(), picture(), asked_for(0), m) for m in ("odam", "grad_cam")}
    assert energy_share(maps["odam"], BOXES[:1]) == pytest.approx(1)
    assert maps["grad_cam"][4:12, 20:28].min() > 0.5


def test_cam_is_grad_cam_where_the_head_pools_globally() -> None:
    """Of every crop's class, though only one of the two asks for gradients."""
    torch.manual_seed(0)
    detector = RCNN(
        backbone=Backbone("test_resnet"),
        num_classes=3,
        crop=96,
        context=2,
        head="gap",
        chunk=7,
        max_proposals=20,
    )
    detector.head.scores.weight.data.normal_()
    detector.eval().resize = Letterbox(64)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for index in (0, 5):
        found = detector.predict(image)
        view = look(detector, image)
        (box,) = view.boxes(found.boxes[index : index + 1])
        asked = Asked(box, int(found.labels[index]))
        maps = [draw(detector, view, asked, method) for method in ("cam", "grad_cam")]
        one, other = (heat / heat.max() for heat in maps)
        assert maps[0].max() > 0 and torch.allclose(one, other, atol=1e-5)
        detector.chunk = 128
        whole = draw(detector, view, asked, "grad_cam")
        assert torch.allclose(whole, maps[1], atol=1e-5), "whatever goes through at once"
        detector.chunk = 7
    with pytest.raises(ValueError, match=r"RedInBox has no head with global pooling.*head=gap"):
        explain(RedInBox().eval(), picture(), asked_for(0), "cam")


def test_the_nearest_candidate_is_of_the_label_then_of_the_box_then_the_best() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 9, 10], [0, 0, 10, 10]]])
    found = Candidates(boxes, torch.tensor([[0.3, 0.6, 0.9, 0.8]]), torch.tensor([[0, 0, 0, 1]]))
    assert nearest(found, Asked(torch.tensor([0.0, 0, 10, 10]), 0)).tolist() == [1]
    assert nearest(found, Asked(torch.tensor([0.0, 0, 9, 10]), 0)).tolist() == [2]
    assert nearest(found, Asked(torch.tensor([0.0, 0, 9, 10]), 1)).tolist() == [3]


def test_errors_name_what_came() -> None:
    detector = RedInBox().eval()
    with pytest.raises(ValueError, match="method is 'heat'; choose one of odam"):
        explain(detector, picture(), asked_for(0), "heat")
    with pytest.raises(ValueError, match="index is 1, and there are 1 detections"):
        explain(detector, picture(), asked_for(0), index=1)
    elsewhere = Detections(torch.tensor([[0.0, 20, 8, 30]]), torch.ones(1), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"proposes no box of class 0 near \(0, 20, 8, 30\)"):
        explain(detector, picture(), elsewhere)


def test_captum_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(ValueError, match=r"pip install 'detzoo\[explain\]'"):
        explain(RedInBox().eval(), picture(), asked_for(0), "saliency")


def test_maps_are_kept_as_they_were_before_a_relu_in_place():
    """Their gradient, too, is of what the layer itself gives."""
    convolution = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(convolution.weight, -2.0)
    network = nn.Sequential(convolution, nn.ReLU(inplace=True))
    with calls_of(convolution) as calls:
        out = network(torch.tensor([[[[1.0, -1.0]]]]))
    ((kept,),) = calls
    assert out.tolist() == [[[[0.0, 2.0]]]] and kept.tolist() == [[[[-2.0, 2.0]]]]
    (slope,) = torch.autograd.grad(out.sum(), kept)
    assert slope.tolist() == [[[[0.0, 1.0]]]]
