from __future__ import annotations

import numpy as np
import torch

from detzoo.metrics.proposals import recall


def test_recall_by_hand():
    # Two boxes of 10 x 10. Their IoUs with the proposals, in order: the first 0, 0.6, 1; the
    # second 1/19, 0, 0. The second image's only box is met by nothing.
    truth = [torch.tensor([[0.0, 0, 10, 10], [5, 10, 15, 20]]), torch.tensor([[0.0, 0, 4, 4]])]
    found = [
        torch.tensor([[10.0, 10, 20, 20], [0, 0, 10, 6], [0, 0, 10, 10]]),
        torch.tensor([[50.0, 50, 60, 60]]),
    ]
    table = recall(found, truth, [1, 2, 3, 100], (0.3, 0.5, 0.7))
    expected = [[1 / 3, 2 / 3, 2 / 3, 2 / 3], [0, 1 / 3, 1 / 3, 1 / 3], [0, 0, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(table, expected)


def test_nothing_proposed_covers_nothing_and_nothing_to_cover_is_na():
    box, none = torch.tensor([[0.0, 0, 4, 4]]), torch.zeros(0, 4)
    assert recall([none], [box], [1, 5]).tolist() == [[0, 0], [0, 0]]
    assert np.isnan(recall([box], [none], [1])).all()
    assert recall([box, none], [box, none], [1]).tolist() == [[1], [1]]
