"""The figures beyond AP: their numbers, and that all can be read."""

from __future__ import annotations

import fabricated_runs
import matplotlib
import numpy as np
import pytest
from layout import assert_texts_lie_apart

from detzoo.metrics.errors import KINDS, SUMS
from detzoo.report.book import gather
from detzoo.report.figures import details as charts
from detzoo.report.figures import render
from detzoo.report.figures.overview import INK
from detzoo.report.figures.palette import styles

NAMES = ("percentiles", "errors", "precision_recall", "f1", "froc", "reliability", "confusion")
LONG = "detector {} with a name that does not end (backbone={})"
MANY = tuple(f"a class of a rather long name, {i}" for i in range(30))


def gathered(paths):
    (table,) = gather(paths, resamples=20).tables
    return table


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    *runs, _ = fabricated_runs.comparison(tmp_path_factory.mktemp("plain"))
    return gathered(map(fabricated_runs.score, runs))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Ten detectors with long names, thirty classes, from 3 to 5,000 ms."""
    root = tmp_path_factory.mktemp("crowded")
    data = fabricated_runs.dataset(root / "data", count=60, classes=MANY)
    return gathered(
        fabricated_runs.score(
            fabricated_runs.run(root / "runs", LONG.format(i, i), data, network=2.3**i)
        )
        for i in range(10)
    )


def draw(name, table, width=render.WIDE):
    looks = styles(table.by_name)
    with matplotlib.rc_context(render._RC):
        first = table.frame if name == "percentiles" else table.analysis.details
        figure = getattr(charts, name)(first, looks, width)
        figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("case", ["plain", "crowded"])
@pytest.mark.parametrize("width", [render.WIDE, render.NARROW])
@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_cut_off_or_overlaps(name, width, case, request):
    assert_texts_lie_apart(draw(name, request.getfixturevalue(case), width))


def test_a_panel_for_each_kind_and_a_bar_for_each_detector(plain):
    panels = draw("errors", plain).axes
    assert [axes.get_title() for axes in panels] == [*KINDS, *SUMS]
    for axes, kind in zip(panels, (*KINDS, *SUMS), strict=True):
        widths = [bar.get_width() for bar in axes.patches]
        assert widths == [d.errors[kind].dap for d in plain.analysis.details.values()]
    assert len({axes.get_xlim()[1] for axes in panels[:6]}) == 1  # lengths can be compared


def test_one_colour_a_detector_throughout(plain):
    looks = styles(plain.by_name)
    colours = [looks[name].colour for name in plain.analysis.details]
    lines = [line.get_color() for line in draw("precision_recall", plain).axes[1].lines]
    assert lines == colours
    bars = [
        matplotlib.colors.to_hex(b.get_facecolor()) for b in draw("errors", plain).axes[0].patches
    ]
    assert bars == colours
    titled = [axes for axes in draw("confusion", plain).axes if axes.get_title("left")]
    assert [axes.lines[-1].get_color() for axes in titled] == colours  # a mark, for text is in ink
    assert {axes.title.get_color() for axes in titled} == {INK}


def test_the_mean_height_of_a_curve_is_its_ap(plain):
    for panel, key in zip(draw("precision_recall", plain).axes, ("AP50", "AP75"), strict=True):
        heights = [line.get_ydata().mean() for line in panel.lines]
        np.testing.assert_allclose(heights, plain.frame[key], atol=1e-6)


def test_a_marker_stands_where_val_would_have_it(plain):
    axes = draw("f1", plain).axes[0]
    lines = axes.lines[0::2], axes.lines[1::2]
    for detail, line, marker in zip(plain.analysis.details.values(), *lines, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), detail.f1)
        assert marker.get_xydata().tolist() == [[detail.point.threshold, detail.point.test["f1"]]]
        place = round(100 * detail.point.threshold)
        assert detail.f1[place] == pytest.approx(detail.point.test["f1"])


def test_recall_against_false_alarms_passes_through_what_is_deployed(plain):
    axes = draw("froc", plain).axes[0]
    lines = axes.lines[0::2], axes.lines[1::2]
    for detail, line, marker in zip(plain.analysis.details.values(), *lines, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), detail.deployment.froc)
        ((alarms, recall),) = marker.get_xydata().tolist()
        assert (alarms, recall) == tuple(detail.point.test[k] for k in ("false_alarms", "recall"))
        below = line.get_ydata()[line.get_xdata() <= alarms]
        above = line.get_ydata()[line.get_xdata() > alarms]
        assert below[-1] <= recall <= above[0]


def test_rare_classes_are_pooled_and_nothing_is_lost(crowded):
    detail = next(iter(crowded.analysis.details.values()))
    names, lists = charts._most_boxes(detail)
    assert len(names) == charts.MOST_CONFUSED and names[-1] == "19 others"
    pooled = charts._pooled(detail.confusion, lists)
    assert pooled.sum() == detail.confusion.sum()
    assert pooled[0, 0] == detail.confusion[lists[0][0], lists[0][0]]
    rest = np.ix_(lists[-1], lists[-1])
    assert pooled[-2, -2] == detail.confusion[rest].sum()


def test_percentiles_are_those_of_the_table(plain):
    axes = draw("percentiles", plain).axes[0]
    fastest = plain.frame.sort_values("p50_ms").iloc[0]
    whole, *points = axes.lines[:4]
    assert whole.get_xdata().tolist() == [fastest["p50_ms"], fastest["p99_ms"]]
    assert [p.get_xdata()[0] for p in points] == [fastest[f"p{p}_ms"] for p in (50, 90, 99)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the fastest on top


def test_without_the_numbers_there_is_no_figure(plain):
    looks = styles(plain.by_name)
    assert charts.percentiles(plain.frame.assign(p99_ms=np.nan), looks, 6.4) is None
    for name in NAMES[1:]:
        assert getattr(charts, name)({}, looks, 6.4) is None
