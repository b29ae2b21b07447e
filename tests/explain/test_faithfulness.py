"""From maps to a sentence that may be said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from detzoo.explain import METHODS, Asked, look
from detzoo.explain.faithfulness import (
    SCORES,
    compare,
    judge,
    mean_samples,
    randomised,
    sentence,
    summarise,
)
from explain.known import RedInBox, picture

BOX = torch.tensor([[8.0, 8, 16, 16]])


def rows(first: list[float], second: list[float], per_image: int = 1) -> pd.DataFrame:
    """Energies of detectors A and B by odam, object by object."""
    return pd.DataFrame(
        [
            {"detector": name, "method": "odam", "image": i // per_image, "object": i, "energy": e}
            for name, values in (("A", first), ("B", second))
            for i, e in enumerate(values)
        ]
    )


def test_a_map_is_judged_by_every_score() -> None:
    detector = RedInBox().eval()
    view = look(detector, picture())
    others = torch.tensor([[20.0, 4, 28, 12]])
    found = judge(
        detector, view, Asked(BOX[0], 0), BOX, others, "odam", shaken=randomised(detector)
    )
    assert set(found) == set(SCORES)
    assert found["energy"] == pytest.approx(16) and found["pointing"] == 1 and found["others"] == 0
    assert found["deletion"] < 0.3 and found["insertion"] > 0.8
    box = judge(detector, view, Asked(BOX[0], 0), BOX, others, "box", shaken=randomised(detector))
    assert box["backbone"] == pytest.approx(1), "the box does not ask the detector"


def test_what_is_randomised_is_a_copy() -> None:
    detector = RedInBox().eval()
    before = detector.neck.weight.clone()
    _, whole = randomised(detector)
    assert torch.equal(detector.neck.weight, before)
    assert not torch.equal(whole.neck.weight, before)


def test_objects_of_one_image_are_one_draw() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0], 10)
    alone = mean_samples(values, np.arange(80)).interval()
    together = mean_samples(values, np.repeat(np.arange(8), 10)).interval()
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_the_sentence_is_said_where_the_numbers_allow_it() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 40)
    table = rows(list(4 + noise), list(2 + noise[::-1]))
    summary = summarise(table)
    text = sentence(table, summary, "odam")
    assert text.startswith("A looks at the object more than B: energy ratio 4.0 [")
    assert "p < 0.001, 40 objects." in text
    same = rows(list(4 + noise), list(4 + noise[::-1]))
    assert "no two detectors can be told apart" in sentence(same, summarise(same), "odam")
    few = rows([4.0] * 5, [2.0, 2.1, 2.2, 2.3, 2.4])
    assert compare(few, "energy", "odam")[0]["p"] >= 2**-4, "five images cannot say more"
    assert "cannot" not in text and "nothing can be said" in sentence(table[:40], summary, "odam")


# Grad-CAM's one weight a channel cannot say where in it the score comes from.
@pytest.mark.parametrize("method", [m for m in METHODS if m != "grad_cam"])
def test_a_shortcut_shows_by_every_method(method: str) -> None:
    """A mark beside one class that three quarters of its score hang on."""
    image = picture()
    image[:4, :4] = (250, 10, 10)
    mark = torch.tensor([[0.0, 0, 4, 4]])
    energies = []
    for detector in (RedInBox().eval(), RedInBox(shortcut=True).eval()):
        view = look(detector, image)
        found = judge(detector, view, Asked(BOX[0], 0), mark, BOX, method)
        energies.append(found["energy"] or 0.0)
    honest, cheating = energies
    assert cheating > 1.5 and cheating > 1.2 * honest
