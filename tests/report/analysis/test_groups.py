from pathlib import Path

from detzoo.report.analysis.groups import describe_groups
from detzoo.report.load.runs import Run


def run(**groups):
    return Run(Path("x"), metrics={"groups": groups} if groups else {})


def test_by_how_much_groups_widen_is_the_mean_over_the_runs():
    runs = [run(number=23, images=127, widening=w) for w in (1.6, 2.0)]
    assert describe_groups([run(), *runs]) == (
        "Images come in groups, which are drawn whole: 23 of them hold the 127 test images with "
        "boxes, and intervals by groups are 1.8 times as wide as by images."
    )
    assert describe_groups([run()]) == "" == describe_groups([run(number="many", images=None)])


def test_fewer_than_six_groups_are_said():
    found = describe_groups([run(number=5, images=40, widening=None)])
    assert found.endswith("boxes. Fewer than 6 groups tell nothing apart.")
    assert "wide" not in found
