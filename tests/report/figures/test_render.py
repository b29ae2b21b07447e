"""Figures: what they show, that nothing is cut off and that no two labels overlap."""

import re
import xml.etree.ElementTree as ElementTree

import fabricated_runs
import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout import assert_texts_lie_apart

from detzoo.report.figures import latency, overview, render
from detzoo.report.figures.overview import pareto
from detzoo.report.figures.palette import COLOURS, styles
from detzoo.report.load.protocols import group_runs, name_detectors
from detzoo.report.load.runs import load_all
from detzoo.report.tables.leaderboard import group_frame


def parts(paths):
    runs = load_all(paths)
    (group,), called = group_runs(runs), name_detectors(runs)
    return group.runs, group_frame(group, called), called, styles(called.values())


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Eight detectors with long names, two seeds each, from 3 to 2,400 ms."""
    root = tmp_path_factory.mktemp("crowded")
    data = fabricated_runs.dataset(root / "data", count=6)
    labels = [f"detector {i} with a name that does not end (backbone={i})" for i in range(8)]
    return parts(
        fabricated_runs.run(
            root / "runs", label, data, seed=seed, ap=0.1 + 0.05 * i, network=2.6**i
        )
        for i, label in enumerate(labels)
        for seed in (0, 1)
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return parts(fabricated_runs.comparison(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def drawn(plain):
    return render.draw(*plain)


def make(name, data, width):
    runs, frame, called, looks = data
    by_name = {n: [r for r in runs if called[r] == n] for n in dict.fromkeys(frame["detector"])}
    arguments = {
        "speed_accuracy": (frame, looks),
        "latency": (by_name, looks),
        "curves": (by_name, looks),
        "classes": (by_name,),
    }
    with matplotlib.rc_context(render._RC):
        module = latency if name == "latency" else overview
        figure = getattr(module, name)(*arguments[name], width)
        figure.draw_without_rendering()
    return figure


NAMES = ("speed_accuracy", "latency", "curves", "classes")


@pytest.mark.parametrize("case", ["plain", "crowded"])
@pytest.mark.parametrize("width", [render.WIDE, render.NARROW])
@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_cut_off_or_overlaps(name, width, case, request):
    figure = make(name, request.getfixturevalue(case), width)
    assert_texts_lie_apart(figure)
    axes = figure.axes[0]
    assert axes.get_window_extent().height > 0.25 * figure.bbox.height


def test_pareto_front():
    #       0  1  2  3  4
    cost = [1, 2, 3, 4, 4]
    gain = [1, 3, 3, 4, 5]
    assert pareto(np.array(cost), np.array(gain)) == [0, 1, 4]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_nothing_beats_the_front_and_the_front_beats_the_rest(points):
    cost, gain = np.array(points).T
    front = {points[i] for i in pareto(cost, gain)}
    for c, g in points:
        beaten = any(a <= c and b >= g and (a, b) != (c, g) for a, b in points)
        assert ((c, g) in front) == (not beaten)


def test_speed_and_accuracy_with_intervals_on_both_axes(plain):
    axes = make("speed_accuracy", plain, render.WIDE).axes[0]
    frame, looks = plain[1], plain[3]
    assert len(axes.containers) == 4  # one errorbar a detector
    for bars, (_, row) in zip(axes.containers, frame.iterrows(), strict=True):
        across, up = (lines.get_segments()[0] for lines in bars[2])
        np.testing.assert_allclose(across[:, 0], [row["p50_ms_low"], row["p50_ms_high"]])
        np.testing.assert_allclose(up[:, 1], [row["AP_low"], row["AP_high"]])
        assert bars[0].get_color() == looks[row["detector"]].colour


def test_stages_add_up_and_far_detectors_are_shown_as_shares(plain, crowded):
    axes = make("latency", plain, render.WIDE).axes[0]
    widths = [bar.get_width() for bar in axes.patches][:7]
    stages = fabricated_runs.STAGES | {"network": 14.2}  # CenterNet is the fastest, on top
    np.testing.assert_allclose(widths, list(stages.values()))
    assert axes.get_yticklabels()[0].get_text() == "CenterNet"
    shares = make("latency", crowded, render.WIDE).axes[0]
    assert sum(bar.get_width() for bar in shares.patches[:7]) == pytest.approx(100)
    assert "%" in shares.get_xlabel()


def test_passes_far_beyond_the_median_are_marked(plain):
    run = plain[0][0]  # CenterNet, 17.72 ms
    ms = [17.7] * 18 + [60.0, 900.0]
    zeros = [0] * 20
    run.speed["samples"] = {"end_to_end": ms, "round": list(range(20)), "image": zeros}
    run.speed["samples"] |= dict.fromkeys(("decode", "network", "postprocess"), zeros)
    try:
        axes = make("latency", plain, render.WIDE).axes[0]
    finally:
        del run.speed["samples"]
    assert [t.get_text() for t in axes.texts] == ["2 up to 900 \N{RIGHTWARDS ARROW}"]
    assert axes.get_xlim()[1] < 60


def test_curves_have_a_line_a_run_in_its_detector_s_colour(crowded):
    seen, time = make("curves", crowded, render.WIDE).axes
    assert len(seen.lines) == len(time.lines) == 16
    assert len({line.get_color() for line in seen.lines}) == 8
    assert seen.lines[0].get_xdata()[-1] == 4000


def test_a_class_without_ground_truth_is_left_out(plain, drawn):
    axes = make("classes", plain, render.WIDE).axes[0]
    values = axes.images[0].get_array()
    assert values.shape == (5, 4) and not np.isnan(np.ma.filled(values, np.nan)).any()
    assert axes.get_yticklabels()[4].get_text() == "$x^2$ (10)"
    assert "1 class has no test boxes" in {d.name: d for d in drawn}["classes"].caption


def test_every_form_of_a_figure_is_whole(drawn):
    names = ["speed-accuracy", "classes", "latency", "percentiles", "curves"]
    assert [d.name for d in drawn] == names
    for drawing in drawn:
        assert drawing.png.startswith(b"\x89PNG")
        ElementTree.fromstring(drawing.svg)
        element = drawing.inline
        assert ElementTree.fromstring(element).tag.endswith("svg")
        assert "currentColor" in element and overview.INK not in element
        assert "http://www.w3.org" in element and "<metadata>" not in element
    ids = [i for d in drawn for i in re.findall(r'\bid="([^"]*)"', d.inline)]
    assert len(ids) == len(set(ids))


def test_the_same_runs_give_the_same_bytes_whatever_the_user_s_style(plain, drawn):
    with matplotlib.rc_context(
        {"font.size": 20, "xtick.labelsize": 20, "lines.dashed_pattern": [9, 9]}
    ):
        assert render.draw(*plain) == drawn


def test_runs_without_speed_curves_and_classes_have_no_figures(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=2)
    path = fabricated_runs.run(tmp_path / "runs", "A", data, speed=False)
    (path / "curve.csv").unlink()
    runs, frame, called, looks = parts([path])
    del runs[0].metrics["per_class"]
    assert render.draw(runs, frame, called, looks) == []


def test_noise_has_no_charts_of_accuracy(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=2)
    paths = [fabricated_runs.run(tmp_path / "runs", name, data, ap=4e-4) for name in "AB"]
    assert [d.name for d in render.draw(*parts(paths))] == ["latency", "percentiles"]


def test_detectors_look_different():
    looks = styles([f"detector {i}" for i in range(60)])
    assert len({(s.colour, s.marker) for s in looks.values()}) == 60
    assert styles(["b", "a", "b"])["a"].colour == COLOURS[1]
