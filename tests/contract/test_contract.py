"""What every detector promises, over every file of conf/detector (design.md, The interface).

Promise 6 is tests/overfit; promise 7, the ideal-output round trip, needs to know a detector's
outputs and is in each detector's own test file.
"""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from composed import CONFIGS, described
from detzoo import config, detectors
from detzoo.data import Letterbox
from detzoo.detector import Detector
from detzoo.engine.precision import prepare
from detzoo.explain import Asked, View, check_asked, draw
from detzoo.explain.sanity import layers, randomise_layers
from detzoo.ops import losses as losses_module
from detzoo.types import Detections, Frame, Images, Target

CLASSES = 3
HEIGHT, WIDTH = 64, 96
# Of whatever a detector has by these names, so that the suite is fast.
SMALL = {"channels": 64, "head_channels": 16, "upsample_channels": 16, "chunk": 7}
MOST = 30  # detections
# What gets a gradient of zeros at these pixels. All regions of a small image are read from P2
# (RegionFeatures.canonical_size), and Fast R-CNN has no RPN that reads P3 to P5. The first decoder
# layer of DETR's relatives has zeros for the values of its self-attention, at any size.
EXEMPT = {
    "fast_rcnn": r"neck\.smooth\.[123]\.(weight|bias)",
    "transformers/detr": r"model\.model\.decoder\.layers\.0\.self_attn\.v_proj\.weight",
    **dict.fromkeys(
        ("transformers/conditional_detr", "transformers/dab_detr"),
        r"model\.model\.decoder\.layers\.0\.self_attn\.\w*(content|v|value)_proj\.weight",
    ),
}

NO_NOISE = {"box_noise": 0.0, "label_noise": 0.0}  # of denoising


def make(name: str, **settings: float) -> Detector:
    """The detector of conf/detector/<name>.yaml with a small backbone and small widths."""
    node = described(name)
    node["backbone"] = {"_target_": "detzoo.nn.Backbone", "name": "test_resnet"}
    known = inspect.signature(getattr(detectors, node["_target_"].split(".")[-1])).parameters
    node |= {key: value for key, value in SMALL.items() if key in known}
    if name.endswith("rcnn"):
        node["head_width"] = 32
    if name.startswith("transformers/"):
        node |= {
            "channels": 32,
            "hidden": 64,
            "decoder_layers": 2,
            "encoder_layers": 1,
            "queries": 20,
        }
    return config.build(node, num_classes=CLASSES, **settings)


def build(name: str, seed: int = 3) -> Detector:
    """A detector that finds objects untrained: its batch norm has statistics, its heads large
    weights."""
    torch.manual_seed(seed)
    detector = make(name, score_threshold=0.0, max_detections=MOST)
    for part in ("rpn", "head"):
        for module in getattr(detector, part, nn.Identity()).modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the next batch's statistics, and no others
    with torch.no_grad():
        detector.train().network(batch(WIDTH, WIDTH))
    return detector


shared = cache(build)  # for tests that leave the weights as they are


def own(name: str) -> Detector:
    """For tests that do not; a copy is made sooner than another one is built."""
    return copy.deepcopy(shared(name))


def batch(*widths: int) -> Images:
    """Random images of full height and these widths, padded to WIDTH."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    pixels = pixels[: len(widths)]
    for image, width in zip(pixels, widths, strict=True):
        image[..., width:] = 0
    frames = [Frame(i, (HEIGHT, w), (HEIGHT, w)) for i, w in enumerate(widths)]
    return Images(pixels, frames, [proposals(i, generator) for i in range(len(widths))])


def proposals(image: int, generator: torch.Generator) -> Tensor:
    """What is given to those who need it: near the objects of SOME, and anywhere."""
    near = SOME[image % 2].boxes.repeat(4, 1)
    near = near + 6 * torch.rand(near.shape, generator=generator) - 3
    ends = torch.rand(20, 2, 2, generator=generator).sort(1).values
    return torch.cat([near, (ends * torch.tensor([WIDTH, HEIGHT])).flatten(1)])


def target(*objects: tuple[float, float, float, float, int], crowd: bool = False) -> Target:
    """From (x1, y1, x2, y2, label)."""
    rows = torch.tensor(objects, dtype=torch.float32).reshape(-1, 5)
    return Target(rows[:, :4], rows[:, 4].long(), torch.full((len(rows),), crowd))


def crowded(count: int) -> Target:
    """Objects anywhere, from a pixel to all of the image, overlapping freely."""
    size = torch.tensor([WIDTH, HEIGHT])
    start = torch.rand(count, 2) * (size - 1)
    end = start + 1 + torch.rand(count, 2) * (size - 1 - start)
    boxes = torch.cat([start, end], 1)
    return Target(boxes, torch.randint(CLASSES, (count,)), torch.zeros(count, dtype=torch.bool))


SOME = [target((4, 8, 36, 40, 0), (30, 20, 62, 60, 2)), target((10, 10, 50, 30, 1))]
EMPTY = [target(), target()]
TRUTHS = {
    "some": SOME,
    "one image empty": [SOME[0], target()],
    "all images empty": EMPTY,
    "crowd alone": [target((4, 8, 36, 40, 0), crowd=True), target((0, 0, 80, 64, 1), crowd=True)],
}


def step(
    detector: Detector, images: Images, targets: list[Target], seed: int = 7
) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return detector.losses(detector.network(images, targets), targets)


class Spread:
    """Replaces torch.distributed: two processes, with the other one's counts known."""

    def __init__(self, others: list[float] | None = None) -> None:
        self.own, self.others = [], iter(others or [])

    def all_reduce(self, count: Tensor) -> None:
        self.own.append(float(count))
        count += next(self.others, 0.0)

    is_available = is_initialized = staticmethod(lambda: True)
    get_world_size = staticmethod(lambda: 2)


def modes(detector: Detector) -> dict[str, bool]:
    return {name: module.training for name, module in detector.named_modules()}


def assert_same(a: Detections, b: Detections, nms_threshold: float | None = None) -> None:
    """Every detection of one is among the other's, but for those at the cut after the best MOST.

    Not compared one by one: rounding may swap two whose scores are equal to six digits. It also
    decides what NMS keeps of two whose overlap is its threshold to three digits, or which overlap
    more and have equal scores.
    """
    for one, other in ((a, b), (b, a)):
        same_label = one.labels[:, None] == other.labels
        same_score = (one.scores[:, None] - other.scores).abs() < 1e-4
        same_box = ((one.boxes[:, None] - other.boxes).abs() < 0.05).all(2)
        lost = ~(same_score & same_box & same_label).any(1)
        if len(one) == MOST:
            lost &= one.scores > one.scores[-1] + 1e-4
        if nms_threshold is not None:
            more = box_iou(one.boxes, other.boxes) - nms_threshold
            undecided = (more.abs() < 1e-3) | ((more > 0) & same_score)
            lost &= ~(undecided & same_label).any(1)
        assert not lost.any(), f"{one.boxes[lost]}, {one.scores[lost]} is not among the other's"


def test_there_are_configs() -> None:
    assert {"centernet", "fast_rcnn", "rcnn", "retinanet", "torchvision/retinanet"} <= set(CONFIGS)
    assert {"ssd", "yolo", "yolov3"} <= set(CONFIGS)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "/" not in name])  # no peers
def test_the_first_loss_is_finite_in_bf16(name: str) -> None:
    """As it is made, for ten seeds; 100 boxes of a pixel to the whole image beside no box."""
    images = batch(WIDTH, 80)
    for seed in range(10):
        torch.manual_seed(seed)
        detector = make(name).train()
        with torch.autocast("cpu", torch.bfloat16):
            losses = detector(images, [crowded(100), target()])
        assert all(torch.isfinite(loss) for loss in losses.values()), f"seed {seed}: {losses}"
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10, error_if_nonfinite=True)


def floating(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    parts = value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in floating(part)]


@pytest.mark.parametrize("name", [name for name in CONFIGS if "/" not in name])  # no peers
@pytest.mark.parametrize("inference", [False, True])
def test_last_layers_answer_in_float32(name: str, inference: bool) -> None:
    """In any type of autocast, folded or not; and the outputs agree with fp32's."""
    detector = own(name).eval()
    prepare(detector, "cpu", False, inference=inference)
    images = batch(WIDTH, 80)
    first = slice(0, 2 if name == "faster_rcnn" else None)  # its regions depend on rounding
    with torch.no_grad():
        exact = floating(list(detector.network(images))[first])
        with torch.autocast("cpu", torch.bfloat16):
            outputs = detector.network(images)
    assert {tensor.dtype for tensor in floating(outputs)} == {torch.float32}
    for found, wanted in zip(floating(list(outputs)[first]), exact, strict=True):
        assert (found - wanted).abs().mean() <= 0.05 * (wanted.abs().mean() + 1)


@pytest.mark.parametrize("name", CONFIGS)
class TestPromises:
    @pytest.mark.parametrize("truth", [*TRUTHS, "some, in bf16"])
    def test_losses_are_finite_scalars_that_train(self, name: str, truth: str) -> None:
        """Promises 1 and 3, and float32 for any precision of the network."""
        detector = own(name).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=truth.endswith("bf16")):
            losses = detector(batch(WIDTH, 80), TRUTHS[truth.split(",")[0]])
        assert losses
        for key, loss in losses.items():
            assert loss.shape == () and loss.dtype == torch.float32, key
            assert torch.isfinite(loss) and loss >= 0, f"{key} is {loss}"
        sum(losses.values()).backward()
        for key, parameter in detector.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key

    def test_losses_are_normalised(self, name: str) -> None:
        """The same images twice in a batch: the same loss, not twice of it."""
        detector = shared(name).eval()
        images, twice = batch(WIDTH, 80), batch(WIDTH, 80)
        twice = Images(twice.pixels.repeat(2, 1, 1, 1), twice.frames * 2, twice.proposals * 2)
        draws = range(4)  # of the regions that are trained on, whose number is small
        once = [step(detector, images, SOME, seed) for seed in draws]
        double = [step(detector, twice, SOME * 2, seed) for seed in draws]
        for key in once[0]:
            one, other = (sum(losses[key].item() for losses in each) for each in (once, double))
            assert other == pytest.approx(one, rel=0.3), key

    def test_targets_and_not_the_mode_decide_what_is_sampled(self, name: str) -> None:
        """Promise 2: validation losses in eval mode, detections in training mode."""
        detector, images = shared(name), batch(WIDTH, 80)
        for training in (False, True):
            detector.train(training)
            before = modes(detector)
            assert all(torch.isfinite(x) for x in step(detector, images, SOME).values())
            found = detector.decode(detector.network(images), images.sizes)
            assert len(found) == 2
            assert modes(detector) == before

    def test_targets_in_eval_mode_change_nothing(self, name: str) -> None:
        """Promise 8: no true box is among the detections but where it was found."""
        detector, images = shared(name).eval(), batch(WIDTH, 80)
        for known, found in zip(detector(images, SOME), detector(images), strict=True):
            for one, other in ((known.boxes, found.boxes), (known.scores, found.scores)):
                assert torch.equal(one, other)
            assert torch.equal(known.labels, found.labels)

    def test_training_without_targets_is_an_error_that_says_so(self, name: str) -> None:
        detector = shared(name).train()
        with pytest.raises(ValueError, match=r"training mode.*no targets.*eval"):
            detector(batch(WIDTH, 80))

    def test_an_image_alone_gives_what_it_gives_in_a_batch(self, name: str) -> None:
        """Promise 4."""
        detector, images = shared(name).eval(), batch(WIDTH, 80, 48)
        together = detector(images)
        assert sum(map(len, together)) > 10
        for i, expected in enumerate(together):
            part = slice(i, i + 1)
            alone = Images(images.pixels[part], images.frames[part], images.proposals[part])
            assert_same(detector(alone)[0], expected, getattr(detector, "nms_threshold", None))

    def test_what_lies_in_the_padding_does_not_matter(self, name: str) -> None:
        detector, images = shared(name).eval(), batch(80, 48)
        noisy = images.pixels.clone()
        noisy[0, ..., 80:] = 255
        noisy[1, ..., 48:] = 99
        for a, b in zip(detector(images), detector(replace(images, pixels=noisy)), strict=True):
            assert_same(a, b)

    def test_uint8_and_float_pixels_are_the_same_image(self, name: str) -> None:
        detector, images = shared(name).eval(), batch(WIDTH, 80)
        floats = replace(images, pixels=images.pixels.float() / 255)
        for a, b in zip(detector(images), detector(floats), strict=True):
            assert_same(a, b)

    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        """Promise 5: one that is not all zero somewhere in the first steps of a training.

        Not at the first, where a residual branch that ends in a zero has none for what is before.
        """
        detector = own(name).train()
        trained = {k: p for k, p in detector.named_parameters() if p.requires_grad}
        exempt = {k for k in trained if re.fullmatch(EXEMPT.get(name, "none"), k)}
        idle = trained.keys() - exempt
        optimizer = torch.optim.SGD(trained.values(), lr=0.1)
        for seed in range(4):
            torch.manual_seed(seed)
            targets = [crowded(12), crowded(3)]
            optimizer.zero_grad()
            sum(step(detector, batch(WIDTH, 80), targets, seed).values()).backward()
            assert all(p.grad is not None for p in trained.values()), "DDP waits for every one"
            moved = {k for k, p in trained.items() if p.grad.any()}
            assert not moved & exempt, "exempt, and need not be"
            idle -= moved
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
        assert not idle

    def test_a_seed_gives_the_same_numbers(self, name: str) -> None:
        """Promise 5."""
        first, second = (
            step(build(name, seed=3).train(), batch(WIDTH, 80), SOME) for _ in range(2)
        )
        assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}

    def test_detections_are_what_the_type_says(self, name: str) -> None:
        detector, images = shared(name).eval(), batch(WIDTH, 80, 48)
        detections = detector(images)
        assert any(map(len, detections))
        for found, (height, width) in zip(detections, images.sizes, strict=True):
            assert len(found) <= MOST
            assert found.boxes.dtype == found.scores.dtype == torch.float32
            assert found.labels.dtype == torch.int64
            assert found.boxes.shape == (len(found), 4)
            assert (found.boxes >= 0).all()
            assert (found.boxes <= torch.tensor([width, height, width, height])).all()
            assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
            assert (found.scores[:-1] >= found.scores[1:]).all()
            assert (found.scores >= 0).all() and (found.scores <= 1).all()
            assert (found.labels >= 0).all() and (found.labels < CLASSES).all()

    def test_candidates_are_what_detections_are_chosen_from_with_a_gradient(
        self, name: str
    ) -> None:
        detector, images = shared(name).eval(), batch(WIDTH, 80)
        images = replace(images, pixels=(images.pixels / 255).requires_grad_())
        outputs = detector.network(images)
        found = detector.candidates(outputs, images.sizes)
        batch_size, number = found.scores.shape
        assert batch_size == 2 and found.boxes.shape == (2, number, 4)
        assert found.labels.shape == (2, number) and found.labels.dtype == torch.int64
        assert found.boxes.dtype == found.scores.dtype == torch.float32
        assert ((found.scores >= 0) & (found.scores <= 1) | (found.scores == -1)).all()
        exists = found.scores > 0
        assert (found.labels[exists] >= 0).all() and (found.labels[exists] < CLASSES).all()
        (gradient,) = torch.autograd.grad(found.scores[exists].sum(), images.pixels)
        assert gradient.isfinite().all() and gradient.any()
        if detector.decode.__func__ is not Detector.decode or name == "cornernet":
            return  # torchvision's own tail, and soft NMS, which changes scores
        for i, detections in enumerate(detector.decode(outputs, images.sizes)):
            candidates = set(zip(found.scores[i].tolist(), found.labels[i].tolist(), strict=True))
            rows = zip(detections.scores.tolist(), detections.labels.tolist(), strict=True)
            assert candidates.issuperset(rows)

    def test_predict_takes_images_of_any_size(self, name: str) -> None:
        """From arrays to boxes in their own pixels, by the detector alone, proposals and all."""
        detector = shared(name)
        detector.resize = Letterbox((HEIGHT, WIDTH))
        generator = np.random.default_rng(0)
        shapes = (50, 70, 3), (128, 192, 3)
        arrays = [generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
        found = detector.predict(arrays, score_threshold=0.0)
        assert len(found) == 2 and any(map(len, found))
        for detections, array in zip(found, arrays, strict=True):
            height, width = array.shape[:2]
            assert (detections.boxes <= torch.tensor([width, height, width, height])).all()

    def test_nothing_found_is_an_empty_detections(self, name: str) -> None:
        for found in make(name, score_threshold=1.0).eval()(batch(WIDTH, 80)):
            assert found.boxes.shape == (0, 4)
            assert found.scores.shape == found.labels.shape == (0,)

    def test_weights_and_copies_carry_everything(self, name: str) -> None:
        """A state dict makes another detector the same; a copy (the EMA) is the same, and apart."""
        detector, images = own(name).eval(), batch(WIDTH, 80)
        expected = detector(images)
        other = build(name, seed=5).eval()
        other.load_state_dict(detector.state_dict())
        twin = copy.deepcopy(detector)
        with torch.no_grad():
            for parameter in detector.parameters():
                parameter.zero_()
        for model in (other, twin):
            for a, b in zip(model(images), expected, strict=True):
                assert_same(a, b)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "/" not in name])  # no peers
@pytest.mark.parametrize("truth", ["some", "one image empty"])
def test_the_mean_of_two_processes_losses_is_the_whole_batch_s(
    name: str, truth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = own(name).eval()  # batch norm sees each image for itself
    # All regions, and no noise, so that nothing is drawn
    for part, value in {"rpn_batch": 10**6, "roi_batch": 10**6, **NO_NOISE}.items():
        if hasattr(detector, part):
            setattr(detector, part, value)
    images, targets = batch(WIDTH, WIDTH), TRUTHS[truth]
    whole = step(detector, images, targets)
    parts = [
        (Images(images.pixels[i : i + 1], images.frames[i : i + 1], images.proposals[i : i + 1]), t)
        for i, t in enumerate([[target] for target in targets])
    ]
    counts = []
    for part in parts:
        monkeypatch.setattr(losses_module, "distributed", Spread())
        step(detector, *part)
        counts.append(losses_module.distributed.own)
    found = []
    for part, others in zip(parts, reversed(counts), strict=True):
        monkeypatch.setattr(losses_module, "distributed", Spread(others))
        found.append(step(detector, *part))
    for key, value in whole.items():
        assert torch.allclose((found[0][key] + found[1][key]) / 2, value, rtol=1e-4), key


@pytest.mark.parametrize("name", CONFIGS)
def test_a_detection_is_explained_by_the_maps_that_it_hangs_on(name: str) -> None:
    detector = shared(name).eval()
    images = batch(WIDTH)
    view = View(replace(images, pixels=images.pixels.float() / 255))
    found = detector.decode(detector.network(view.images), view.images.sizes)[0]
    asked = Asked(found.boxes[0], int(found.labels[0]))
    assert check_asked(detector, view, asked) > 0
    heat = draw(detector, view, asked, "odam")
    assert heat.shape == (HEIGHT, WIDTH) and bool((heat >= 0).all()) and bool(heat.isfinite().all())
    assert heat.max() > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_are_randomised_one_after_the_other(name: str) -> None:
    """Every parameter but those of batch norms, once, from the last layer to the first."""
    detector = shared(name)
    found = layers(detector)
    assert next(iter(found)) == "head" and list(found)[-1] == "backbone 0"
    of = {id(p): layer for layer, ms in found.items() for m in ms for p in m.parameters()}
    assert set(of) == {id(p) for p in detector.parameters()}
    norms = [m for m in detector.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    kept = {id(p) for norm in norms for p in norm.parameters()}
    kept |= {
        id(p) for p in detector.parameters() if p.numel() == 1 or not p.std() > 0
    }  # as a new one has it
    before = [(key, p, p.clone()) for key, p in detector.named_parameters() if id(p) not in kept]
    done: set[str] = set()
    for layer, twin in randomise_layers(detector):
        done.add(layer)
        now = dict(twin.named_parameters())
        for key, parameter, old in before:
            assert torch.equal(parameter, old), "the detector itself is left as it is"
            assert torch.equal(now[key], old) != (of[id(parameter)] in done), key
    assert done == set(found)
