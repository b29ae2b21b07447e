"""LaTeX that compiles with any name."""

from __future__ import annotations

import re

import fabricated_runs
import pytest

from detzoo.report import table
from detzoo.report.tables.latex import escape, latex


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 100% #1 $x$ {y}", r"a\_b \& 100\% \#1 \$x\$ \{y\}"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("~^<b>|", r"\textasciitilde{}\textasciicircum{}$<$b$>$$|$"),
        ("[1] *", "{[}1] {*}"),
        ("two\nlines\x1b", r"two lines\textbackslash{}x1b"),
    ],
)
def test_names_are_printed_as_they_are(text, expected):
    assert escape(text) == expected


def test_a_table_is_two_whole_tabulars(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=2)
    runs = [
        fabricated_runs.run(tmp_path / "runs", name, data, ap=ap)
        for name, ap in (("A_1", 0.25), ("[B] & C", 0.2))
    ]
    frame = table(runs).assign(rank=[1, 1], rank_worst=[2, 2])
    text = latex([frame])
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 6
    accuracies, costs = rows[:3], rows[3:]
    for part in (accuracies, costs):
        columns = {len(re.findall(r"(?<!\\)&", row)) for row in part}
        assert len(columns) == 1
    assert accuracies[0].startswith("detector & seed & start & rank & AP & AP50 & AP75 & APs")
    assert accuracies[1].startswith(
        r"A\_1 & 0 & scratch & 1--2 & 0.250 {\scriptsize {[}0.220, 0.280]} & 0.400 "
    )
    assert accuracies[2].startswith(r"{[}B] \& C & 0 & scratch & 1--2 & 0.200")
    assert costs[0].startswith("detector & seed & start & p50 ms & p90 ms")
    assert r"\usepackage" not in text
