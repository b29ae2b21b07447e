"""Corner pooling (CornerNet, 1808.01244, section 3.4): the maxima along the row and the column.

There is no local evidence at a corner: an object's top-left corner is determined by the object's
topmost edge, somewhere to the right, and by its leftmost edge, somewhere below.
"""

from __future__ import annotations

from torch import Tensor


def running_max(x: Tensor, dim: int, *, reverse: bool = False) -> Tensor:
    """The maximum of everything up to and with each place along `dim`; reversed, from it on.

    The whole gradient of a place goes to the position that attains its maximum; of equal ones to
    the nearest, so a place that is its own maximum keeps what it gets.

    torch.cummax over the last dimension, where it reads memory in order: over rows it is several
    times slower than with a transposition before and after. Doubling shifts (log2 of the length
    vector operations) are as fast forwards, but their gradient costs many times as much
    (benchmarks/corner_pool.py).
    """
    x = x.transpose(dim, -1)
    x = x.flip(-1).cummax(-1).values.flip(-1) if reverse else x.contiguous().cummax(-1).values
    return x.transpose(dim, -1)


def corner_pool(vertical: Tensor, horizontal: Tensor, *, bottom_right: bool = False) -> Tensor:
    """(B, C, H, W) twice -> (B, C, H, W): equations 6 and 7 of the paper, for one kind of corner.

    Top-left: the maximum of `vertical` from each place down plus that of `horizontal` from it to
    the right. Bottom-right, the mirror image: from it up, and from it to the left.
    """
    return running_max(vertical, -2, reverse=not bottom_right) + running_max(
        horizontal, -1, reverse=not bottom_right
    )
