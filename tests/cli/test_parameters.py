"""What --help says of the parameters of what is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from detzoo.cli import main
from detzoo.cli.parameters import as_setting, first_sentence, help_text, parameters_of
from detzoo.config import TARGETS, find_class


class Base:
    """A base.

    mean: of the pixels.
    """

    def __init__(self, *, mean: float = 0.5, num_classes: int) -> None:
        self.mean = mean


class Thing(Base):
    """A thing. It has more to it.

    size, side: in pixels; whatever is larger is cut. kind (of the norm), other: `a` or `b`.
    Raises ValueError: never.
    """

    def __init__(
        self,
        size: int,
        side: int | None = None,
        kind: str = "a",  # section 2.1
        other: bool = False,
        **base: object,
    ) -> None:
        super().__init__(**base)
        if side:  # no comment of a parameter
            self.size = size


def test_parameters_are_those_of_signature_and_docstring() -> None:
    found = {p.name: p for p in parameters_of(Thing)}
    assert list(found) == ["size", "side", "kind", "other", "mean"]
    assert found["size"].text == found["side"].text == "in pixels"
    assert found["kind"].text == "`a` or `b`, section 2.1"
    assert (found["side"].type, found["side"].default) == ("int | None", None)
    assert (found["mean"].text, found["mean"].default) == ("of the pixels", 0.5)
    assert first_sentence(Thing) == "A thing."


@pytest.mark.parametrize("target", [t for part in TARGETS.values() for t in part])
def test_every_class_of_a_configuration_can_be_described(target: str) -> None:
    try:
        kind = find_class(target)
    except ImportError:
        pytest.skip("an extra is not installed")
    assert first_sentence(kind).endswith(".")
    for parameter in parameters_of(kind):
        assert parameter.name.isidentifier() and "\n" not in parameter.text


def test_values_are_those_of_the_choice() -> None:
    text = help_text("train", ["detector=ssd", "augment=ssd", "recipe=paper/ssd"])
    assert "detector=ssd builds SSD: " in text and "recipe=paper/ssd builds Recipe: " in text
    assert "  detector.negatives=3.0  (float)  for each positive, section 2.2" in text
    assert "  detector.maps=6  (int)  how many in all" in text
    assert "augment.steps has ZoomOutAndCrop: " in text
    assert "  backbone.pretrained=true  (bool)" in text and "detector.backbone" not in text
    assert max(map(len, text.splitlines())) < 140


def test_help_ends_with_them_and_refuses_what_there_is_not(capsys) -> None:
    assert main(["train", "detector=ssd", "--help"]) == 0
    assert "detector.l2_scale=20.0" in capsys.readouterr().out
    assert main(["train", "detector=sdd", "--help"]) == 1
    assert "did you mean ssd?" in capsys.readouterr().err
    assert main(["report", "--help"]) == 0
    assert "builds" not in capsys.readouterr().out


def test_bench_refers_to_train_for_a_detector() -> None:
    text = help_text("bench")
    assert "detzoo train detector=NAME --help" in text and "detector.backbone" not in text


def test_a_setting_is_written_as_it_is_given() -> None:
    assert as_setting([1, None, (True, 0.5)]) == "[1,null,[true,0.5]]"
    assert as_setting(Path("a")) == "a"
