from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from detzoo.detectors import detr
from detzoo.detectors.detr import DETR, Outputs
from detzoo.nn import Backbone
from detzoo.nn.transformer import sine_of, sine_positions
from detzoo.ops import boxes as box_ops
from detzoo.types import Frame, Images, Target, pad_targets

from .targets import target

K, QUERIES = 3, 12
SMALL = {
    "channels": 32,
    "heads": 4,
    "hidden": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "queries": QUERIES,
}


def make(**settings: object) -> DETR:
    torch.manual_seed(0)
    return DETR(backbone=Backbone("test_resnet"), num_classes=K, **(SMALL | settings)).eval()


def batch(*sizes: tuple[int, int]) -> Images:
    """Noise of these sizes, padded to the largest, and to multiples of 32."""
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    pixels = torch.zeros(len(sizes), 3, height, width, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    for image, (h, w) in zip(pixels, sizes, strict=True):
        image[:, :h, :w] = torch.randint(0, 256, (3, h, w), generator=generator).byte()
    return Images(pixels, [Frame(i, size, size) for i, size in enumerate(sizes)])


SIZES = [(64, 96), (90, 61)]
TRUTH = [
    target((3, 5, 40, 30, 0), (10, 8, 30, 28, 2), (60, 1, 96, 20, 1)),
    target((4, 4, 50, 80, 1)),
]


def perfect(targets: list[Target], sizes: list[tuple[int, int]]) -> Outputs:
    """Queries 0, 1, ... know an object each, all others that there is none; L is 2."""
    logits = torch.full((2, len(targets), QUERIES, K + 1), -12.0)
    logits[..., K] = 12.0
    boxes = torch.full((2, len(targets), QUERIES, 4), 0.5)
    scale = torch.tensor([[(w, h, w, h)] for h, w in sizes], dtype=torch.float32)
    for i, truth in enumerate(targets):
        objects, labels = truth.objects
        query = torch.arange(len(objects))
        logits[:, i, query, K] = -12.0
        logits[:, i, query, labels] = 12.0
        boxes[:, i, query] = box_ops.to_cxcywh(objects / scale[i])
    return Outputs(logits, boxes, scale)


def test_ideal_outputs_give_the_objects_back():
    found = make(score_threshold=0.5).decode(perfect(TRUTH, SIZES), SIZES)
    for got, want in zip(found, TRUTH, strict=True):
        rows = sorted((k, *box) for k, box in zip(*pair(want), strict=True))
        got_rows = sorted((k, *box) for k, box in zip(*pair(got), strict=True))
        assert len(rows) == len(got_rows)
        for row, other in zip(rows, got_rows, strict=True):
            assert other == pytest.approx(row, abs=1e-3)


def pair(x) -> tuple[list[int], list[list[float]]]:
    return x.labels.tolist(), x.boxes.tolist()


def test_ideal_outputs_cost_next_to_nothing():
    assert sum(make().losses(perfect(TRUTH, SIZES), TRUTH).values()).item() < 1e-3


def test_every_object_has_a_query_of_its_own():
    outputs = make().network(batch(*SIZES))
    chosen = make().assign(outputs, pad_targets(TRUTH))
    assert chosen.shape == (2, 2, 3)
    for layer in chosen.tolist():
        assert len(set(layer[0])) == 3 and min(layer[0]) >= 0
        assert layer[1][0] >= 0 and layer[1][1:] == [-1, -1]  # padding has none


def test_the_assignment_is_the_cheapest_by_hand():
    """Two queries, one object: the surer query loses where its box is far off."""
    detector = make()
    logits = torch.zeros(1, 1, 2, K + 1)
    logits[0, 0, 0, 0] = 1.0  # p(class) 0.475 against 0.25
    boxes = torch.tensor([[[[0.8, 0.8, 0.1, 0.1], [0.25, 0.25, 0.5, 0.5]]]])
    outputs = Outputs(logits, boxes, torch.full((1, 1, 4), 100.0))
    truth = pad_targets([target((0, 0, 50, 50, 0))])
    assert detector.assign(outputs, truth).tolist() == [[[1]]]
    boxes[0, 0, 0] = boxes[0, 0, 1]
    assert detector.assign(outputs, truth).tolist() == [[[0]]]


def test_more_objects_than_queries_are_no_error():
    detector = make(queries=2)
    many = target(*((i, i, i + 20, i + 20, i % K) for i in range(5)))
    outputs = detector.network(batch((64, 64)))
    assert (detector.assign(outputs, pad_targets([many])) >= 0).sum(-1).tolist() == [[2], [2]]
    assert all(value.isfinite() for value in detector.losses(outputs, [many]).values())


def test_what_a_crowd_covers_costs_nothing():
    detector, outputs = make(), perfect([target()], [(64, 64)])
    outputs.logits[..., 0] = 20.0  # alarms everywhere
    everywhere = target((0, 0, 64, 64, 0), crowd=True)
    assert detector.losses(outputs, [target()])["class"] > 1
    assert detector.losses(outputs, [everywhere])["class"] == 0


def test_an_image_s_padding_changes_nothing():
    """Positions end where the image ends, and no key is padding."""
    detector = make()
    alone = Images(batch(*SIZES).pixels[1:], batch(*SIZES).frames[1:])
    wide = nn.functional.pad(alone.pixels, (0, 64, 0, 32))
    with torch.no_grad():
        narrow = look(detector, *features(detector, alone))
        padded = look(detector, *features(detector, Images(wide, alone.frames)))
    torch.testing.assert_close(padded, narrow, rtol=1e-4, atol=1e-5)


def look(detector: DETR, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return detector.transformer.decode(detector.transformer.encode(x, mask))


def features(detector: DETR, images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """A map that knows nothing of padding, and its mask: so that the transformer is seen alone."""
    (h, w), rows, columns = images.sizes[0], *(side // 32 for side in images.pixels.shape[-2:])
    mask = torch.zeros(1, rows, columns, dtype=torch.bool)
    mask[:, : -(-h // 32), : -(-w // 32)] = True
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(1, 32, rows, columns)
    x[..., : -(-h // 32), : -(-w // 32)] = torch.randn(
        1, 32, -(-h // 32), -(-w // 32), generator=generator
    )
    return x, mask


def test_sine_positions_by_hand():
    """One row of two cells: x is at pi and 2 pi, y at 2 pi; wavelength 1, then 100."""
    positions = sine_positions(torch.ones(1, 1, 2, dtype=torch.bool), 8)[0, 0]
    full, half = 2 * torch.pi, torch.pi
    for cell, x in enumerate((half, full)):
        angles = torch.tensor([full, full / 100, x, x / 100])
        wanted = torch.stack([angles.sin(), angles.cos()], 1).flatten()
        torch.testing.assert_close(positions[cell], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("position", ["attention", "input", "decoder", "none"])
def test_without_positions_a_shuffled_map_is_the_same(position):
    detector = make(position=position)
    x = torch.randn(1, 32, 2, 3)
    shuffled = x.flatten(2)[..., [4, 2, 0, 5, 1, 3]].view_as(x)
    with torch.no_grad():
        same = torch.allclose(look(detector, x, None), look(detector, shuffled, None), atol=1e-5)
    assert same == (position == "none")


def test_an_anchored_query_looks_from_its_box() -> None:
    """A box is first its query's own; moved, the query takes it along and looks elsewhere."""
    detector = make(anchored=True)
    with torch.no_grad():
        before = detector.network(batch(*SIZES))
        own = detector.anchors.sigmoid()
        torch.testing.assert_close(before.boxes, own.expand_as(before.boxes))
        assert own.min() > 0 and own.max() < 1 and own[:, :2].std() > 0.1
        torch.testing.assert_close(own[:, 2:], torch.full((QUERIES, 2), 0.1))
        detector.anchors += 1
        after = detector.network(batch(*SIZES))
        assert not torch.allclose(before.logits, after.logits)
        assert (after.boxes > before.boxes).all()
    sum(detector.losses(detector.network(batch(*SIZES)), TRUTH).values()).backward()
    learnt = [detector.anchors, *detector.transformer.place.parameters()]
    assert all(parameter.grad.any() for parameter in learnt)


LEARNS = {"two_stage": True, "denoising": 12}


def test_a_cell_s_box_begins_in_its_middle_and_the_best_become_queries() -> None:
    """An image of 64 x 96 has 2 x 3 cells of 32 pixels; the box layers begin with zeros."""
    detector = make(two_stage=True, queries=2)
    with torch.no_grad():
        outputs = detector.network(batch((64, 96)))
        x, y = outputs.proposals.boxes[0, 0, :, 0], outputs.proposals.boxes[0, 0, :, 1]
        torch.testing.assert_close(x, torch.tensor([16, 48, 80, 16, 48, 80]) / 96)
        torch.testing.assert_close(y, torch.tensor([16, 16, 16, 48, 48, 48]) / 64)
        torch.testing.assert_close(outputs.proposals.boxes[..., 2:], torch.full((1, 1, 6, 2), 0.1))
        logits = torch.zeros(1, 1, 6, K + 1)
        logits[0, 0, 4, 1] = logits[0, 0, 2, 0] = 5.0
        logits[0, 0, 2, 3] = 2.0  # less sure
        best = detector.best_proposals(outputs.proposals._replace(logits=logits))
    torch.testing.assert_close(best, outputs.proposals.boxes[0][:, [2, 4]])
    torch.testing.assert_close(outputs.boxes[0, 0], outputs.boxes[1, 0])  # nothing is corrected yet


def test_the_decoder_trains_no_proposal() -> None:
    detector = make(two_stage=True)
    outputs = detector.network(batch((64, 96)))
    (outputs.boxes.sum() + outputs.logits.sum()).backward()
    assert all(parameter.grad is None for parameter in detector.encoder_head.parameters())
    assert any(parameter.grad.any() for parameter in detector.transformer.encoder.parameters())


def test_cells_of_the_padding_are_nothing_and_no_query() -> None:
    detector = make(two_stage=True, queries=2)
    with torch.no_grad():
        detector.encoder_head.logits.bias[0] = 30.0  # objects everywhere
        outputs = detector.network(batch((64, 32), (64, 96)))  # a column of three, and all three
        nothing = outputs.proposals.logits[0].softmax(-1)[..., -1]
        boxes = detector.best_proposals(outputs.proposals)
    assert (nothing[0] > 0.99).tolist() == [False, True, True] * 2 and (nothing[1] < 0.01).all()
    assert (boxes[0, :, 0] == 0.5).all()


@pytest.mark.parametrize("settings", [LEARNS, {"anchored": True, "denoising": 12}])
def test_other_groups_and_queries_know_nothing_of_a_group_s_noise(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three objects, four groups; the boxes and labels of the second are changed."""
    detector, images = make(**settings), batch(*SIZES)
    found = []
    for change in (False, True):

        def noise(boxes, labels, *, groups, change=change, **_):
            boxes, labels = boxes.repeat(1, groups, 1), labels.repeat(1, groups)
            if change:
                boxes[:, 3:6] = 0.7
                labels[:, 3:6] = 1
            return boxes, labels

        monkeypatch.setattr(detr, "add_noise", noise)
        with torch.no_grad():
            found.append(detector.network(images, TRUTH))
    for one, other in zip(found[0][:2], found[1][:2], strict=True):
        assert torch.equal(one, other), "a query was told"
    for one, other in zip(found[0].denoised, found[1].denoised, strict=True):
        assert one.shape[2] == 12
        differs = (one != other).flatten(3).any(-1).any(0)  # (B, G M)
        assert not differs[:, [0, 1, 2, *range(6, 12)]].any(), "a group was told"
        assert differs[:, 3].all()


def test_a_perfect_denoiser_costs_nothing_and_an_image_has_as_many_groups_as_fit() -> None:
    detector = make(**LEARNS, box_noise=0.0, label_noise=0.0)
    truth = pad_targets(TRUTH)
    outputs = detector.network(batch(*SIZES), TRUTH)
    logits = torch.full((2, 2, 12, K + 1), -20.0)
    logits.scatter_(3, truth.labels.repeat(1, 4).expand(2, -1, -1)[..., None], 20.0)
    boxes = box_ops.to_cxcywh(truth.boxes / outputs.scale).repeat(1, 4, 1).expand(2, -1, -1, -1)
    perfect_outputs = outputs._replace(denoised=detr.Predictions(logits, boxes))
    assert detector.losses(perfect_outputs, TRUTH)["denoising"] < 1e-5
    shifted = perfect_outputs._replace(denoised=detr.Predictions(logits, boxes + 0.01))
    wanted = 2 * 4 * 0.01 * 5  # two layers, four sides, the weight of L1; the mean over objects
    l1_alone = make(**LEARNS, box_loss="l1").losses(shifted, TRUTH)["denoising"].item()
    assert l1_alone == pytest.approx(wanted, rel=1e-3)
    many = target(*((i, i, i + 20, i + 20, i % K) for i in range(13)))
    for objects, expected in ((12, 12), (7, 7), (13, 0)):
        few = many[torch.arange(objects)]
        outputs = detector.network(batch((64, 64)), [few])
        assert outputs.denoised.boxes.shape[2] == expected
        losses = detector.losses(outputs, [few])
        assert all(value.isfinite() for value in losses.values())
        assert (losses["denoising"] == 0) == (expected == 0)
        detector.zero_grad()
        sum(losses.values()).backward()
        assert detector.label_embedding.weight.grad is not None, "DDP waits for every one"


def test_a_crowd_is_denoised_by_nobody() -> None:
    """Neither predicted nor used: the losses are the same with and without it."""
    objects = [(4, 8, 36, 40, 0), (30, 20, 62, 60, 2)]
    detector = make(**LEARNS, box_noise=0.0, label_noise=0.0)
    rows = target(*objects)
    with_crowd = Target(rows.boxes, rows.labels, torch.tensor([False, True]))
    losses, denoised = [], []
    for truth in (with_crowd, rows[:1]):
        with torch.no_grad():
            outputs = detector.network(batch((64, 96)), [truth])
            losses.append(detector.losses(outputs, [truth])["denoising"].item())
            denoised.append(outputs.denoised.boxes[:, :, :1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(denoised[0], denoised[1])


def test_a_cell_in_a_crowd_is_a_negative_for_nothing() -> None:
    detector = make(two_stage=True)
    with torch.no_grad():
        detector.encoder_head.logits.bias[0] = 30.0
        outputs = detector.network(batch((64, 64)))
        everywhere = target((0, 0, 64, 64, 0), crowd=True)
        assert detector.losses(outputs, [target()])["proposals"] > 1
        assert detector.losses(outputs, [everywhere])["proposals"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"denoising": 12}, "detector.denoising is 12, which needs queries with boxes"),
        ({"anchored": True, "two_stage": True}, "both true.*choose one"),
    ],
)
def test_queries_that_contradict_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_the_sine_of_a_point_is_that_of_the_cell_that_ends_there():
    cells = sine_positions(torch.ones(1, 4, 5, dtype=torch.bool), 16)
    points = torch.tensor([[2 / 5, 3 / 4], [1.0, 1.0]])
    torch.testing.assert_close(sine_of(points, 16), cells[0, [2, 3], [1, 4]], atol=1e-4, rtol=0)


def test_auxiliary_losses_are_the_sum_over_layers():
    outputs = perfect(TRUTH, SIZES)
    outputs.logits.normal_()
    both = make().losses(outputs, TRUTH)
    one = [
        make(auxiliary=False).losses(Outputs(x[None], b[None], outputs.scale), TRUTH)
        for x, b in zip(outputs.logits, outputs.boxes, strict=True)
    ]
    for key, value in both.items():
        assert value.item() == pytest.approx(sum(losses[key].item() for losses in one), rel=1e-5)


def test_unknown_words_are_refused():
    for name in ("position", "box_loss"):
        with pytest.raises(ValueError, match=f"detector.{name} is 'best'"):
            make(**{name: "best"})


RENAMES = [
    (r"model\.input_projection\.(.+)", r"neck.\1"),
    (r"model\.query_position_embeddings\.weight", r"transformer.queries.weight"),
    (r"model\.decoder\.layernorm\.(.+)", r"transformer.norm.\1"),
    (r"class_labels_classifier\.(.+)", r"head.logits.\1"),
    (r"model\.(encoder|decoder)\.layers\.(\d)\.(.+)", r"transformer.\1.\2.\3"),
]
PARTS = {
    "self_attn_layer_norm": "norms.0",
    "encoder_attn_layer_norm": "norms.1",
    "self_attn": "self_attention",
    "encoder_attn": "cross_attention",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "o_proj": "out",
    "mlp.fc1": "feed_forward.0",
    "mlp.fc2": "feed_forward.3",
}


def renamed(key: str) -> str:
    for index in range(3):
        key = key.replace(f"bbox_predictor.layers.{index}", f"head.boxes.{2 * index}")
    for pattern, ours in RENAMES:
        key = re.sub(pattern, ours, key)
    for theirs, ours in PARTS.items():
        key = re.sub(rf"(?<=\.){re.escape(theirs)}(?=\.)", ours, key)
    if ".encoder." in key:
        return key.replace("self_attention", "attention").replace("final_layer_norm", "norms.1")
    return key.replace("final_layer_norm", "norms.2")


@pytest.mark.slow
def test_transformers_detr_is_the_same():
    """The oracle: the same weights on the same map give the same boxes and the same losses.

    Its network runs without auxiliary outputs: with them (5.24) a layer gets the norm of the one
    before, which neither the paper nor its published code does.
    """
    transformers = pytest.importorskip("transformers", minversion="5.18")
    pytest.importorskip("scipy")
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, out_features=["stage4"]
    )
    config = transformers.DetrConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=QUERIES,
        num_labels=K,
        auxiliary_loss=False,
        backbone_config=backbone,
    )
    ours = make()
    config_channels = ours.backbone.channels[-1]
    theirs = transformers.DetrForObjectDetection(config).eval()
    theirs.model.input_projection = nn.Conv2d(config_channels, 32, 1)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)  # the decoder's layers then differ
    state = {renamed(k): v for k, v in theirs.state_dict().items() if "backbone" not in k}
    left, unknown = ours.load_state_dict(state, strict=False)
    assert not unknown and all(key.startswith("backbone.") for key in left)

    images = batch(*SIZES)
    mask = torch.zeros(len(SIZES), *images.pixels.shape[-2:], dtype=torch.int64)
    for one, (h, w) in zip(mask, SIZES, strict=True):
        one[:h, :w] = 1

    class OurBackbone(nn.Module):
        def forward(self, pixels, pixel_mask):
            x = ours.backbone(pixels)[-1]
            small = nn.functional.interpolate(pixel_mask[None].float(), size=x.shape[-2:])
            return [(x, small[0].bool())]

    theirs.model.backbone = OurBackbone()
    labels = [
        {
            "class_labels": truth.labels,
            "boxes": box_ops.to_cxcywh(truth.boxes / torch.tensor([w, h, w, h])),
        }
        for truth, (h, w) in zip(TRUTH, SIZES, strict=True)
    ]
    with torch.no_grad():
        want = theirs(ours.normalise(images), pixel_mask=mask)
        outputs = ours.network(images)
        losses = ours.losses(outputs, TRUTH)
        config.auxiliary_loss = True
        last, every = (outputs.logits[-1], outputs.boxes[-1]), (outputs.logits, outputs.boxes)
        _, wanted, _ = theirs.loss_function(
            last[0], labels, "cpu", last[1], config, outputs_class=every[0], outputs_coord=every[1]
        )
    torch.testing.assert_close(outputs.logits[-1], want.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs.boxes[-1], want.pred_boxes, rtol=1e-5, atol=1e-5)
    for name, weight, key in (("ce", 1, "class"), ("bbox", 5, "l1"), ("giou", 2, "giou")):
        total = sum(wanted[f"loss_{name}{layer}"] for layer in ("", "_0"))
        assert losses[key].item() == pytest.approx(weight * total.item(), rel=1e-5), name
