"""A detector whose network another program computes: ONNX Runtime or OpenVINO, from exported files.

What is replaced is `network` of one object; decode, resize and all else are the detector's own, so
that the clock, the scorer and the stages are those of torch's row.
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
from detzoo.export import NETWORK, Graph, file_of, filled, graphs, refilled, tensors
from detzoo.text import shortened
from detzoo.types import Images

Session = Callable[[Sequence[np.ndarray]], list[np.ndarray]]  # inputs -> outputs, in their order
# The key of an entry of ONNX's TensorProto.external_data, as protobuf writes it
EXTERNAL = b"\n\x08location\x12"


def onnxruntime_session(file: Path, threads: int) -> Session:
    """The extra `onnxruntime` is needed: ImportError without it."""
    runtime = imported("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(
        str(file), sess_options=options, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    return lambda given: session.run(None, dict(zip(names, given, strict=True)))


def openvino_session(file: Path, threads: int) -> Session:
    """In float32 whatever the processor prefers. The extra `openvino` is needed."""
    runtime = imported("openvino")
    core = runtime.Core()
    # read_model is native: the Python converter, which reports its use over the network, is not run
    how = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(str(file)), "CPU", how)
    request = compiled.create_infer_request()

    def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = request.infer(dict(enumerate(given)), share_inputs=True)
        return [np.array(found[i]) for i in range(len(compiled.outputs))]

    return run


SESSIONS = {"onnxruntime": onnxruntime_session, "openvino": openvino_session}


def imported(name: str) -> Any:
    """The module; ImportError that names the extra of the same name where it is absent."""
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(
            f"runtime={name} needs the extra: pip install 'detzoo[{name}]'"
        ) from error


def open_session(runtime: str, file: Path, threads: int) -> Session:
    """The file as a function. Raises ValueError, with its path, for what is no network, for weights
    that lie in other files, which are not read, and where it fails as it is called."""
    if EXTERNAL in file.read_bytes():
        raise ValueError(f"{file}: its weights lie in another file; a run's network has its own")
    with _named(runtime, file):
        session = SESSIONS[runtime](file, threads)

    def run(given: Sequence[np.ndarray]) -> list[np.ndarray]:
        with _named(runtime, file):
            return session(given)

    return run


@contextmanager
def _named(runtime: str, file: Path) -> Iterator[None]:
    """Turn what a runtime raises, of kinds of its own, into a ValueError with the file's path."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        said = shortened(" ".join(str(error).replace(str(file), "it").split()), 200)
        raise ValueError(f"{file}: no network that {runtime} can compute ({said})") from error


class ExportedNetwork:
    """`network` of one detector by exported files; set as the object's own `network`.

    file: what `export.to_onnx` wrote, at `size` (height, width) and batch 1. Images of other shapes
    raise ValueError. Several images are computed one by one, regions of all of them together.
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
    ) -> None:
        if runtime not in SESSIONS:
            raise ValueError(f"runtime is {runtime!r}; it must be one of {', '.join(SESSIONS)}")
        self.detector, self.size = detector, size
        self.runtime, self.precision = runtime, precision
        self.version = imported(runtime).__version__
        one, two = graphs(detector, size, 1), graphs(detector, size, 2)
        self.parts = {
            a.name: _Part(a, b, file_of(file, a.name), runtime, threads)
            for a, b in zip(one, two, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """Plain values, for a scoring's and a timing's record."""
        return {"name": self.runtime, "precision": self.precision, "version": self.version}

    def __call__(self, images: Images, targets: None = None) -> Any:
        if tuple(images.pixels.shape[-2:]) != self.size:
            raise ValueError(
                f"the exported network takes {self.size[0]} x {self.size[1]} pixels, and got "
                f"{tuple(images.pixels.shape[-2:])}; it was exported for the run's own resize"
            )
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


def _restore(child: torch.nn.Module, before: Any) -> None:
    if before is None:
        del child.forward
    else:
        child.forward = before


class _Part:
    """One graph as torch's own module would be called. one, two: the graph of one and two images,
    which show along which dimension each output grows."""

    def __init__(self, one: Graph, two: Graph, file: Path, runtime: str, threads: int) -> None:
        self.file, self.session = file, open_session(runtime, file, threads)
        self.rows, self.outputs = one.rows, one.outputs
        first = 1 if one.rows else 0  # the dimension from which on shapes are those of the example
        self.shapes = [tuple(x.shape)[first:] for _, x in tensors(one.outputs)]
        shapes = (
            (a, b)
            for (_, a), (_, b) in zip(tensors(one.outputs), tensors(two.outputs), strict=True)
        )
        self.grows = [_growing(a, b) for a, b in shapes]

    def __call__(self, *given: Any) -> Any:
        arrays = [x.detach().float().contiguous().numpy() for _, x in tensors(given)]
        images = (
            [arrays]
            if self.rows
            else [[a[i : i + 1] for a in arrays] for i in range(len(arrays[0]))]
        )
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
        whole = []
        for place, dim in enumerate(self.grows):
            of_images = [part[place] for part in parts]
            whole.append(
                of_images[0] if dim is None or len(parts) == 1 else torch.cat(of_images, dim)
            )
        if self.rows:
            whole = [x[: len(arrays[0])] for x in whole]
        return refilled(self.outputs, iter(whole))


def _growing(one: Tensor, two: Tensor) -> int | None:
    """The dimension in which the output of two images is larger; None of a constant."""
    return next(
        (d for d, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b), None
    )
