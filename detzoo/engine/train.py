"""The training loop of all detectors; a run that was killed resumes exactly.

This holds because batch number i is a pure function of the seed and i, the learning rate is one of
the images seen, and all else (weights, their average, optimiser, random generators) is in the
checkpoint. On a CPU the final weights are then identical to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from detzoo.detector import Detector
from detzoo.engine import checkpoint, distributed
from detzoo.engine.precision import fastest_convolutions
from detzoo.engine.recipe import Recipe
from detzoo.engine.step import NonFiniteLoss as NonFiniteLoss
from detzoo.engine.training import Training
from detzoo.ops.precision import float32_as
from detzoo.progress import Progress, print_note
from detzoo.types import Images, Target

STATUS_SECONDS = 5.0  # between two updates of status.json, which shows others the progress


class Batches(Protocol):
    """The batches that `train` reads, such as `detzoo.data.loader.Batches`."""

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
    until: int | None = None,
    tensorboard: bool = False,
) -> None:
    """Train `detector` in place, or resume the training in `run_dir`.

    Afterwards the detector has the weights to be scored (the average, if the recipe has one) and is
    in eval mode. Writes checkpoint.pt every `checkpoint_seconds` and at the end, log.csv and
    curve.csv beside it, and status.json. validate: gets the detector as it would be scored now, in
    eval mode, and returns "AP" and "AP50"; its time is not training time. By recipe.patience it may
    end the training before its budget is spent. on_progress: called for every step (on a GPU once
    the next one is launched) with step, steps, images_seen, seconds and loss. until: a number of
    images after which the training is saved and raises `status.Paused`; the next call resumes it,
    under the same schedule. tensorboard: write its event files too (extra `tensorboard`).

    One of several processes (engine.distributed) gets its part of each batch from `batches`; all
    call `train` and `validate` alike; only the first writes. sync_batch_norm: over all of them.

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
        run = Training(
            detector,
            recipe,
            run_dir,
            len(batches),
            device,
            precision,
            channels_last,
            seed,
            tensorboard,
        )
        if not run.over and not run.given_up:
            with run.log.kept():
                _loop(run, batches, validate, on_progress, checkpoint_seconds, progress, until)
        distributed.share_buffers(run.scored)
        detector.load_state_dict(run.scored.state_dict())
        detector.eval()


def _loop(
    run: Training,
    batches: Batches,
    validate: Callable[[Detector], dict[str, float | None]] | None,
    on_progress: Callable[[dict[str, Any]], None] | None,
    checkpoint_seconds: float,
    progress: bool,
    until: int | None,
) -> None:
    run.pause(until)
    total, unit = run.budget.total
    show = progress and distributed.is_main_process()
    with Progress(total, "train", unit, done=run.spent, show=show) as bar:
        saved = shown = mark = time.perf_counter()
        if not run.detector.training:  # else its modules keep their current modes
            run.detector.train()
        # a loader draws from torch's generator when it starts its workers: none that training uses
        with checkpoint.preserve_random_state():
            steps = batches.iterate(run.step)
        for images, targets in steps:
            before = run.spent
            run.update(images, targets)
            now = time.perf_counter()
            run.add_seconds(now - mark)
            over, scored = run.over, validate is not None and run.is_scored()
            saves = over or run.pauses(until)
            saves = saves or distributed.broadcast_choice(now - saved >= checkpoint_seconds)
            for step, losses in run.read(all=saves or scored):
                run.log.add_step(step, run.lr_at(step.number), losses)
                loss = sum(losses.values())
                bar.advance(0, f"loss {loss:.3f}")
                if on_progress:
                    seen = {"images_seen": step.images_seen, "seconds": step.seconds}
                    on_progress({"step": step.number, "steps": run.steps, **seen, "loss": loss})
            bar.advance(run.spent - before, bar.note)
            if scored:
                run.validate(validate)
                saves = saves or run.given_up
            # after the validation, so that a run resumed from here has its point of the curve
            if saves:
                run.save()
                saved = shown = time.perf_counter()
                run.pause(until)
            elif now - shown >= STATUS_SECONDS:
                run.update_status()
                shown = now
            if run.given_up:
                if run.writes:
                    print_note(
                        f"stopped: no AP of the last {run.recipe.patience} points is a new best"
                    )
                return
            if over:
                return
            mark = time.perf_counter()
    if not run.over:
        raise RuntimeError(f"the batches ended after step {run.step} of {run.steps}")
