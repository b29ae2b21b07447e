"""The state of a training: weights, their average, optimiser, random generators, and its files.

All of it is in the checkpoint, so that a killed training resumes as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detzoo.detector import Detector, eval_mode
from detzoo.engine import checkpoint, distributed, status
from detzoo.engine.budget import Budget
from detzoo.engine.log import Log
from detzoo.engine.precision import autocast, prepare, transfer
from detzoo.engine.recipe import Recipe, add_missing_keys
from detzoo.engine.step import NonFiniteLoss, Step
from detzoo.progress import print_note
from detzoo.types import Images, Target, pad_targets


class Training:
    """The state of a training: its steps, its scores, its checkpoint."""

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
        tensorboard: bool = False,
    ) -> None:
        if steps < 1:
            raise ValueError("there is no batch to train on; the training split has no image")
        checkpoint.seed_everything(distributed.process_seed(seed))
        self.recipe, self.run_dir, self.steps, self.seed = recipe, run_dir, steps, seed
        self.device = torch.device(device)
        self.precision, self.channels_last = precision, channels_last
        self.detector = prepare(detector, device, channels_last)
        self.writes = distributed.is_main_process()
        self.ema = recipe.make_ema(detector)
        self.optimizer = recipe.make_optimizer(detector)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.step, self.images_seen, self.seconds = 0, 0, 0.0
        self.budget = Budget(recipe, steps)
        every_step = recipe.minutes is not None  # their number is not known beforehand
        self.log = Log(run_dir, 1 if every_step else steps, self.writes, tensorboard)
        self.late = self.device.type == "cuda"  # losses are read when the next step is on its way
        self.unread: list[Step] = []
        self.last: tuple[Tensor, Step] | None = None
        self.resume()
        self.wrapped = distributed.wrap_ddp(self.detector)

    @property
    def scored(self) -> nn.Module:
        """The detector to score: with averaged weights if there are any."""
        return self.detector if self.ema is None else self.ema.module

    def update(self, images: Images, targets: Sequence[Target]) -> None:
        """One step of the optimiser, whose losses `read` gives."""
        images = transfer(images, self.device, self.channels_last)
        targets = pad_targets(targets).to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group.get("lr_scale", 1.0)
        with autocast(self.device, self.precision):
            losses = self.wrapped(images, targets)
        stacked = torch.stack([loss.float() for loss in losses.values()])
        of_all = distributed.all_mean(stacked) if distributed.processes() > 1 else stacked
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

    def pauses(self, until: int | None) -> bool:
        """Whether to pause: `until` images are seen, and the budget is not spent."""
        return until is not None and self.images_seen >= until and not self.over

    def pause(self, until: int | None) -> None:
        """Save the training and raise Paused."""
        if self.pauses(until):
            raise status.Paused(f"stopped at {self.describe_budget()}")

    def add_seconds(self, seconds: float) -> None:
        """Add the duration of the last step."""
        if self.recipe.minutes is not None:
            seconds = distributed.broadcast_number(seconds)  # they end at one step
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
        """The learning rate of the next step."""
        return self.lr_at(self.step + 1)

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        return self.recipe.lr_at(step * self.recipe.batch_size, self.seconds)

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.budget.is_over(self.step, self.seconds)

    @property
    def spent(self) -> int:
        """The part of the budget that is spent."""
        return self.budget.spent(self.images_seen, self.seconds)

    def is_scored(self) -> bool:
        """Whether a point of the curve is due."""
        return self.budget.is_scored(self.step, self.seconds, self.log.curve_rows)

    def describe_budget(self) -> str:
        return self.budget.describe(self.images_seen, self.seconds)

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

    def validate(self, validate: Callable[[Detector], dict[str, float | None]]) -> None:
        """A row of curve.csv; leaves no trace in the training, random numbers included."""
        self.check_gradient()
        distributed.share_buffers(self.scored)
        with eval_mode(self.scored), checkpoint.preserve_random_state():
            scores = validate(self.scored)
        self.log.add_point(self.images_seen, self.seconds, scores)
        self.log.write_curve()
        if self.writes:
            print_note(self.describe_point(scores))

    @property
    def given_up(self) -> bool:
        """Whether recipe.patience ends the training before its budget is spent.

        They are stored with the checkpoint, so that a resumed training decides the same.
        """
        aps = [row["AP"] for row in self.log.curve_rows]
        return not self.over and self.recipe.gives_up(
            [math.nan if ap in (None, "") else float(ap) for ap in aps]
        )

    def describe_point(self, scores: Mapping[str, float | None]) -> str:
        """A point of the curve as a line for people."""
        values = ", ".join(
            f"{key} {'n/a' if scores[key] is None else format(scores[key], '.3f')}"
            for key in ("AP", "AP50")
        )
        minutes = f"{self.seconds / 60:.1f} min"
        return f"{self.describe_budget()}: {values} on val, {minutes}"

    def save(self) -> None:
        self.check_gradient()
        random = distributed.gather(checkpoint.random_state())
        if not self.writes:
            return
        self.log.write_log()
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
        self.update_status()

    def update_status(self) -> None:
        """Write the training's progress into status.json."""
        if self.writes:
            seconds = round(self.seconds, 3)
            status.update(self.run_dir, images_seen=self.images_seen, train_seconds=seconds)

    def resume(self) -> None:
        """Restore the checkpoint, if there is one, and drop later rows of the log."""
        if self.writes:
            checkpoint.remove_leftovers(self.run_dir)
        if (state := checkpoint.load(self.run_dir)) is not None:
            self.check_and_restore(state)
        if self.over:
            return  # nothing is added to the log and the curve, even if they are missing
        if self.writes:
            checkpoint.check_space(self.run_dir, self.size)
            if self.step:
                print_note(f"resumes after {self.describe_budget()}")
        self.log.resume(self.images_seen)

    def check_and_restore(self, state: dict[str, Any]) -> None:
        """`restore`; raises ValueError for a state that is damaged or another training's."""
        path = self.run_dir / checkpoint.FILE
        try:
            state = add_missing_keys(state)
            other = [key for key, value in self.identity.items() if state[key] != value]
            if not other:
                self.restore(state, path)
        except Exception as error:  # of any kind, as the damage is
            reason = f"{type(error).__name__}: {error}".split("\n")[0].replace(f"{path}: ", "")
            raise ValueError(
                f"{path}: no training can resume from it ({reason}); remove it to train again"
            ) from error
        if other:
            differences = "; ".join(
                f"{key} was {state[key]}, is {self.identity[key]}" for key in other
            )
            raise ValueError(
                f"{self.run_dir} holds another training ({differences}); train into another "
                "directory"
            )

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Continue from `state`, read from `path`. Raises any exception for damaged content."""
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
        """The settings that must be equal for a training to be resumed; EMA's step is the step."""
        return {
            "recipe": asdict(self.recipe),
            "steps": self.steps,
            "seed": self.seed,
            "precision": self.precision,
            "processes": distributed.processes(),
        }
