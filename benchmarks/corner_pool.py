"""Corner pooling four ways, beside a max pool of whole rows and columns.

A running maximum in both directions of a (batch, channels, side, side) map, forwards and with its
gradient: by torch.cummax along the memory (ours), by torch.cummax as the map lies, by doubling
shifts, by a loop over the lines; and amax of every row and column, spread out again, as a floor.
Ratios above 1 say how many times as long the others take.

    python benchmarks/corner_pool.py --side 128 --channels 128
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from lib import begin, interleaved, ratio, timing_lock
from torch import Tensor

from detzoo.ops.corner_pool import running_max

Way = Callable[[Tensor, int], Tensor]


def plain_cummax(x: Tensor, dim: int) -> Tensor:
    return x.flip(dim).cummax(dim).values.flip(dim)


def doubling(x: Tensor, dim: int) -> Tensor:
    """Place i holds the maximum of the next 2^s after step s."""
    length, step = x.shape[dim], 1
    while step < length:
        near, far = x.narrow(dim, 0, length - step), x.narrow(dim, step, length - step)
        x = torch.cat([torch.maximum(near, far), x.narrow(dim, length - step, step)], dim)
        step *= 2
    return x


def loop(x: Tensor, dim: int) -> Tensor:
    lines = list(x.unbind(dim))
    for i in range(len(lines) - 2, -1, -1):
        lines[i] = torch.maximum(lines[i], lines[i + 1])
    return torch.stack(lines, dim)


def whole_line(x: Tensor, dim: int) -> Tensor:
    return x.amax(dim, keepdim=True).expand_as(x).contiguous()


WAYS: dict[str, Way] = {
    "ours": lambda x, dim: running_max(x, dim, reverse=True),
    "cummax as it lies": plain_cummax,
    "doubling": doubling,
    "loop": loop,
    "whole line": whole_line,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--side", type=int, default=64, help="of the map, in cells")
    parser.add_argument("--seconds", type=float, default=10, help="for each of the two tables")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    options.backbone, options.size = "no backbone", 4 * options.side
    device = begin(options)
    shape = (options.batch, options.channels, options.side, options.side)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).relu().to(device)  # many ties, as after a ReLU

    def work(way: Way, gradient: bool) -> Callable[[], int]:
        def once() -> int:
            y = x.detach().requires_grad_(gradient)
            out = way(y, -1) + way(y, -2)
            if gradient:
                out.backward(x)
            return len(x)

        return once

    for gradient in (False, True):
        print(f"{'x'.join(map(str, shape))}, {'with the gradient' if gradient else 'forwards'}")
        with timing_lock():
            rates = interleaved(
                {name: work(way, gradient) for name, way in WAYS.items()}, options.seconds, device
            )
        for name, found in rates.items():
            milliseconds = 1e3 * len(x) / statistics.median(found)
            print(f"  {name:<20}{milliseconds:9.2f} ms  {ratio(rates['ours'], found)}")


if __name__ == "__main__":
    main()
