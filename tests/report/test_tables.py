"""The numbers that reach the tables, and how they are printed."""

import io
import json
import math
import subprocess
import sys

import fabricated_runs
import pandas as pd
import pytest

from detzoo.report import table, text_table
from detzoo.report.tables import (
    COLUMNS,
    ORDER,
    contenders,
    csv,
    digits,
    escaped,
    limits,
    markdown,
    shown,
)

COLUMN = {column.key: column for column in COLUMNS}


@pytest.fixture
def make(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=2)
    return lambda label, **other: fabricated_runs.run(tmp_path / "runs", label, data, **other)


def test_a_row_holds_what_the_files_say(make):
    frame = table([make("A", ap=0.25, network=20.0, half=0.05)])
    row = frame.iloc[0]
    total = 20 + 0.9 + 1.1 + 0.02 + 1.4 + 0.1
    assert list(frame.columns) == list(ORDER)
    assert (row["AP"], row["AP_low"], row["AP_high"]) == (0.25, 0.2, 0.3)
    assert (row["AP50"], row["APl"], row["AR100"]) == (1.6 * 0.25, 1.4 * 0.25, 1.3 * 0.25)
    assert row["p50_ms"] == pytest.approx(total) and row["p99_ms"] == pytest.approx(1.5 * total)
    assert row["overhead"] == pytest.approx(total / 20)
    assert row["images_per_second"] == pytest.approx(1250 / total) and row["throughput_batch"] == 8
    assert (row["gmacs"], row["parameters"], row["peak_memory_mb"]) == (2.0, 10_000_000, 380.0)
    assert (row["train_seconds"], row["images_seen"], row["images"]) == (140.0, 4000, 2)
    assert (row["detector"], row["seed"], row["kind"], row["state"]) == ("A", "0", "run", "done")


@pytest.mark.parametrize("proposer", [{"kind": "grid"}, None])
def test_proposals_take_time_only_where_there_is_a_proposer(make, proposer):
    run = make("A")
    speed = json.loads((run / "speed.json").read_text())
    speed["stages"]["proposals"]["p50"] = 0.002
    (run / "speed.json").write_text(json.dumps(speed | {"proposer": proposer}))
    found = table([run]).iloc[0]["proposals_ms"]
    assert found == 0.002 if proposer else math.isnan(found)


def test_seeds_are_rows_below_their_mean(make):
    paths = [make("A", seed=s, ap=ap, half=0.02) for s, ap in ((0, 0.20), (1, 0.30), (2, 0.40))]
    frame = table([make("B", ap=0.25), *paths])
    assert list(frame["kind"]) == ["mean", "run", "run", "run", "run"]
    assert list(frame["detector"]) == ["A", "A", "A", "A", "B"]
    mean = frame.iloc[0]
    assert mean["AP"] == pytest.approx(0.3) and mean["AP_sd"] == pytest.approx(0.1)
    assert mean["AP_low"] == pytest.approx(0.18) and mean["AP_high"] == pytest.approx(0.42)
    assert (mean["seed"], mean["runs"]) == ("0, 1, 2", 3)
    assert list(contenders(frame)["kind"]) == ["mean", "run"]


def test_a_mean_is_no_number_if_a_seed_lacks_it(make):
    frame = table([make("A"), make("A", seed=1, speed=False)])
    mean = frame.iloc[0]
    assert math.isnan(mean["p50_ms"]) and math.isnan(mean["p50_ms_high"])
    assert mean["AP"] == pytest.approx(0.3)


def test_csv_keeps_every_digit(make):
    frame = table([make("A", ap=1 / 3, network=math.pi), make("B", speed=False)])
    back = pd.read_csv(io.StringIO(csv(frame)), engine="python")
    for column in ("AP", "AP_low", "p50_ms", "p50_ms_low", "images_per_second", "overhead"):
        pd.testing.assert_series_equal(back[column], frame[column], check_exact=True)
    assert back["parameters"].iloc[0] == 10_000_000 and "10000000," in csv(frame)
    assert ",n/a," in csv(frame)


def test_no_ranked_run_is_an_empty_table(tmp_path):
    frame = table([fabricated_runs.failed(tmp_path)])
    assert len(frame) == 0 and list(frame.columns) == list(ORDER)


def test_tables_of_two_protocols_are_numbered(make):
    frame = table([make("A"), make("B", fingerprint={"precision": "bf16"}), make("C")])
    assert list(frame["table"]) == [1, 1, 2] and frame["detector"].iloc[2] == "B"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("AP", 0.41249, "0.412"),
        ("AP", math.nan, "n/a"),
        ("AP", pd.NA, "n/a"),
        ("p50_ms", 17.52, "17.5"),
        ("p50_ms", 1234.5, "1,234"),
        ("parameters", 28_700_000, "28.7"),
        ("train_seconds", 90.0, "1.50"),
        ("images_seen", 64000, "64,000"),
    ],
)
def test_how_a_number_is_printed(key, value, text):
    assert shown(COLUMN[key], value) == text


def test_three_digits():
    values = (0.1234, 0.9996, 1, 9.994, 9.996, 12.34, 99.96, 123.4)
    expected = ["0.123", "1.000", "1.00", "9.99", "10.0", "12.3", "100", "123"]
    assert [digits(v) for v in values] == expected


def test_intervals_stand_beside_their_value():
    row = pd.Series({"AP_low": 0.1, "AP_high": 0.25, "p50_ms_low": math.nan, "p50_ms_high": 2.0})
    assert limits(COLUMN["AP"], row) == "[0.100, 0.250]"
    assert limits(COLUMN["p50_ms"], row) == limits(COLUMN["gmacs"], row) == ""


def test_names_cannot_break_markdown(make):
    lines = markdown(table([make("a|b <i>*c*_`\n")])).splitlines()
    assert lines[2].startswith(r"| a\|b &lt;i&gt;\*c\*\_\` | 0 | 0.300 [0.270, 0.330] |")
    assert escaped("[x](y)") == r"\[x\](y)"
    assert {line.replace(r"\|", "").count("|") for line in lines} == {len(COLUMNS) + 3}


def test_the_terminal_table_is_narrow_and_whole(make, tmp_path):
    long = "torchvision/faster_rcnn with a long name"
    paths = [make(long, seed=s, network=2400.0) for s in (0, 1, 2)]
    lines = text_table([*paths, make("B\x1b[31m", speed=False), fabricated_runs.failed(tmp_path)])
    assert "\x1b" not in lines and "n/a" in lines and "mean 3" in lines
    rows, left_out = lines.split("\n\n")
    assert max(map(len, rows.splitlines())) <= 112
    assert left_out.startswith("left out: CornerNet, seed 0 (cornernet-00000bad): failed in train")


def test_the_terminal_says_how_tables_differ(make):
    lines = text_table([make("A"), make("B", fingerprint={"images_seen": 8000})])
    assert "Table 2 of 2" in lines
    assert "the tables differ in images seen: 4,000 | 8,000" in lines


def test_the_report_imports_no_torch():
    code = "import sys, detzoo.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
