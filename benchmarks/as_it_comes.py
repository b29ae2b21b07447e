"""Ours beside torchvision's own models as they come: one set of weights, bytes to boxes at batch 1.

The peer is torchvision's model (frozen batch norm, as its trained weights have it) in fp32 and
torch's layout, fed by Pillow, resizing by itself; ours has the same random weights, thresholds and
pixels. "default" is what detzoo chooses on this machine; "equal" is fp32 and torch's layout, as the
peer; a last row gives the peer our precision and layout. All in turns within one run; ratios are
the peer's time over the row's.

    python benchmarks/as_it_comes.py --detectors retinanet --seconds 60
"""

from __future__ import annotations

import copy
import io
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from lib import arguments, begin, interleaved, photographs, pipeline_of, ratio, timing_lock
from PIL import Image
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms.v2 import functional as transforms

from detzoo.engine.precision import autocast, choose_channels_last, choose_precision
from detzoo.weights import create_from_torchvision

CLASSES = 91
# The standard deviation of random class logits, and what background has more of: so that as many
# boxes pass the threshold as of a trained detector, some hundreds before NMS. RetinaNet's are the
# tail of fifteen million, so its bias is set by these very photographs.
CANDIDATES = 500  # of RetinaNet, an image
SPREAD = {"faster_rcnn": 1.5, "retinanet": 0.4, "ssd": 1.5}
SURE = {"faster_rcnn": 8.0, "ssd": 10.0}
MOST = {"faster_rcnn": 100, "retinanet": 300, "ssd": 200}  # objects an image, torchvision's own


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], seconds=150, batch=1, size=800)
    parser.add_argument("--detectors", nargs="+", default=["faster_rcnn", "retinanet", "ssd"])
    options = parser.parse_args()
    options.backbone = "resnet50 FPN and VGG16"
    device = begin(options)
    encoded = [path.read_bytes() for path in photographs(options, "test")[:8]]
    precision = choose_precision(device)
    layout = choose_channels_last(device)
    print(f"default here: {precision}, channels last {layout}")
    for name in options.detectors:
        peer = theirs(name, encoded).to(device)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(peer.state_dict(), Path(folder) / "peer.pt")
            default, equal = (
                create_from_torchvision(name, Path(folder) / "peer.pt", max_detections=MOST[name])
                for _ in range(2)
            )
        other = copy.deepcopy(peer)
        other.to(memory_format=torch.channels_last if layout else torch.contiguous_format)
        work = {
            "peer": turns(as_it_comes(peer, device, "fp32"), encoded),
            "default": turns(ours(name, default, device, precision, layout), encoded),
            "equal": turns(ours(name, equal, device, "fp32", False), encoded),
            f"peer, {precision}": turns(as_it_comes(other, device, precision), encoded),
        }
        with timing_lock():
            rates = interleaved(work, options.seconds / len(options.detectors), device)
        found = {
            "peer": objects(as_it_comes(peer, device, "fp32"), encoded),
            "default": objects(ours(name, default, device, precision, layout), encoded),
            "equal": objects(ours(name, equal, device, "fp32", False), encoded),
        }
        if not all(found.values()):
            raise SystemExit(f"{name}: {found} objects an image; a comparison of nothing")
        print(f"{name}, {len(rates['peer'])} rounds; objects an image: {found}")
        for key, of in rates.items():
            print(f"  {key:<12}{1e3 / statistics.median(of):9.1f} ms   {ratio(of, rates['peer'])}")


@torch.no_grad()
def theirs(name: str, encoded: Sequence[bytes]) -> nn.Module:
    """torchvision's model with random weights that keep a signal and find many things."""
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 300, 300)
    if name == "ssd":
        model = detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES)
        for layer in model.head.classification_head.module_list:
            layer.bias.view(-1, CLASSES)[:, 0] = SURE[name]  # most boxes are background
        _scaled(name, model.eval(), model.head.classification_head.module_list, pixels)
        return model
    options = {"weights": None, "weights_backbone": None, "num_classes": CLASSES}
    pyramid = {}
    if name == "faster_rcnn":
        drawn, kind = detection.fasterrcnn_resnet50_fpn(**options), detection.FasterRCNN
    else:
        drawn, kind = detection.retinanet_resnet50_fpn(**options), detection.RetinaNet
        pyramid = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
    for module in drawn.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of this one batch
    drawn.train().backbone(pixels)
    frozen = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, **pyramid
    )
    model = kind(frozen, num_classes=CLASSES).eval()
    model.load_state_dict(
        {k: v for k, v in drawn.state_dict().items() if not k.endswith("num_batches_tracked")}
    )
    if name == "faster_rcnn":
        last = model.roi_heads.box_predictor.cls_score
        last.bias[0] = SURE[name]
        _scaled(name, model, [model.rpn.head.cls_logits], pixels)
        _scaled(name, model, [last], pixels)
    else:
        for layer in model.head.classification_head.conv:
            nn.init.kaiming_normal_(layer[0].weight)
        logits = model.head.classification_head.cls_logits
        _scaled(name, model, [logits], pixels)
        _biased(model, logits, [decoded(data) for data in encoded])
    return model


def _biased(model: nn.Module, layer: nn.Module, images: Sequence[torch.Tensor]) -> None:
    """Let CANDIDATES of an image's logits, in the mean of these, pass the model's threshold."""
    best: list[torch.Tensor] = []
    most = CANDIDATES * len(images)
    bias = layer.bias.view(1, -1, 1, 1)

    def keep(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        values = (out - bias).flatten()
        best.append(values.topk(min(most, len(values))).values)

    hook = layer.register_forward_hook(keep)
    for image in images:
        model([image])
    hook.remove()
    threshold = math.log(model.score_thresh / (1 - model.score_thresh))
    layer.bias.fill_(threshold - torch.cat(best).topk(most).values[-1])


def _scaled(name: str, model: nn.Module, layers: Sequence[nn.Module], pixels: torch.Tensor) -> None:
    """Let what these layers add to their biases have a standard deviation of SPREAD."""
    seen: dict[nn.Module, list[torch.Tensor]] = {layer: [] for layer in layers}
    hooks = [
        layer.register_forward_hook(lambda layer, _, out: seen[layer].append(out)) for layer in seen
    ]
    model([pixels[0]])
    for hook in hooks:
        hook.remove()
    for layer, outs in seen.items():
        bias = layer.bias.view(1, -1, *[1] * (outs[0].dim() - 2))
        values = torch.cat([(out - bias).flatten() for out in outs])
        layer.weight *= SPREAD[name] / values.std() if len(values) > 10_000 else 1.0


def decoded(data: bytes) -> torch.Tensor:
    """(3, H, W) float32 in [0, 1], by Pillow."""
    image = transforms.pil_to_tensor(Image.open(io.BytesIO(data)).convert("RGB"))
    return image.float() / 255


def objects(run: Callable[[bytes], torch.Tensor], encoded: Sequence[bytes]) -> float:
    """Found in an image, in the mean."""
    return statistics.fmean(len(run(data)) for data in encoded)


def as_it_comes(
    model: nn.Module, device: torch.device, precision: str
) -> Callable[[bytes], torch.Tensor]:
    @torch.no_grad()
    def run(data: bytes) -> torch.Tensor:
        image = transforms.pil_to_tensor(Image.open(io.BytesIO(data)).convert("RGB"))
        with autocast(device, precision):
            return model([image.to(device).float() / 255])[0]["boxes"].cpu()

    return run


def ours(
    name: str, model: nn.Module, device: torch.device, precision: str, layout: bool
) -> Callable[[bytes], torch.Tensor]:
    call = pipeline_of(name, model, device, precision, layout)
    return lambda data: call([data]).detections[0].boxes


def turns(run: Callable[[bytes], torch.Tensor], encoded: list[bytes]) -> Callable[[], int]:
    """One image after the other, again and again."""
    calls = 0

    def once() -> int:
        nonlocal calls
        run(encoded[calls % len(encoded)])
        calls += 1
        return 1

    return once


if __name__ == "__main__":
    main()
