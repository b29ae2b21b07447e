"""Is a map of this detector at all? It must change when the detector's weights do (1810.03292).

Adebayo's cascade: layers are randomised one after the other, from the last to the first. A map that
stays the same shows the picture and not the detector.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.explain.methods import draw
from detzoo.explain.pixels import seeded
from detzoo.explain.scores import agreement
from detzoo.explain.target import Asked
from detzoo.explain.view import View


def layers(detector: Detector) -> dict[str, Sequence[nn.Module]]:
    """The randomised parts, in this order: "head", "neck", "backbone 4" to "backbone 0", its stem.

    head: all that is neither neck nor backbone, under any name: an RPN, a transformer. A backbone
    without stages is one layer. Parts without parameters are left out.
    """
    parts = dict(detector.named_children())
    backbone, neck = parts.pop("backbone", None), parts.pop("neck", None)
    found: dict[str, Sequence[nn.Module]] = {"head": list(parts.values())}
    found["neck"] = [neck] if neck is not None else []
    for index, stage in reversed(list(enumerate(_stages(backbone)))):
        found[f"backbone {index}"] = stage
    return {
        name: modules
        for name, modules in found.items()
        if any(True for module in modules for _ in module.parameters())
    }


def _stages(backbone: nn.Module | None) -> Sequence[Sequence[nn.Module]]:
    if backbone is None:
        return []
    try:
        return getattr(backbone, "stages", [[backbone]])
    except ValueError:  # a timm network whose stages are unknown
        return [[backbone]]


def randomise_layers(detector: Detector, seed: int = 0) -> Iterator[tuple[str, Detector]]:
    """(layer, a copy of the detector with this and all later layers randomised).

    One copy, which is modified in place: use it before the next is taken.
    """
    twin = copy.deepcopy(detector)
    device = next(detector.parameters()).device
    for index, (name, modules) in enumerate(layers(twin).items()):
        with seeded(seed + index, device), torch.no_grad():
            for module in modules:
                module.apply(_randomise)
        yield name, twin


def _randomise(module: nn.Module) -> None:
    """Reinitialise it; parameters for which torch has no rule keep their mean and deviation."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return  # its statistics are of other maps, but without any the signal dies
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        deviation = float(parameter.std()) if parameter.numel() > 1 else 0.0
        parameter.normal_(float(parameter.mean()), deviation)


def sanity(
    detector: Detector, view: View, asked: Asked, maps: Mapping[str, Tensor], seed: int = 0
) -> dict[str, dict[str, float | None]]:
    """method -> layer -> agreement of its map with that after the layer is randomised, [-1, 1].

    maps: method -> (H, W), by `draw`, of the unchanged detector.
    """
    rows, columns = view.frame.resized
    found: dict[str, dict[str, float | None]] = {method: {} for method in maps}
    for layer, twin in randomise_layers(detector, seed):
        for method, heat in maps.items():
            again = draw(twin, view, asked, method, seed)
            both = (x[:rows, :columns].cpu().numpy() for x in (heat, again))
            found[method][layer] = agreement(*both)
    return found
