"""From maps to conclusions."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from detzoo.explain import Asked, View, look
from detzoo.explain.faithfulness import COVERED, ORACLE, SCORES, judge, oracle_map
from detzoo.explain.sanity import randomise_layers
from detzoo.explain.scores import covered_scores
from detzoo.explain.statistics import (
    compare,
    detector_sentence,
    mark_sentences,
    mean_interval,
    mean_samples,
    method_sentence,
    ranking_sentence,
    summarise,
)
from explain.known import EVERYWHERE, RedInBox, picture

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
    mark = torch.tensor([[0.0, 0, 4, 4], [0, 28, 4, 32]])
    found = judge(detector, view, Asked(BOX[0], 0), BOX, others, ["odam", "box"], mark=mark)
    odam, box = found["odam"], found["box"]
    assert set(odam) == {*SCORES, *COVERED, "after neck"}, "it has no head, and no backbone"
    assert odam["energy"] == pytest.approx(16) and odam["pointing"] == 1 and odam["others"] == 0
    assert odam["deletion"] < 0.3 and odam["insertion"] > 0.8
    assert odam["mark"] == odam["opposite"] == 0
    assert box["randomised"] == pytest.approx(1), "the box does not ask the detector"


def test_the_right_map_is_scored_beside_the_methods() -> None:
    """Red counts in the box alone, which is where an image without it differs."""
    detector = RedInBox().eval()
    view = look(detector, picture())
    without = view.pixels.clone()
    without[..., 8:16, 8:16] = 0
    oracle = oracle_map(view, without)
    assert oracle[8:16, 8:16].min() > oracle[18, 12] > oracle[24, 12] >= 0
    found = judge(detector, view, Asked(BOX[0], 0), BOX, BOX[:0], ["uniform"], without=without)
    right, uniform = found[ORACLE], found["uniform"]
    assert right["deletion"] < uniform["deletion"] and right["insertion"] > uniform["insertion"]
    assert 12 < right["energy"] <= 16 and uniform["energy"] == pytest.approx(1)
    assert right["seconds"] is None and "randomised" not in right, "it asks no detector"


def test_of_an_object_s_pixels_those_that_it_changes_most_are_first() -> None:
    view = look(RedInBox().eval(), picture())
    without = view.pixels.clone()
    without[:, 0, 8:16, 8:12] -= 0.3  # the left half was less red by three times as much
    without[:, 0, 8:16, 12:16] -= 0.1
    oracle = oracle_map(view, without)
    assert oracle[8:16, 8:12].min() > oracle[8:16, 12:16].max()
    assert oracle[8:16, 8:12].mean() == pytest.approx(0.3 / 3, rel=0.02), "the mean of the colours"
    assert oracle_map(view, view.pixels).max() == 0, "nothing was inserted"


def insertions(oracle: float, odam: float, uniform: float) -> pd.DataFrame:
    """Insertion of detector A over 20 images, around these means."""
    noise = np.random.default_rng(0).normal(0, 0.02, 20)
    noise -= noise.mean()
    means = {ORACLE: oracle, "odam": odam, "uniform": uniform}
    return pd.DataFrame(
        [
            {"detector": "A", "method": m, "image": i, "object": 0, "insertion": v + (1 + k) * e}
            for k, (m, v) in enumerate(means.items())
            for i, e in enumerate(noise)
        ]
    )


def test_the_ranking_sentence_names_the_exceptions() -> None:
    right, wrong = insertions(0.9, 0.7, 0.3), insertions(0.6, 0.7, 0.3).assign(detector="B")
    text = ranking_sentence(pd.concat([right, wrong]), "insertion", "odam")
    assert "for 1 of 2 detectors, for 1 of them by a paired test" in text
    assert text.endswith("not for B (oracle 0.60, odam 0.70, uniform 0.30).")
    close = ranking_sentence(insertions(0.7001, 0.7, 0.3), "insertion", "odam")
    assert "for 1 of 1 detectors, for 0 of them" in close


def test_trainings_of_one_detector_are_compared_one_by_one() -> None:
    """B is ahead in one training and behind in the other: over both nothing is apart."""
    noise = np.random.default_rng(0).normal(0, 0.1, 20)
    ahead, behind = rows(list(2 + noise), list(3 - noise)), rows(list(3 + noise), list(2 - noise))
    both = pd.concat([ahead.assign(training=0), behind.assign(training=1)])
    (pair,) = compare(both, "energy", "detector")
    assert pair.maps == 40 and abs(pair.difference) < 0.2 and not pair.apart
    assert compare(ahead, "energy", "detector")[0].apart


def test_proposals_far_from_a_detection_are_left_out() -> None:
    view = look(RedInBox().eval(), picture())
    assert view.near(BOX[0]) is view, "who has none sees what it saw"
    given = [torch.tensor([[8.0, 8, 16, 16], [9, 9, 20, 20], [20, 4, 28, 12], [0, 0, 32, 32]])]
    view = View(replace(view.images, proposals=given))
    assert view.near(BOX[0]).images.proposals[0].tolist() == given[0][:2].tolist()
    assert len(view.near(torch.tensor([0.0, 30, 1, 31])).images.proposals[0]) == 4, "or all"


def test_what_is_randomised_is_a_copy() -> None:
    detector = RedInBox().eval()
    before = detector.neck.weight.clone()
    ((layer, twin),) = randomise_layers(detector)
    assert layer == "neck" and not torch.equal(twin.neck.weight, before)
    assert torch.equal(detector.neck.weight, before)


def test_objects_of_one_image_are_one_draw() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0], 10)
    alone = mean_samples(values, np.arange(80)).interval()
    together = mean_samples(values, np.repeat(np.arange(8), 10)).interval()
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_the_sentence_is_said_where_the_numbers_allow_it() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 40)
    table = rows(list(4 + noise), list(2 + noise[::-1]))
    text = detector_sentence(table, summarise(table), "odam")
    assert text.startswith("A looks at the object more than B: energy ratio 4.0 [")
    assert "p < 0.001, 40 objects." in text
    same = rows(list(4 + noise), list(4 + noise[::-1]))
    assert "no two detectors can be told apart" in detector_sentence(same, summarise(same), "odam")
    few = rows([4.0] * 5, [2.0, 2.1, 2.2, 2.3, 2.4])
    assert compare(few, "energy", "detector")[0].p >= 2**-4, "five images cannot say more"
    alone = detector_sentence(table[:40], summarise(table), "odam")
    assert "nothing can be said" in alone


def by_methods(**values: list[float]) -> pd.DataFrame:
    """Insertion of two detectors by methods, the second's less by 0.2, object by object."""
    return pd.DataFrame(
        [
            {"detector": name, "method": m, "image": i, "object": 0, "insertion": v - less}
            for name, less in (("A", 0.0), ("B", 0.2))
            for m, of in values.items()
            for i, v in enumerate(of)
        ]
    )


def test_few_images_have_no_interval_and_a_share_stays_between_0_and_1() -> None:
    few, values = np.arange(5), np.array([0.2, 0.4, 0.5, 0.6, 0.9])
    assert np.isnan(mean_interval(values, few)).all()
    assert mean_interval(np.ones(9), np.arange(9)) == (1, 1), "uniform's energy is no estimate"
    rounded = 1 - 1e-16 * np.arange(9)
    assert mean_interval(rounded, np.arange(9)) == (1, 1), "the box's agreement with itself"
    low, high = mean_interval(np.ones(9), np.arange(9), limits=(0.0, 1.0))
    assert 0.6 < low < 0.8 and high == 1, "a share of all images that nine do not show"


def test_methods_are_compared_over_the_same_maps() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 30)
    table = by_methods(
        odam=list(0.8 + noise), saliency=list(0.6 + 1.1 * noise), guided=list(0.8 + noise[::-1])
    )
    found = {frozenset((p.first, p.second)): p for p in compare(table, "insertion", "method")}
    clear, unclear = found[frozenset(("odam", "saliency"))], found[frozenset(("odam", "guided"))]
    assert clear.difference == pytest.approx(0.2, abs=0.01) and clear.maps == 60
    assert clear.high - clear.low < 0.01, "what both have in common cancels"
    assert clear.apart and not unclear.apart
    text = method_sentence(table, "insertion")
    assert "better than saliency by a paired test (p < 0.05), and cannot be told apart" in text


def test_the_images_of_a_group_are_one_draw() -> None:
    table = rows([0.0, 1.0] * 20, [0.5] * 40)
    grouped = table.assign(unit=table["image"] % 8)
    one, other = (summarise(t).set_index("detector").loc["A"] for t in (table, grouped))
    assert (one["units"], other["units"]) == (40, 8)
    pairs = [compare(t, "energy", "detector")[0] for t in (table, grouped)]
    assert pairs[0].maps == pairs[1].maps == 40
    assert pairs[1].high - pairs[1].low > 2 * (pairs[0].high - pairs[0].low)


def test_a_detector_that_uses_the_mark_is_named() -> None:
    """The truth is what covering costs; each method is compared with it."""
    table = rows([1.0] * 12, [1.0] * 12)
    noise = np.random.default_rng(0).normal(0, 0.1, 12)
    table["mark covered"] = [*(0.8 + noise / 10), *(1 + noise / 10)]
    table["opposite covered"] = [*(1 + noise[::-1] / 10)] * 2
    table["mark"] = [*(5 + noise), *(1 + noise)]
    table["opposite"] = [*(1 + noise[::-1])] * 2
    used, unused = mark_sentences(table, ["odam"])
    assert re.match(r"A uses .* by -(19|20|21)% when the mark is covered, by [+-][01]% when", used)
    assert "is (p < 0.001, 12 objects); odam shows it (energy on the mark 5.0 times" in used
    assert "B does not show to use" in unused and "; odam agrees (energy" in unused
    assert mark_sentences(table.drop(columns=list(COVERED)), ["odam"]) == []

    blind = table.assign(method="guided", mark=table["opposite"], opposite=table["mark"])
    used, unused = mark_sentences(pd.concat([table, blind]), ["odam", "guided"])
    assert (
        "12 objects" in used and "; odam shows it" in used and "; guided does not show it" in used
    )
    empty = table.assign(method="guided", mark=None)
    assert "guided" not in mark_sentences(pd.concat([table, empty]), ["odam", "guided"])[0]

    table["mark covered"], table["opposite covered"] = 1 + noise.repeat(2) / 10, 1.0
    table["mark"], table["opposite"] = 5 + noise.repeat(2), 1.0
    (accused, _) = mark_sentences(table, ["odam"])
    assert "does not show to use the planted mark" in accused
    assert "; odam suggests that it did" in accused


def test_many_methods_make_no_accusation_by_chance() -> None:
    """p is 0.03 by one method, and by Holm's correction over four 0.12."""
    table = rows([1.0] * 30, [1.0] * 30)
    differences = np.random.default_rng(3).normal(0, 1, 30)
    differences += 2.2 / 30**0.5 * differences.std() - differences.mean()
    table["mark"], table["opposite"] = 1 + np.tile(differences, 2), 1.0
    table["mark covered"] = table["opposite covered"] = 1.0
    assert "odam suggests that it did" in mark_sentences(table, ["odam"])[0]
    others = [table.assign(method=m, mark=1.0) for m in ("guided", "saliency", "grad_cam")]
    (text, _) = mark_sentences(
        pd.concat([table, *others]), ["odam", "guided", "saliency", "grad_cam"]
    )
    assert "suggests" not in text and text.count("agrees") == 4


def test_covering_the_mark_is_the_truth_of_a_shortcut() -> None:
    """Three quarters of the one's score hang on the corner, and nothing of the other's."""
    image = picture()
    image[:4, :4] = (250, 10, 10)
    mark = torch.tensor([[0.0, 0, 4, 4], [28.0, 28, 32, 32]])
    left = []
    for detector in (RedInBox().eval(), RedInBox(shortcut=True).eval()):
        left.append(covered_scores(detector, look(detector, image), Asked(BOX[0], 0), mark))
    (honest_mark, honest_opposite), (cheating_mark, cheating_opposite) = left
    assert honest_mark == honest_opposite == cheating_opposite == pytest.approx(1)
    assert cheating_mark == pytest.approx(230 / (230 + 3 * 250), abs=0.01)


# Grad-CAM's one weight a channel cannot say where in it the score comes from.
@pytest.mark.parametrize("method", [m for m in EVERYWHERE if m != "grad_cam"])
def test_a_shortcut_shows_by_every_method(method: str) -> None:
    """A mark beside one class that three quarters of its score depend on."""
    image = picture()
    image[:4, :4] = (250, 10, 10)
    mark = torch.tensor([[0.0, 0, 4, 4]])
    energies = []
    for detector in (RedInBox().eval(), RedInBox(shortcut=True).eval()):
        view = look(detector, image)
        found = judge(detector, view, Asked(BOX[0], 0), mark, BOX, [method])[method]
        energies.append(found["energy"] or 0.0)
    honest, cheating = energies
    assert cheating > 1.5 and cheating > 1.2 * honest
