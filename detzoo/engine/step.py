"""A training step, whose losses are read without stalling the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class NonFiniteLoss(RuntimeError):
    """The loss or the gradient is inf or nan. Has `step`, `losses` (by name) and `image_ids`."""

    def __init__(self, step: int, losses: dict[str, float], image_ids: Sequence[int]) -> None:
        self.step, self.losses, self.image_ids = step, dict(losses), list(image_ids)
        values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        super().__init__(
            f"not finite at step {step}: {values}; image ids {', '.join(map(str, image_ids))}. "
            "Lower the learning rate or clip_norm, or look at the boxes of these images"
        )


class PendingCopy:
    """An asynchronous copy of numbers from a device: started now, read later.

    `tensor.item()` waits for all work that is queued on the GPU, the next step included. A copy
    into pinned memory with an event waits only for the work that was queued before it.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values.detach().to("cpu", non_blocking=True)
        self.arrived = self.event() if values.is_cuda else None

    @staticmethod
    def event() -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record()
        return event

    def tolist(self) -> list:
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.tolist()


class Step:
    """A training step: its number, images and losses.

    own, of_all: (L,), the losses by `names` of this process and their means over all processes.
    seconds and images_seen: of the whole training up to and with this step.
    """

    def __init__(
        self,
        number: int,
        image_ids: Sequence[int],
        names: Sequence[str],
        own: Tensor,
        of_all: Tensor,
    ) -> None:
        self.number, self.image_ids, self.names = number, list(image_ids), list(names)
        self.reading = PendingCopy(torch.stack([own, of_all]))
        self.images_seen, self.seconds = 0, 0.0

    def losses(self) -> dict[str, float]:
        """The losses of the whole batch. Raises NonFiniteLoss for this process's part."""
        own, of_all = self.reading.tolist()
        if not all(map(math.isfinite, own)):
            raise NonFiniteLoss(
                self.number, dict(zip(self.names, own, strict=True)), self.image_ids
            )
        return dict(zip(self.names, of_all, strict=True))
