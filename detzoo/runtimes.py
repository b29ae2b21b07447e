"""A detector whose network another program computes: ONNX Runtime or OpenVINO, from exported files.

Only `network` of one object is replaced; decode, resize and all else are the detector's own, so
that the clock, the scorer and the stages are the same as for torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.export import NETWORK, Graph, filled, graph_file, graphs, replace_tensors, tensors
from detzoo.text import check_choice, shortened
from detzoo.types import Detections, Images

Session = Callable[[Sequence[np.ndarray]], list[np.ndarray]]  # inputs -> outputs, in their order
# The key of an entry of ONNX's TensorProto.external_data, as protobuf writes it
EXTERNAL = b"\n\x08location\x12"


def onnxruntime_session(file: Path, threads: int, precision: str = "fp32") -> Session:
    """The extra `onnxruntime` is needed: ImportError without it. precision: the file's own."""
    runtime = imported("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(
        str(file), sess_options=options, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    return lambda given: session.run(None, dict(zip(names, given, strict=True)))


def openvino_session(file: Path, threads: int, precision: str = "fp32") -> Session:
    """In float32 on any processor, but for precision=bf16. The extra `openvino` is needed."""
    runtime = imported("openvino")
    core = runtime.Core()
    # read_model is native: the Python converter, which reports its use over the network, is not run
    how = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(str(file)), "CPU", how)
    request = compiled.create_infer_request()

    def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = request.infer(dict(enumerate(given)), share_inputs=True)
        return [np.array(found[i]) for i in range(len(compiled.outputs))]

    return run


SESSIONS = {"onnxruntime": onnxruntime_session, "openvino": openvino_session}
PRECISIONS = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "int8", "bf16")}


def check_precision(runtime: str, precision: str) -> None:
    """Raise ValueError for a precision that the runtime does not have, here or at all; ImportError
    without its extra. OpenVINO would use float32 unasked where a processor has no bf16."""
    if precision not in PRECISIONS[runtime]:
        raise ValueError(
            f"precision is {precision!r}; of a network exported to {runtime} it is one of "
            f"{', '.join(PRECISIONS[runtime])}"
        )
    if precision == "bf16":
        able = imported("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in able:
            raise ValueError("precision is 'bf16', which this processor does not compute in")


def imported(name: str) -> Any:
    """The module; ImportError that names the extra of the same name where it is absent."""
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(
            f"runtime={name} needs the extra: pip install 'detzoo[{name}]'"
        ) from error


def open_session(runtime: str, file: Path, threads: int, precision: str = "fp32") -> Session:
    """The file as a function. Raises ValueError, with its path, for what is no network, for weights
    in other files, which are not read, and if a call fails."""
    check_precision(runtime, precision)
    if EXTERNAL in file.read_bytes():
        raise ValueError(f"{file}: its weights lie in another file; a run's network has its own")
    with _named(runtime, file):
        session = SESSIONS[runtime](file, threads, precision)

    def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        with _named(runtime, file):
            return session(given)

    return run


@contextmanager
def _named(runtime: str, file: Path) -> Iterator[None]:
    """Turn a runtime's own exceptions into a ValueError with the file's path."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        said = shortened(" ".join(str(error).replace(str(file), "it").split()), 200)
        raise ValueError(f"{file}: no network that {runtime} can compute ({said})") from error


class ExportedNetwork:
    """`network` of one detector by exported files; set as the object's own `network`.

    file: what `export.to_onnx` wrote, at `size` (height, width) and `batch`. Images of other shapes
    raise ValueError. They are computed `batch` at a time, regions of all of them together.
    """

    def __init__(
        self,
        detector: Detector,
        file: Path,
        size: tuple[int, int],
        *,
        runtime: str,
        precision: str = "fp32",
        threads: int = 1,
        batch: int = 1,
    ) -> None:
        check_choice("runtime", runtime, tuple(SESSIONS))
        check_precision(runtime, precision)
        self.detector, self.size = detector, size
        self.runtime, self.precision = runtime, precision
        self.version = imported(runtime).__version__
        one, two = graphs(detector, size, 1), graphs(detector, size, 2)
        self.parts = {
            a.name: _Part(a, b, graph_file(file, a.name), runtime, precision, threads, batch)
            for a, b in zip(one, two, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """Plain values, for a scoring's and a timing's record."""
        return {"name": self.runtime, "precision": self.precision, "version": self.version}

    def __call__(self, images: Images, targets: None = None) -> Any:
        _check_size(images, self.size)
        if NETWORK in self.parts:
            return self.parts[NETWORK](filled(self.detector, images))
        # In a call of the detector's own network its children are the exported ones.
        with ExitStack() as replaced:
            for name, part in self.parts.items():
                child = getattr(self.detector, name)
                before = vars(child).get("forward")
                child.forward = part
                replaced.callback(_restore, child, before)
            if "backbone" in self.parts and hasattr(self.detector, "neck"):
                before = vars(self.detector.neck).get("forward")
                self.detector.neck.forward = lambda maps: maps  # the graph has done it
                replaced.callback(_restore, self.detector.neck, before)
            return type(self.detector).network(self.detector, images)


class ExportedPipeline:
    """Detections of images by one exported file, which `to_onnx(whole=True)` wrote; else as
    ExportedNetwork."""

    def __init__(
        self,
        file: Path,
        size: tuple[int, int],
        *,
        runtime: str,
        threads: int = 1,
        batch: int = 1,
    ) -> None:
        check_choice("runtime", runtime, tuple(SESSIONS))
        self.size, self.batch, self.session = size, batch, open_session(runtime, file, threads)

    def __call__(self, images: Images) -> list[Detections]:
        _check_size(images, self.size)
        pixels = images.pixels.float().numpy()
        pixels = pixels / np.float32(255) if images.pixels.dtype == torch.uint8 else pixels
        found: list[Detections] = []
        for given in _batches([pixels, np.array(images.sizes)], self.batch):
            *of_images, counts = map(torch.from_numpy, self.session(given))
            rows = zip(*of_images, counts.tolist(), strict=True)
            found += [Detections(*(x[:count] for x in each)) for *each, count in rows]
        return found[: len(pixels)]


def _check_size(images: Images, size: tuple[int, int]) -> None:
    got = tuple(images.pixels.shape[-2:])
    if got != size:
        raise ValueError(
            f"the exported network takes {size[0]} x {size[1]} pixels, and got {got}; it was "
            "exported for the run's own resize"
        )


def _batches(arrays: Sequence[np.ndarray], batch: int) -> list[list[np.ndarray]]:
    """Slices of `batch` rows each; the last one is filled up with its last row."""
    slices = [[a[i : i + batch] for a in arrays] for i in range(0, len(arrays[0]), batch)]
    return [[np.concatenate([a, a[-1:].repeat(batch - len(a), 0)]) for a in s] for s in slices]


def _restore(child: torch.nn.Module, before: Any) -> None:
    if before is None:
        del child.forward
    else:
        child.forward = before


class _Part:
    """One graph, called like torch's own module. one, two: the graph for one and two images, which
    show along which dimension each output grows. batch: of the exported one."""

    def __init__(
        self,
        one: Graph,
        two: Graph,
        file: Path,
        runtime: str,
        precision: str,
        threads: int,
        batch: int,
    ) -> None:
        self.file, self.session = file, open_session(runtime, file, threads, precision)
        self.rows, self.outputs, self.batch = one.rows, one.outputs, batch
        examples = [[x for _, x in tensors(graph.outputs)] for graph in (one, two)]
        self.grows = [_growing(a, b) for a, b in zip(*examples, strict=True)]
        self.shapes = [tuple(x.shape)[1:] for x in examples[0]]  # of rows; else of a call
        if not one.rows:
            pairs = zip(examples[0], self.grows, strict=True)
            self.shapes = [_shape(x, grows, batch) for x, grows in pairs]

    def __call__(self, *given: Any) -> Any:
        arrays = [x.detach().float().contiguous().numpy() for _, x in tensors(given)]
        images = [arrays] if self.rows else _batches(arrays, self.batch)
        if self.rows and not len(arrays[0]):  # a graph has at least one row
            images = [[np.zeros((1, *a.shape[1:]), np.float32) for a in arrays]]
        found = [self.session(image) for image in images]
        for of in found:
            shapes = [x.shape[1 if self.rows else 0 :] for x in of]
            if shapes != self.shapes:
                raise ValueError(
                    f"{self.file}: its outputs are {shapes}, and the detector's {self.shapes}: "
                    "it is another one's network"
                )
        parts = [[torch.from_numpy(np.ascontiguousarray(x)) for x in of] for of in found]
        if self.rows:
            whole = [x[: len(arrays[0])] for x in parts[0]]
        else:
            outputs = zip(*parts, strict=True)
            whole = [
                _joined(x, g, len(arrays[0])) for x, g in zip(outputs, self.grows, strict=True)
            ]
        return replace_tensors(self.outputs, iter(whole))


def _joined(parts: Sequence[Tensor], grows: tuple[int, int] | None, images: int) -> Tensor:
    """One output of several calls, for that number of images; grows: as `_growing`."""
    if grows is None:
        return parts[0]
    dim, each = grows
    return torch.cat(list(parts), dim).narrow(dim, 0, each * images)


def _shape(one: Tensor, grows: tuple[int, int] | None, batch: int) -> tuple[int, ...]:
    """The shape of the output for that number of images, from that for one."""
    shape = list(one.shape)
    if grows is not None:
        shape[grows[0]] += (batch - 1) * grows[1]
    return tuple(shape)


def _growing(one: Tensor, two: Tensor) -> tuple[int, int] | None:
    """The dimension in which the output of two images is larger, and by how much; None if
    constant."""
    shapes = enumerate(zip(one.shape, two.shape, strict=True))
    return next(((d, b - a) for d, (a, b) in shapes if a != b), None)
