"""The page as a reader has it: in headless Chromium, wide and narrow, light and dark."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fabricated_runs
import pytest

from detzoo.report import build

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]
TITLE = f"Shapes {fabricated_runs.EVIL}"
EVIL = f"A {fabricated_runs.EVIL}"
VIEWS = [(w, scheme) for w in (1280, 390) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four detectors, one of an evil name, external results and a failed run."""
    root = tmp_path_factory.mktemp("page")
    *runs, failed = fabricated_runs.comparison(root)
    data = json.loads((runs[0] / "dataset.json").read_text())
    runs = [*runs[:3], fabricated_runs.run(root / "runs", EVIL, data)]
    for run in runs:
        fabricated_runs.score(run)
    theirs = {f"theirs {fabricated_runs.EVIL}": runs[0] / "predictions.json"}
    return build(
        [*runs, failed], root / "out", title=TITLE, command="c", results=theirs, resamples=60
    )


@pytest.fixture(scope="module")
def chromium():
    from selenium import webdriver  # of the dev extra; only where there is a Chromium to drive

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "no-first-run"):
        options.add_argument(f"--{flag}")
    options.add_argument("--disable-background-networking")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(params=VIEWS, ids=lambda view: f"{view[0]}-{view[1]}")
def shown(request: pytest.FixtureRequest, chromium, page: Path):
    """The page, opened from the disk in one of VIEWS."""
    width, scheme = request.param
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 640}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    for kind in ("browser", "performance"):
        chromium.get_log(kind)  # what was before
    chromium.get(page.as_uri())
    chromium.width, chromium.dark = request.param[0], request.param[1] == "dark"
    return chromium


def test_a_heading_sorts_the_table_both_ways_and_n_a_stays_below(shown):
    heads = shown.find_elements("css selector", ".board thead button")
    place = [head.text for head in heads].index("p50 ms")

    def column():
        rows = shown.find_elements("css selector", ".board:not(.beyond) tbody tr")
        texts = [row.find_elements("css selector", "th, td")[place] for row in rows]
        return [text.get_attribute("data-value") for text in texts]

    shown.execute_script("arguments[0].click()", heads[place])
    first = column()
    shown.execute_script("arguments[0].click()", heads[place])
    second = column()
    assert first[-1] == second[-1] == ""  # external results were not timed
    rising, falling = ([float(v) for v in of[:-1]] for of in (first, second))
    assert len(rising) == 4 and rising == sorted(rising) == falling[::-1] and len(set(rising)) == 4


def test_an_image_opens_and_closes(shown):
    dialog = shown.find_element("css selector", "dialog")
    tile = shown.find_elements("css selector", ".strip:has([id^=even]) .zoom")[1]
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", tile)
    assert not dialog.is_displayed()
    tile.click()
    assert dialog.is_displayed() and dialog.find_element("css selector", "p").text
    images = dialog.find_elements("css selector", "figure svg:not(.dot)")
    assert len(images) == 1 + 5  # all detectors, also the one that the page itself leaves out
    assert all(100 < image.size["width"] <= shown.width for image in images)
    dialog.click()
    assert not dialog.is_displayed()


def test_the_page_makes_no_requests_and_has_no_errors(shown, page: Path):
    assert [entry for entry in shown.get_log("browser") if entry["level"] != "INFO"] == []
    events = [json.loads(e["message"])["message"] for e in shown.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert page.as_uri() in asked
    assert [url for url in asked if url != page.as_uri() and not url.startswith("data:")] == []


def test_names_with_html_in_them_are_shown_and_not_run(shown):
    assert shown.title == TITLE  # an executed name would have set it to "run"
    assert shown.find_element("css selector", "h1").text == " ".join(TITLE.split())
    text = shown.find_element("css selector", "body").text
    for name in (EVIL, f"theirs {fabricated_runs.EVIL}"):
        assert name in text.replace("\n", " ")
    assert "<b>&.jpg" in text  # the images' file names
    assert shown.find_elements("css selector", "img[onerror], main b") == []


ROBOFLOW = (
    "Hard-Hat-Workers-v14i-raw-and-augmented-416x416_worker_without_helmet_or_reflective_vest",
    "n02099601_golden_retriever.rf.5b7c0d1e2f3a4b5c6d7e8f90a1b2c3d4",
    "自転車に乗っている人と歩行者と信号機と道路標識と横断歩道と自転車に乗っている人",
)
WHOLE_WORDS = r"""
const broken = [];
for (const cell of document.querySelectorAll(".list tbody th, .facts dt, .board small, thead th")) {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) for (const word of walker.currentNode.data.matchAll(/\S+/g)) {
    if (word[0].length > 20) continue;
    const range = document.createRange();
    range.setStart(walker.currentNode, word.index);
    range.setEnd(walker.currentNode, word.index + word[0].length);
    const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
    if (lines.size > 1) broken.push(word[0]);
  }
}
return broken;
"""


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names as they are in the field: of data sets, classes, detectors and files."""
    root = tmp_path_factory.mktemp("long")
    data = fabricated_runs.dataset(root / ROBOFLOW[0], classes=(*ROBOFLOW, "x"))
    runs = [
        fabricated_runs.run(
            root / "runs", f"{name} {label}", data | {"name": ROBOFLOW[0]}, seed=seed
        )
        for name, label in zip(ROBOFLOW, ("ssd", "yolo", "centernet"), strict=True)
        for seed in (0, 1)
    ]
    for run in runs:
        fabricated_runs.score(run)
    failed = fabricated_runs.failed(root / "runs", ROBOFLOW[1])
    return build([*runs, failed], root / "out", title=ROBOFLOW[0], command=ROBOFLOW[0] * 3)


@pytest.mark.parametrize("width", [1280, 390])
def test_long_names_make_no_page_wider_and_break_no_key(chromium, long_page, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 640}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.get(long_page.as_uri())
    for everything in (False, True):
        if everything:
            chromium.execute_script(
                "for (const d of document.querySelectorAll('details')) d.open = true;"
                "for (const c of document.querySelectorAll('[type=checkbox]')) c.checked = true;"
            )
        assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
        assert chromium.execute_script(WHOLE_WORDS) == []


def test_the_answers_are_on_the_first_screen_and_a_half(chromium, page: Path):
    """Which, how sure, how fast, at which threshold, how many false alarms, which classes fail, is
    training done, what data, what machine, how to repeat it."""
    size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.get(page.as_uri())
    seen = chromium.execute_script(
        "return [...document.querySelectorAll('.answer, .facts dt, .facts dd')].filter("
        "  (e) => e.getBoundingClientRect().width && e.getBoundingClientRect().bottom < 1200"
        ").map((e) => e.textContent).join(' ')"
    )
    for words in (
        *("told apart from", "ms an image", "Deploy", "precision", "false alarms an image"),
        *("is worst at", "curve", "test 12 images", "AMD EPYC 7B13, 2 threads", "the command"),
    ):
        assert words in seen, words


def test_it_fits_the_screen_and_has_the_reader_s_colours(shown):
    """Nothing but the boxes that scroll by themselves is wider than the screen."""
    assert shown.execute_script("return document.documentElement.scrollWidth") <= shown.width
    paper = shown.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(20, 24, 29)") == shown.dark
    shown.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    figures = shown.find_elements("css selector", ".figures figure")
    drawn = [f for f in figures if f.find_element("css selector", "svg").is_displayed()]
    assert len(drawn) == len(figures) == 11
    assert shown.execute_script("return document.documentElement.scrollWidth") <= shown.width
    cut = shown.execute_script(
        "return [...document.querySelectorAll('.figures svg')].filter((svg) => {"
        "  const box = svg.getBoundingClientRect();"
        "  return box.width && box.right > document.documentElement.clientWidth + 1;"
        "}).length"
    )
    assert cut == 0
