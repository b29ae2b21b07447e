"""The page and its folder: self-contained, escaped, whole."""

import html
import json
import os
import re
import shlex
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import fabricated_runs
import pytest

from detzoo.report import build
from detzoo.report.build import MOST_BYTES
from detzoo.report.figures.render import Drawing
from detzoo.report.page.render import breakable

TITLE = "Shapes <script>alert(1)</script>"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("built")
    runs = fabricated_runs.comparison(root, seeds=(0, 1))
    return build(runs, root / "out", title=TITLE, command="detzoo bench data='<b>'")


@pytest.fixture
def quick(monkeypatch):
    """Without figures, which take most of a second for every report."""
    monkeypatch.setitem(build.__globals__, "draw", lambda *arguments: [])


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.addresses, self.handlers = [], [], [], []
        self.feed(text)
        self.all = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.addresses.append(value)
            if name.startswith("on"):
                self.handlers.append((tag, name))

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_needs_nothing_from_outside(built):
    text = built.read_text()
    page = Reader(text)
    assert page.addresses
    links = {a for a in page.addresses if not a.startswith(("#", "data:"))}
    assert links > {"table.csv", "report.json"}
    for link in links:  # files beside the page, which may be followed but are never loaded
        assert (built.parent / unquote(link)).exists() and not urlsplit(link).scheme
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert "link" not in page.tags or page.addresses[0] == "data:,"
    assert "default-src 'none'" in text
    assert len(text.encode()) < MOST_BYTES


def test_names_are_shown_and_never_run(built):
    text = built.read_text()
    page = Reader(text)
    assert page.handlers == [] and page.tags.count("script") == 1
    assert not {"b", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert text.count("data:image/jpeg") == 4 + 1  # each once, under the boxes of all; the sheet
    assert len([a for a in page.addresses if a.startswith("#even-")]) == 4 * 4
    assert page.tags.count("img") == 1  # the contact sheet
    assert TITLE in "".join(page.text) and html.escape(TITLE) in text
    assert any("onerror" in piece for piece in page.text)  # the failed run's error, as text


def test_the_page_has_its_required_sentences(built):
    text = Reader(built.read_text()).all
    for needed in (
        "has the highest AP",
        "is the fastest with",
        "Accuracy on n = 12 images",
        "percentile bootstrap over images, 1,000 resamples",
        "mean of 2",
        "score of at least 0.3",
        "failed in train after 1,920 images seen: NonFiniteLoss: step 120",
        "letterbox, size 160 x 160",
        "AMD EPYC 7B13",
        "8fbf5a2",
        "detzoo bench data='<b>'",
        "detzoo train detector=centernet seed=1",
        "pycocotools",
    ):
        assert needed in text, needed


def test_every_file_is_there_and_no_other(built):
    out = built.parent
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    figures = ("classes", "curves", "latency", "percentiles", "speed-accuracy")
    expected = [f"figures/{name}.{kind}" for name in figures for kind in ("png", "svg")]
    tables = [f"table.{kind}" for kind in ("csv", "md", "tex")]
    assert found == sorted([*expected, "index.html", "report.json", *tables])


def test_report_json_is_strict_and_says_the_same(built):
    def refuse(constant):
        raise ValueError(constant)

    facts = json.loads((built.parent / "report.json").read_text(), parse_constant=refuse)
    (only,) = facts["tables"]
    assert len(only["rows"]) == 4 * 3 and only["answer"][0] in "".join(
        Reader(built.read_text()).text
    )
    assert only["fingerprint"]["accuracy.resize"] == {"kind": "letterbox", "size": [160, 160]}
    assert [run["detector"] for run in facts["left_out"]] == ["CornerNet"]
    assert facts["title"] == TITLE and facts["differences"] == {}


def test_without_images_no_photograph_is_on_the_page(quick, tmp_path):
    runs = fabricated_runs.comparison(tmp_path)
    page = build(runs, tmp_path / "out", title="t", command="c", images=False)
    assert "data:image" not in page.read_text() and "were left out" in page.read_text()
    page = build(runs, tmp_path / "out", title="t", command="c")
    assert page.read_text().count("data:image/jpeg") == 4 + 1


def test_two_protocols_make_two_tables_and_say_why(tmp_path, monkeypatch):
    def draw(runs, frame, called, styles, suffix, details):
        return [Drawing(f"latency{suffix}", "Latency", "", "<svg/>", b"PNG", "<svg/>")]

    monkeypatch.setitem(build.__globals__, "draw", draw)
    data = fabricated_runs.dataset(tmp_path / "data", count=3)
    runs = [
        fabricated_runs.run(tmp_path / "runs", "A", data),
        fabricated_runs.run(tmp_path / "runs", "B", data, fingerprint={"precision": "bf16"}),
    ]
    page = build(runs, tmp_path / "out", title="t", command="c", images=False)
    text = Reader(page.read_text()).all
    assert "2 tables, not to be compared with one another" in text
    assert "precision fp32 bf16" in text and "Table 2 of 2" in text
    assert (tmp_path / "out" / "figures" / "latency-2.svg").is_file()
    assert "- precision: fp32 \\| bf16" in (tmp_path / "out" / "table.md").read_text()

    notes = tmp_path / "out" / "figures" / "notes.svg"
    notes.write_text("mine")
    build(runs[:1], tmp_path / "out", title="t", command="c", images=False)
    left = sorted(p.name for p in (tmp_path / "out" / "figures").glob("*.svg"))
    assert left == ["latency.svg", "notes.svg"]


def test_the_runs_commands_are_the_user_s_own(quick, tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=3)
    runs = [fabricated_runs.run(tmp_path / "runs", name, data) for name in "AB"]
    told = json.loads((runs[0] / "environment.json").read_text())
    told["command"] = "python -c 'from multiprocessing.spawn import spawn_main; spawn_main()'"
    (runs[0] / "environment.json").write_text(json.dumps(told))
    page = build(runs, tmp_path / "out", title="t", command="c", images=False, resamples=20)
    text = Reader(page.read_text()).all
    assert "spawn_main" not in text and "not recorded" in text
    assert text.count("detzoo train detector=b seed=0") == 2  # the list, and the run's row


def test_only_failed_runs_still_make_a_page(quick, tmp_path):
    error = "Traceback (most recent call last):\n  File a\nRuntimeError: <out> of memory"
    run = fabricated_runs.failed(tmp_path, error=error)
    page = build([run, tmp_path / "no"], tmp_path / "out", title="t", command="c").read_text()
    text = Reader(page).all
    assert "No run has an accuracy yet" in text
    assert "(most recent call last): … RuntimeError: <out> of memory whole error" in text
    assert "there is no such directory" in text


def test_a_page_that_would_be_too_large_gets_smaller_pictures(quick, tmp_path, monkeypatch):
    runs = fabricated_runs.comparison(tmp_path)
    page = build(runs, tmp_path / "out", title="t", command="c")
    size = page.stat().st_size
    monkeypatch.setitem(build.__globals__, "MOST_BYTES", 9 * size // 10)
    smaller = build(runs, tmp_path / "out", title="t", command="c")
    assert smaller.stat().st_size < 9 * size // 10 and "data:image/jpeg" in smaller.read_text()
    monkeypatch.setitem(build.__globals__, "MOST_BYTES", 100)
    assert "data:image" not in build(runs, tmp_path / "out", title="t", command="c").read_text()


def test_a_failure_leaves_the_old_page_whole(quick, tmp_path, monkeypatch):
    runs = fabricated_runs.comparison(tmp_path)
    page = build(runs, tmp_path / "out", title="first", command="c", images=False)
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        build(runs, tmp_path / "out", title="second", command="c", images=False)
    assert "<h1>first</h1>" in page.read_text()
    assert [p for p in (tmp_path / "out").rglob("*.tmp")] == []


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Runs whose predictions are what their AP is of, one of them with two seeds."""
    root = tmp_path_factory.mktemp("scored")
    *runs, failed = fabricated_runs.comparison(root)
    data = json.loads((runs[0] / "dataset.json").read_text())
    runs.append(fabricated_runs.run(root / "runs", "CenterNet", data, seed=1))
    return [*map(fabricated_runs.score, runs), failed]


def test_what_is_beyond_ap_is_on_the_page_and_in_the_facts(scored, tmp_path):
    out = tmp_path / "out"
    theirs = {"theirs": scored[0] / "predictions.json"}
    page = build(scored, out, title="t", command="c", results=theirs, resamples=60)
    text = Reader(page.read_text()).all
    for needed in (
        "are of the paired percentile bootstrap over images and seeds",
        "60 resamples, at 5% with Holm",
        "draws images and seeds together",
        "all 10 pairs",
        "D-ECE",
        "LaECE0",
        "oLRP",
        "Kinds of error",
        "Precision and recall",
        "F1 against the score threshold",
        "Does a score mean what it says?",
        "What is taken for what",
        "How long it may take",
        "Where they disagree most",
        "Most confident false alarms and worst misses",
        "false alarm: ",
        "missed: ",
        "external results",
        "theirs : threshold n/a: no predictions on val",
    ):
        assert needed in text, needed
    facts = json.loads((out / "report.json").read_text())["tables"][0]["analysis"]
    assert set(facts["detectors"]) == {*fabricated_runs.DETECTORS, "theirs"}
    point = facts["detectors"]["CenterNet"]["operating_points"]["best_f1"]
    deployed = text[text.index("If you deploy it") :]
    assert f"{point['threshold']:.3f}" in deployed and f"{point['test']['f1']:.3f}" in deployed
    assert len(facts["pairs"]) == 10 and facts["left_out"] == []
    detail = facts["detectors"]["CenterNet"]
    assert len(detail["f1"]) == 101 and set(detail["errors"]) >= {"missed", "false positive"}
    for name in ("errors", "precision-recall", "f1", "froc", "reliability", "confusion"):
        assert f"figures/{name}.svg" in json.loads((out / "report.json").read_text())["figures"]
    assert "theirs & external &" in (out / "table.tex").read_text()
    assert "| detector | seed | start | rank |" in (out / "table.md").read_text()


def test_the_maps_of_disputed_objects_are_linked_or_their_command_shown(scored, quick, tmp_path):
    out = tmp_path / "l'été"
    first = Reader(build(scored, out, title="t", command="c", resamples=20).read_text())
    folder = scored[0].parent
    assert f"detzoo explain {shlex.join([str(folder), f'out={out}/explained'])}" in first.all
    (out / "explained").mkdir()
    (out / "explained" / "index.html").write_text("maps")
    second = Reader(build(scored, out, title="t", command="c", resamples=20).read_text())
    assert "explained/index.html" in second.addresses and "detzoo explain" not in second.all


def test_without_photographs_the_figures_and_the_numbers_stay(scored, quick, tmp_path):
    page = build(scored, tmp_path / "out", title="t", command="c", images=False, resamples=20)
    text = page.read_text()
    assert "data:image" not in text and "Where they disagree" not in text
    assert "Beyond AP" in text and "were left out of this page" in text


def test_the_reason_for_missing_tests_is_shown(quick, tmp_path):
    runs = fabricated_runs.comparison(tmp_path)[:-1]
    for run in runs:
        (run / "dataset.json").unlink()
    page = build(runs, tmp_path / "out", title="t", command="c", images=False, resamples=20)
    assert "No paired test could be made (" in page.read_text()
    assert "the 95% intervals overlap" in page.read_text()


def test_files_of_different_scorings_are_noted_beside_the_table(quick, tmp_path):
    runs = fabricated_runs.comparison(tmp_path)[:-1]
    page = build(runs, tmp_path / "out", title="t", command="c", images=False, resamples=20)
    text = Reader(page.read_text()).all
    assert "left out of tests and details : CenterNet (seed 0): predictions.json comes to" in text


def test_a_short_name_stays_in_one_piece():
    assert breakable("faster_rcnn") == "faster_rcnn"
    assert breakable("torchvision/faster_rcnn") == "torchvision/<wbr>faster_<wbr>rcnn"
