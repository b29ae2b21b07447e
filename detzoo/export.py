"""A detector's network, pixels in and raw tensors out, for torch.export and ONNX.

With fixed shapes it is one graph. A region detector is several, one for each of its children
(backbone with neck, rpn, head): the steps between them, the first stage's NMS and the regions'
features, depend on the image, and remain in the calling code (detzoo.runtimes).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detzoo.data.resize import Stretch
from detzoo.detector import Detector, eval_mode
from detzoo.files import atomic
from detzoo.pipeline import Pipeline, filling, onnx_operations, reason_not_whole
from detzoo.types import Images

NETWORK = "network"  # the name of the one graph


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every tensor in nested tuples, lists and dicts, in their order."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from tensors(child, f"{name}.{key}".lstrip("."))
    elif isinstance(value, tuple | list):
        keys = getattr(value, "_fields", range(len(value)))
        for key, child in zip(keys, value, strict=True):
            yield from tensors(child, f"{name}.{key}".lstrip("."))


def replace_tensors(value: Any, new: Iterator[Tensor]) -> Any:
    """The same nested value with its tensors replaced by those of `new`."""
    if isinstance(value, Tensor):
        return next(new)
    if isinstance(value, Mapping):
        return {key: replace_tensors(child, new) for key, child in value.items()}
    if isinstance(value, tuple | list):
        children = [replace_tensors(child, new) for child in value]
        return type(value)(*children) if hasattr(value, "_fields") else type(value)(children)
    return value


class Network(nn.Module):
    """`detector.network` of images that fill their batch, as a plain module.

    forward: (B, 3, H, W) uint8, or float32 in [0, 1] -> the tensors of the detector's outputs, in
    their order. Nothing is known of padding here: who pads an image fills it with the detector's
    mean colour, which is what `normalise` makes of padding.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        outputs = type(self.detector).network(self.detector, filling(pixels))
        return tuple(x for _, x in tensors(outputs))


class Part(nn.Module):
    """Children of a detector, one after the other, as a plain module: tensors in, tensors out.

    arguments: those of the first one, whose tensors `forward` takes in their order.
    """

    def __init__(self, children: Sequence[nn.Module], arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(children)
        self.arguments = arguments

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        arguments = replace_tensors(self.arguments, iter(given))
        for part in self.parts:
            arguments = (part(*arguments),)
        return tuple(x for _, x in tensors(arguments[0]))


@dataclass(frozen=True)
class Graph:
    """The content of one file. inputs, outputs: examples, as the module itself takes and returns
    them.

    rows: whether the first dimension of the input may have any length, as the regions have; else
    all shapes are those of the example.
    """

    name: str
    module: nn.Module
    inputs: Any
    outputs: Any
    rows: bool = False


def reason_not_exportable(detector: Detector) -> str | None:
    """Why its network is no graph of fixed shapes, in a sentence; None where it is."""
    if detector.masks_padding and not isinstance(detector.resize, Stretch):
        return (
            f"{type(detector).__name__} learns where each image ends from its attention's mask and "
            "by the scale of its boxes, which pixels alone do not say; train it with "
            "resize=stretch to export it"
        )
    return None


def check_size(detector: Detector, size: tuple[int, int]) -> None:
    """Raise ValueError for a size that is no multiple of the stride, or `reason_not_exportable`."""
    if any(side < 1 or side % detector.stride for side in size):
        raise ValueError(f"size is {size}; both sides must be multiples of {detector.stride}")
    if reason := reason_not_exportable(detector):
        raise ValueError(reason)


@torch.no_grad()
def graphs(detector: Detector, size: tuple[int, int], batch: int = 1) -> list[Graph]:
    """The graphs of a detector in eval mode, for images of (height, width) `size`.

    Raises ValueError as `check_size`.
    """
    check_size(detector, size)
    generator = torch.Generator().manual_seed(0)
    images = filling(torch.rand(batch, 3, *size, generator=generator))
    if detector.needs_proposals:
        height, width = size
        box = torch.tensor([[0.0, 0.0, width / 2, height / 2], [0.0, 0.0, width, height]])
        images = Images(images.pixels, images.frames, [box] * batch)
    with eval_mode(detector):
        # Anchors are kept from call to call; those made here are numbers, not symbols.
        found = calls(detector, images)
    made = []
    for name, (given, outputs) in found.items():
        if name == NETWORK:
            module: nn.Module = Network(detector)
        else:
            module = Part([getattr(detector, child) for child in chains(detector)[name]], given)
        # Without a neck the inputs are crops, one per region.
        rows = name == "head" or (name == "backbone" and not hasattr(detector, "neck"))
        made.append(Graph(name, module, given, outputs, rows))
    return made


@torch.no_grad()
def whole_graph(detector: Detector, size: tuple[int, int], batch: int = 1) -> Graph:
    """The one graph of a detector in eval mode from pixels to boxes, as `graphs`.

    Raises ValueError as `check_size`, and with `reason_not_whole`.
    """
    if reason := reason_not_whole(detector):
        raise ValueError(f"whole=true: {reason}; its network alone is exported without")
    check_size(detector, size)
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.rand(batch, 3, *size, generator=generator), torch.tensor([size] * batch))
    module = Pipeline(detector)
    with eval_mode(detector):
        return Graph(NETWORK, module, inputs, module(*inputs))


def chains(detector: Detector) -> dict[str, list[str]]:
    """graph -> the children that are in it, one after the other; {} where all is one graph."""
    if not detector.needs_proposals and not hasattr(detector, "rpn"):
        return {}
    found = {"backbone": ["backbone", "neck"], "rpn": ["rpn"], "head": ["head"]}
    there = {graph: [c for c in of if hasattr(detector, c)] for graph, of in found.items()}
    return {graph: of for graph, of in there.items() if of}


@torch.no_grad()
def calls(detector: Detector, images: Images) -> dict[str, tuple[Any, Any]]:
    """graph -> the arguments that it gets for these images, and what torch gives for them."""
    parts = chains(detector)
    if not parts:
        return {NETWORK: ((filled(detector, images),), type(detector).network(detector, images))}
    seen: dict[str, tuple[Any, Any]] = {}
    hooks = [
        getattr(detector, child).register_forward_hook(
            lambda _, given, found, child=child: seen.setdefault(child, (given, found)) and None
        )
        for of in parts.values()
        for child in of
    ]
    try:
        type(detector).network(detector, images)
    finally:
        for hook in hooks:
            hook.remove()
    return {graph: (seen[of[0]][0], seen[of[-1]][1]) for graph, of in parts.items()}


def filled(detector: Detector, images: Images) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1], the padding in the mean colour that it is normalised to."""
    x = images.pixels.float()
    x = x / 255 if images.pixels.dtype == torch.uint8 else x.clone()
    for canvas, (height, width) in zip(x, images.sizes, strict=True):
        canvas[:, height:] = canvas[:, :, width:] = detector.mean[0]
    return x


def graph_file(path: Path, name: str) -> Path:
    """The file of the graph `name` of the export `path`: model.onnx, or model.head.onnx."""
    return path if name == NETWORK else path.with_suffix(f".{name}{path.suffix}")


def to_onnx(
    detector: Detector,
    path: str | Path,
    size: tuple[int, int],
    batch: int = 1,
    metadata: Mapping[str, str] | None = None,
    whole: bool = False,
) -> list[Path]:
    """Write `detector.network` in eval mode, at one input size, as ONNX; gives the files.

    size: (height, width), multiples of `detector.stride`. Input `pixels` is (batch, 3, H, W)
    float32 in [0, 1]; outputs are those of Network, by the fields' names. metadata: goes along in
    each file. A detector of regions is several files (`graph_file`). whole: from pixels to boxes;
    inputs and outputs are Pipeline's. The extra `export` is needed. Raises ValueError as `graphs`
    and `whole_graph` do, and ImportError without the extra.
    """
    made = [whole_graph(detector, size, batch)] if whole else graphs(detector, size, batch)
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("writing ONNX needs the extra: pip install 'detzoo[export]'") from error
    files = []
    for graph in made:
        file = graph_file(Path(path), graph.name)
        program = _program(graph)
        program.model.metadata_props.update(metadata or {})
        with atomic(file) as temporary:
            program.save(str(temporary))
        files.append(file)
    return files


@torch.no_grad()
def _program(graph: Graph) -> torch.onnx.ONNXProgram:
    given = [x for _, x in tensors(graph.inputs)]
    names = (
        ["pixels", "sizes"] if graph.name == NETWORK else [f"input{i}" for i in range(len(given))]
    )
    shapes = None
    if graph.rows:
        shapes = (tuple({0: torch.export.Dim("rows", min=1)} for _ in given),)
    with eval_mode(graph.module), _quiet():
        program = torch.export.export(
            graph.module, tuple(given), dynamic_shapes=shapes, strict=False
        )
        if any(node.target in _DECOMPOSED for node in program.graph.nodes):
            program = program.run_decompositions(dict(_DECOMPOSED))
        return torch.onnx.export(
            program,
            tuple(given),
            input_names=names[: len(given)],
            output_names=[name or "output" for name, _ in tensors(graph.outputs)],
            custom_translation_table=onnx_operations(),
            dynamo=True,
            optimize=False,  # runtimes do it when they load the file, and this takes as long again
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """A context without the log messages of the exporter's libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _cummax(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """torch.cummax without its indices, which are unused, from operations that ONNX has: every
    place takes the maximum with the one 1, 2, 4, ... before it."""
    length, step = x.shape[dim], 1
    while step < length:
        nothing = torch.full_like(x.narrow(dim, 0, step), -torch.inf)
        x = torch.maximum(x, torch.cat([nothing, x.narrow(dim, 0, length - step)], dim))
        step *= 2
    return x, torch.zeros_like(x, dtype=torch.int64)


# Replacements for operations that ONNX lacks; the second is for transformers' assertions
_DECOMPOSED = {
    torch.ops.aten.cummax.default: _cummax,
    torch.ops.aten._is_all_true.default: torch.all,
}
