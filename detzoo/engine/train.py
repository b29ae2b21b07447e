"""One training loop for all detectors; a run that was killed goes on as if nothing had happened.

What makes that so: batch number i is a pure function of the seed and i, the learning rate one of
the images seen, and all else (weights, their average, optimiser, random generators) stands in the
checkpoint. On a CPU the final weights are then the same to the last bit.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from detzoo.detector import Detector, eval_mode
from detzoo.engine import checkpoint, distributed, status
from detzoo.engine.precision import autocast, fastest_convolutions, prepare, transfer
from detzoo.engine.progress import Progress, note
from detzoo.engine.recipe import Recipe
from detzoo.engine.step import NonFiniteLoss, Step
from detzoo.files import atomic
from detzoo.ops.precision import float32_as
from detzoo.types import Images, Target, pad_targets

LOG, CURVE = "log.csv", "curve.csv"
LOG_ROWS = 1000  # more than a figure can show
STATUS_SECONDS = 5.0  # between two updates of status.json, from which others see how far it is


class Batches(Protocol):
    """What `train` reads: `detzoo.data.loader.Batches`, or anything like it."""

    def __len__(self) -> int: ...

    def iterate(self, start_step: int = 0) -> Iterator[tuple[Images, Sequence[Target]]]: ...


def train(
    detector: Detector,
    batches: Batches,
    recipe: Recipe,
    run_dir: str | Path,
    *,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    channels_last: bool = False,
    sync_batch_norm: bool = False,
    seed: int = 0,
    validate: Callable[[Detector], dict[str, float | None]] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> None:
    """Train `detector` in place, or go on with the training that stands in `run_dir`.

    In the end the detector holds the weights that are scored (the average, where the recipe has
    one) and is in eval mode. Writes checkpoint.pt every `checkpoint_seconds` and at the end,
    log.csv and curve.csv beside it, and status.json. validate: gets the detector as it would be
    scored now, in eval mode, and gives "AP" and "AP50"; the time it takes is no training time.
    on_progress: called for every step (on a GPU when the next is on its way) with step, steps,
    images_seen, seconds and loss.

    One of several processes (engine.distributed) gets its part of each batch from `batches`; all
    call `train` and `validate` alike; the first alone writes. sync_batch_norm: over all of them.

    Raises NonFiniteLoss, and ValueError where `run_dir` holds a run of another recipe or seed.
    """
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    # backward passes too, which run outside of `autocast`
    exact = float32_as(tf32=precision == "tf32")
    fastest = fastest_convolutions(detector.resize.fixed and detector.fixed_shapes)
    with distributed.stage(run_dir, "train"), exact, fastest:
        if sync_batch_norm and distributed.processes() > 1:
            detector = distributed.synchronise_batch_norm(detector)
        run = _Run(detector, recipe, run_dir, len(batches), device, precision, channels_last, seed)
        if run.step < run.steps:
            with run.whole_files():
                _loop(run, batches, validate, on_progress, checkpoint_seconds, progress)
        distributed.share_buffers(run.scored)
        detector.load_state_dict(run.scored.state_dict())
        detector.eval()


def _loop(
    run: _Run,
    batches: Batches,
    validate: Callable[[Detector], dict[str, float | None]] | None,
    on_progress: Callable[[dict[str, Any]], None] | None,
    checkpoint_seconds: float,
    progress: bool,
) -> None:
    val_steps = run.recipe.val_steps(run.steps) if validate else set()
    total = run.steps * run.recipe.batch_size
    show = progress and distributed.is_first()
    with Progress(total, "train", "images", done=run.images_seen, show=show) as bar:
        saved = told = mark = time.perf_counter()
        if not run.detector.training:  # else its modules are in the modes that its owner wants
            run.detector.train()
        # a loader draws from torch's generator when it starts its workers: not a number of ours
        with checkpoint.undisturbed_randomness():
            steps = batches.iterate(run.step)
        for images, targets in steps:
            run.update(images, targets)
            now = time.perf_counter()
            run.clock(now - mark)
            saves = run.step == run.steps or distributed.agreed(now - saved >= checkpoint_seconds)
            for step, losses in run.read(all=saves or run.step in val_steps):
                run.record(step, losses)
                loss = sum(losses.values())
                bar.advance(run.recipe.batch_size, f"loss {loss:.3f}")
                if on_progress:
                    on_progress(
                        {
                            "step": step.number,
                            "steps": run.steps,
                            "images_seen": step.images_seen,
                            "seconds": step.seconds,
                            "loss": loss,
                        }
                    )
            if run.step in val_steps:
                run.validate(validate)
            # after the validation, so that a run that goes on from here has its point of the curve
            if saves:
                run.save()
                saved = told = time.perf_counter()
            elif now - told >= STATUS_SECONDS:
                run.tell()
                told = now
            mark = time.perf_counter()
    if run.step != run.steps:
        raise RuntimeError(f"the batches ended after step {run.step} of {run.steps}")


class _Run:
    """All that changes while a detector is trained, and how it is saved and put back."""

    def __init__(
        self,
        detector: Detector,
        recipe: Recipe,
        run_dir: Path,
        steps: int,
        device: torch.device | str,
        precision: str,
        channels_last: bool,
        seed: int,
    ) -> None:
        if steps < 1:
            raise ValueError("there is no batch to train on; the training split has no image")
        checkpoint.seed_everything(distributed.seed_of(seed))
        self.recipe, self.run_dir, self.steps, self.seed = recipe, run_dir, steps, seed
        self.device, self.precision, self.channels_last = (
            torch.device(device),
            precision,
            channels_last,
        )
        self.detector = prepare(detector, device, channels_last)
        self.writes = distributed.is_first()
        self.ema = recipe.make_ema(detector)
        self.optimizer = recipe.make_optimizer(detector)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.step, self.images_seen, self.seconds = 0, 0, 0.0
        self.log: list[dict[str, Any]] = []
        self.curve: list[dict[str, Any]] = []
        self.late = self.device.type == "cuda"  # losses are read when the next step is on its way
        self.unread: list[Step] = []
        self.last: tuple[Tensor, Step] | None = None
        self.resume()
        self.called = distributed.parallel(self.detector)

    @property
    def scored(self) -> nn.Module:
        """The detector with the weights that count."""
        return self.detector if self.ema is None else self.ema.module

    def update(self, images: Images, targets: Sequence[Target]) -> None:
        """One step of the optimiser, whose losses `read` gives."""
        images = transfer(images, self.device, self.channels_last)
        targets = pad_targets(targets).to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        with autocast(self.device, self.precision):
            losses = self.called(images, targets)
        stacked = torch.stack([loss.float() for loss in losses.values()])
        of_all = distributed.mean(stacked) if distributed.processes() > 1 else stacked
        ids = [frame.id for frame in images.frames]
        step = Step(self.step + 1, ids, list(losses), stacked, of_all)
        if not self.late:
            step.losses()  # raises before the weights are spoilt
        self.optimizer.zero_grad()
        self.scaler.scale(stacked.sum()).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm or math.inf)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.images_seen += self.recipe.batch_size
        if self.ema is not None:
            self.ema.update(self.detector, step=self.step)
        self.last = norm, step
        self.unread.append(step)

    def clock(self, seconds: float) -> None:
        """The step that was just made took so long."""
        self.seconds += seconds
        step = self.unread[-1]
        step.images_seen, step.seconds = self.images_seen, self.seconds

    def read(self, all: bool) -> Iterator[tuple[Step, dict[str, float]]]:
        """Steps not read before, with the losses of the whole batch by name.

        On a GPU without the last one, unless `all` are wanted: what is not finite is then found a
        step late, but before anything is scored or saved.
        """
        while len(self.unread) > (self.late and not all):
            step = self.unread.pop(0)
            yield step, step.losses()

    @property
    def lr(self) -> float:
        """Of the step that comes next."""
        return self.recipe.lr_at((self.step + 1) * self.recipe.batch_size)

    def check_gradient(self) -> None:
        """Keep weights that a non-finite gradient has spoilt from being scored or saved.

        Not done at every step, for it makes a GPU wait; the loss of the next step shows it anyway.
        In fp16 such a gradient is daily bread, and the scaler has skipped that step.
        """
        if self.last is None or self.scaler.is_enabled():
            return
        norm, step = self.last
        if not math.isfinite(norm.item()):
            losses = {**step.losses(), "gradient norm": norm.item()}
            raise NonFiniteLoss(step.number, losses, step.image_ids)

    def record(self, step: Step, losses: Mapping[str, float]) -> None:
        """A row of log.csv at about a thousand steps, evenly spaced, the last one among them."""
        if step.number % math.ceil(self.steps / LOG_ROWS) and step.number != self.steps:
            return
        before = self.log[-1] if self.log else {"images_seen": 0, "seconds": 0}
        images = step.images_seen - int(before["images_seen"])
        seconds = step.seconds - float(before["seconds"])
        self.log.append(
            {
                "step": step.number,
                "images_seen": step.images_seen,
                "lr": self.recipe.lr_at(step.number * self.recipe.batch_size),
                "loss": sum(losses.values()),
                **losses,
                "images_per_second": round(images / max(seconds, 1e-9), 3),
                "seconds": round(step.seconds, 4),
            }
        )

    def validate(self, validate: Callable[[Detector], dict[str, float | None]]) -> None:
        """A row of curve.csv; leaves no trace in the training, random numbers included."""
        self.check_gradient()
        distributed.share_buffers(self.scored)
        with eval_mode(self.scored), checkpoint.undisturbed_randomness():
            scores = validate(self.scored)
        row = {"images_seen": self.images_seen, "seconds": round(self.seconds, 4)}
        self.curve.append({**row, "AP": scores["AP"], "AP50": scores["AP50"]})
        self.write(CURVE, self.curve)
        if self.writes:
            note(self.point(scores))

    def point(self, scores: Mapping[str, float | None]) -> str:
        """A point of the curve as a line for people."""
        total = self.steps * self.recipe.batch_size
        told = ", ".join(
            f"{key} {'n/a' if scores[key] is None else format(scores[key], '.3f')}"
            for key in ("AP", "AP50")
        )
        return (
            f"{self.images_seen:,} of {total:,} images: {told} on val, {self.seconds / 60:.1f} min"
        )

    def save(self) -> None:
        self.check_gradient()
        random = distributed.gather(checkpoint.random_state())
        if not self.writes:
            return
        self.write(LOG, self.log)
        checkpoint.save(
            self.run_dir,
            {
                **self.identity,
                "step": self.step,
                "images_seen": self.images_seen,
                "seconds": self.seconds,
                "model": self.detector.state_dict(),
                "ema": None if self.ema is None else self.ema.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random": random,
            },
        )
        self.tell()

    def tell(self) -> None:
        """Others how far it is."""
        if self.writes:
            seconds = round(self.seconds, 3)
            status.update(self.run_dir, images_seen=self.images_seen, train_seconds=seconds)

    def write(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.writes:
            _write_rows(self.run_dir / name, rows)

    def resume(self) -> None:
        """Put back what the checkpoint has, if there is one, and drop the rows written after it."""
        if self.writes:
            checkpoint.remove_leftovers(self.run_dir)
        state = checkpoint.load(self.run_dir)
        if state is not None:
            path = self.run_dir / checkpoint.FILE
            try:
                state = _completed(state)
                other = [key for key, value in self.identity.items() if state[key] != value]
                if not other:
                    self.restore(state, path)
            except Exception as error:  # of any kind, as the damage is
                said = f"{type(error).__name__}: {error}".split("\n")[0].replace(f"{path}: ", "")
                raise ValueError(
                    f"{path}: no training can go on from it ({said}); remove it to train anew"
                ) from error
            if other:
                said = "; ".join(
                    f"{key} was {state[key]}, is {self.identity[key]}" for key in other
                )
                raise ValueError(
                    f"{self.run_dir} holds another training ({said}); train into another directory"
                )
        if self.step == self.steps:
            return  # nothing is added to the log and the curve, whatever became of them
        if self.writes:
            checkpoint.check_space(self.run_dir, self.size)
            if self.step:
                total = self.steps * self.recipe.batch_size
                note(f"goes on from {self.images_seen:,} of {total:,} images")
        self.log = _read_rows(self.run_dir / LOG, self.images_seen)
        self.curve = _read_rows(self.run_dir / CURVE, self.images_seen)
        self.write(LOG, self.log)
        self.write(CURVE, self.curve)

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go on from `state`, which `path` held. Raises any exception for what is damaged in it."""
        checkpoint.check_weights(self.detector, state["model"], path)
        if self.ema is not None:
            checkpoint.check_weights(self.ema.module, state["ema"], path)
            self.ema.module.load_state_dict(state["ema"])
        self.detector.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, moments in self.optimizer.state.items():
            checkpoint.check_moments(parameter, moments)
        self.scaler.load_state_dict(state["scaler"])
        random = state["random"]
        one = random if isinstance(random, dict) else random[distributed.rank()]
        checkpoint.set_random_state(one)
        self.step, self.images_seen = int(state["step"]), int(state["images_seen"])
        self.seconds = float(state["seconds"])
        if not 0 <= self.step <= self.steps:
            raise ValueError(f"step is {self.step} of {self.steps}")

    @property
    def size(self) -> int:
        """About how many bytes a checkpoint takes; the optimiser has its moments after a step."""
        moments = self.parameters * (2 if "adam" in self.recipe.optimizer else 1)
        average = {} if self.ema is None else self.ema.module.state_dict()
        return checkpoint.size_of([self.detector.state_dict(), average, moments])

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a training to be gone on with; EMA's step is the step."""
        return {
            "recipe": asdict(self.recipe),
            "steps": self.steps,
            "seed": self.seed,
            "precision": self.precision,
            "processes": distributed.processes(),
        }

    @contextmanager
    def whole_files(self) -> Iterator[None]:
        """Write the log also when training ends with an error, so that one can look into it."""
        try:
            yield
        except BaseException:
            with suppress(OSError):  # a full disk: the first error is the one that tells something
                self.write(LOG, self.log)
            raise


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file, whole or not at all; no file without rows. None is an empty field."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _completed(state: dict[str, Any]) -> dict[str, Any]:
    """The state with what an older version did not write: there was one process, and no such key
    of the recipe, which was as it is by default."""
    defaults = {f.name: f.default for f in fields(Recipe) if f.default is not MISSING}
    return {"processes": 1, **state, "recipe": {**defaults, **state["recipe"]}}


def _read_rows(path: Path, images_seen: int) -> list[dict[str, Any]]:
    """The rows up to `images_seen`; none where there is no such file. ValueError with its path."""
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if int(row["images_seen"]) <= images_seen]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(
            f"{path}: not a readable log of a training ({type(error).__name__}: {error}); remove "
            "it, and training goes on without these rows"
        ) from error
