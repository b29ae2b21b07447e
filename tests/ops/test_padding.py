from __future__ import annotations

import torch

from detzoo.ops.padding import inside


def test_where_images_end_literally() -> None:
    found = inside([(2, 3), (1, 2)], (2, 3), torch.device("cpu"))
    assert found.int().tolist() == [[[1, 1, 1], [1, 1, 1]], [[1, 1, 0], [0, 0, 0]]]
    assert inside([(2, 3), (2, 3)], (2, 3), torch.device("cpu")) is None
    assert inside([(2, 3)], torch.Size([2, 3]), torch.device("cpu")) is None
