"""The numbers that reach the tables, and how they are printed."""

import io
import json
import math
import subprocess
import sys

import fabricated_runs
import pandas as pd
import pytest

from detzoo.report import speed_table, table, text_table
from detzoo.report.tables.leaderboard import (
    COLUMNS,
    ORDER,
    columns,
    contenders,
    csv,
    escape,
    format_digits,
    format_limits,
    format_number,
    markdown,
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
    assert row["overhead"] == pytest.approx((total - 0.9) / 20)
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
    assert format_number(COLUMN[key], value) == text


def test_three_digits():
    values = (0.1234, 0.9996, 1, 9.994, 9.996, 12.34, 99.96, 123.4)
    expected = ["0.123", "1.000", "1.00", "9.99", "10.0", "12.3", "100", "123"]
    assert [format_digits(v) for v in values] == expected


def test_intervals_stand_beside_their_value():
    row = pd.Series({"AP_low": 0.1, "AP_high": 0.25, "p50_ms_low": math.nan, "p50_ms_high": 2.0})
    assert format_limits(COLUMN["AP"], row) == "[0.100, 0.250]"
    assert format_limits(COLUMN["p50_ms"], row) == format_limits(COLUMN["gmacs"], row) == ""


def test_names_cannot_break_markdown(make):
    frame = table([make("a|b <i>*c*_`\n")])
    lines = markdown(frame).splitlines()
    assert lines[2].startswith(r"| a\|b &lt;i&gt;\*c\*\_\` | 0 | scratch | 0.300 [0.270, 0.330] |")
    assert escape("[x](y)") == r"\[x\](y)"
    assert {line.replace(r"\|", "").count("|") for line in lines} == {len(columns(frame)) + 4}


def test_the_terminal_table_is_narrow_and_whole(make, tmp_path):
    long = "torchvision/faster_rcnn with a long name"
    paths = [make(long, seed=s, network=2400.0) for s in (0, 1, 2)]
    lines = text_table([*paths, make("B\x1b[31m", speed=False), fabricated_runs.failed(tmp_path)])
    assert "\x1b" not in lines and "n/a" in lines and "(3 seeds)" in lines
    rows, left_out = lines.split("\n\n")
    assert max(map(len, rows.splitlines())) <= 80
    assert left_out.startswith("left out: CornerNet, seed 0 (cornernet-00000bad): failed in train")


def test_the_terminal_says_how_tables_differ(make):
    lines = text_table([make("A"), make("B", fingerprint={"images_seen": 8000})])
    assert "Table 2 of 2" in lines
    assert "the tables differ in images seen: 4,000 | 8,000" in lines


def test_the_report_imports_no_torch():
    code = "import sys, detzoo.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def rewrite(run, **changes):
    """speed.json with other values; a dict goes into the one that is there."""
    speed = json.loads((run / "speed.json").read_text())
    for key, value in changes.items():
        speed[key] = speed.get(key, {}) | value if isinstance(value, dict) else value
    (run / "speed.json").write_text(json.dumps(speed))


def test_the_speed_table_has_every_number_and_its_reference(make):
    slow, fast = make("Slow", network=40.0), make("Fast", network=10.0)
    against = {"reference": slow.name, "ratio": 0.31, "interval": [0.3, 0.32], "n": 12}
    rewrite(fast, against=against, gmacs_sd=0.25, inner={"backbone": 7.0, "rest": 1.0})
    rewrite(fast, energy={"joules_per_image": 0.5}, session="s")
    rewrite(slow, session="s", against={"reference": slow.name})
    lines = speed_table([slow, fast]).splitlines()
    assert lines[0].split()[:5] == ["detector", "AP", "p50", "ms", "p90"]
    row = lines[1]  # the fastest is first
    for part in ("Fast", "0.300", "13.5 [13.2, 13.9]", "0.310 [0.300, 0.320]", "2.00 ±0.250"):
        assert part in row
    assert f"{(13.52 - 0.9) / 10:.2f}" in row.split()  # overhead
    assert lines[3].startswith(
        "times: against Slow, over paired passes; overhead: (end to end - JPEG"
    )
    heads, values = lines[5], lines[6].split()
    assert "of it backbone" in heads and heads.split()[-1] == "J/image"
    assert values[0] == "Fast" and values[-1] == "0.500" and lines[7].split()[-1] == "n/a"
    assert "proposals" not in heads
    assert "timed precision fp32" in lines[9] and "9ac09ac09ac0" in lines[9]


def test_clocks_and_versions_are_shown(make):
    run = make("A")
    clocks = {"before": {"cpu_mhz": 2500.0, "gpu_mhz": None}, "after": {"cpu_mhz": 2100.0}}
    rewrite(run, clocks=clocks | {"throttles": ["power cap"]}, versions={"torch": "2.14"})
    rewrite(run, warmup={"seconds": 3.25, "passes": 12})
    told = "cpu mhz 2,500 before, 2,100 after; held back by power cap; warm-up took 3.25 s"
    assert f"A: {told}, 12 passes; torch 2.14" in speed_table([run])


def test_a_row_says_what_was_folded_and_what_scoring_noted(make):
    run = make("A")
    rewrite(run, folding={"norms": 20, "folded": 18}, warnings=["2 of 20 batch norms are not"])
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["notes"] = ["2 of 20 batch norms are not", "few"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert "18 of 20 batch norms folded" in speed_table([run])
    for text in (speed_table([run]), text_table([run])):
        assert text.count("2 of 20 batch norms are not") == 1 and ": few" in text


def test_a_bare_model_has_milliseconds_and_no_accuracy(make):
    run = make("Bare")
    (run / "metrics.json").unlink()
    rewrite(run, warnings=["random weights, never trained"])
    lines = speed_table([run, make("Trained")])
    assert [line.split()[1] for line in lines.splitlines()[1:3]] == ["n/a", "0.300"]
    assert "note: Bare: random weights, never trained" in lines
    assert "left out" in speed_table([make("Untimed", speed=False)])


def test_timings_that_differ_share_no_speed_table_and_say_in_what(make):
    here, there = make("A"), make("B")
    rewrite(there, fingerprint={"threads": 4})
    lines = speed_table([here, there])
    assert "Table 2 of 2" in lines and "the tables differ in threads: 2 | 4" in lines


def test_sessions_do_not_interleave(make):
    a, b = make("A"), make("B")
    rewrite(a, session="one")
    rewrite(b, session="two")
    assert "timed in different sessions" in speed_table([a, b])


@pytest.mark.parametrize(
    ("field", "scored", "timed"),
    [("weights_hash", "aa", "bb"), ("precision", "fp32", "bf16"), ("compile", False, True)],
)
def test_milliseconds_of_another_object_are_left_out_with_a_note(make, field, scored, timed):
    run = make("A", fingerprint={field: scored})
    rewrite(run, fingerprint={field: timed})
    frame = table([run])
    assert frame["AP"].iloc[0] == 0.3 and math.isnan(frame["p50_ms"].iloc[0])
    said = f"differ in {field.replace('_', ' ')} {scored} and {timed}"
    assert said in text_table([run])
    rewrite(run, fingerprint={field: scored})
    assert table([run])["p50_ms"].iloc[0] > 0 and "left out" not in text_table([run])


def test_a_busy_neighbour_is_in_every_table(make):
    run = make("A")
    busy = "other processes used 34% of the processors while timing ran"
    rewrite(run, warnings=[busy])
    assert f"note: A (seed 0): {busy}" in text_table([run])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"n": 9}, "latency n/a: 9 timed passes, and fewer than 10 say nothing; speed.seconds=120"),
        ({"other_load": 0.34}, "latency n/a: other processes used 34% of the processors"),
    ],
)
def test_a_meaningless_latency_is_n_a(make, changes, why):
    run = make("A")
    rewrite(run, **changes)
    row = table([run]).iloc[0]
    assert math.isnan(row["p50_ms"]) and math.isnan(row["images_per_second"])
    assert (row["AP"], row["gmacs"], row["parameters"]) == (0.3, 2.0, 10_000_000)
    for text in (text_table([run]), speed_table([run])):
        assert why in text and "n/a" in text
    rewrite(run, n=10, other_load=0.2)
    assert table([run])["p50_ms"].iloc[0] > 0


def test_a_note_that_holds_for_all_rows_names_none(make):
    runs = [make(name) for name in "ABC"]
    for number, run in enumerate(runs):
        rewrite(run, warnings=["few passes"] + ["loud"] * (number < 2))
    text = text_table(runs)
    assert "note: all rows: few passes" in text
    assert "note: A (seed 0), B (seed 0): loud" in text
