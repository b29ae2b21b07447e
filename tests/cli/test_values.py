"""Values after `setting=`: converted by the setting's kind, not by their form."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from detzoo.cli.values import (
    Kind,
    interpolations,
    kind_like,
    kind_of,
    quote,
    read_value,
    split_list,
)

TEXT, PATH, COUNT = Kind("text"), Kind("path"), Kind("count")
NAMES = [
    *("2024_01_05", "1e3", "true", "010", "null", "0x1F", "1:30", "nan", "-1", "1_000", "inf"),
    *("é", "写真", "a b", "a[1]", "[a]", "a=b", "a,b", "it's", 'a"b', "~x", "a$b", "$HOME", "{a}"),
    *(
        "a#b",
        "a!b",
        "a{b",
        "a(b)",
        "a:b",
        "a;b",
        "a&b",
        "a%b",
        "a*b",
        "a\\b",
        "a\\",
        "a'b\\",
        "\\'",
    ),
    *("${a}", "a${b}c", "a\\${b}", "${", "a|b", "a^b", "`a`", "<a>", "?", "@", "+a", "...", "'"),
]


def taken(name: str, text: str, kind: Kind, known: tuple[str, ...] = ()) -> object:
    """The value as the program gets it: through Hydra's grammar and OmegaConf."""
    line = f"a={read_value(name, text, kind, known.__contains__)}"
    value = OverridesParser.create().parse_override(line).value()
    return OmegaConf.to_container(OmegaConf.create({"a": value, "b": "B"}), resolve=True)["a"]


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_text_whatever_it_looks_like(text: str) -> None:
    assert taken("name", text, TEXT) == text


@pytest.mark.parametrize("name", [n for n in NAMES if "/" not in n])
@pytest.mark.parametrize("inside", [False, True])
def test_a_path_holds_every_character(name: str, inside: bool, tmp_path: Path) -> None:
    path = tmp_path / name / "x" if inside else tmp_path / name
    path.mkdir(parents=True)
    assert taken("data.root", str(path), PATH) == str(path)
    many = Kind("path", many=True)
    assert taken("runs", str(path), many) == [str(path)]
    assert taken("runs", f"[{path}]", many) == [str(path)]
    assert taken("runs", f"[{quote(str(path))},b]", many) == [str(path), "b"]
    if "'" not in name and '"' not in name:
        assert taken("runs", f"[b,{path}]", many) == ["b", str(path)]


def test_home_is_expanded_in_a_path_and_not_in_a_name(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert taken("data.root", "~/x", PATH) == f"{tmp_path}/x"
    assert taken("runs", "[~/x,y]", Kind("path", many=True)) == [f"{tmp_path}/x", "y"]
    assert taken("name", "~/x", TEXT) == "~/x"
    monkeypatch.chdir(tmp_path)
    Path("~x").mkdir()
    assert taken("data.root", "~x", PATH) == "~x"


def test_what_was_quoted_for_hydra_is_read_as_before() -> None:
    assert taken("name", "'a b'", TEXT) == "a b"
    assert taken("name", '"it\'s"', TEXT) == "it's"
    assert taken("name", r"'it\'s'", TEXT) == "it's"
    assert taken("data.root", r"/a\,b\=c\ d", PATH) == "/a,b=c d"


def test_an_interpolation_that_can_be_resolved_is_one(tmp_path: Path, monkeypatch) -> None:
    assert taken("name", "x-${b}", TEXT, ("b",)) == "x-B"
    assert taken("out", "x/${b}", PATH, ("b",)) == "x/B"
    assert taken("name", "x-${b}", TEXT) == "x-${b}"
    monkeypatch.chdir(tmp_path)
    Path("x-${b}").mkdir()
    assert taken("data.root", "x-${b}", PATH, ("b",)) == "x-${b}"
    assert list(interpolations("a${b${c}}d${e}${")) == ["b${c}", "e", ""]


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e4", 20000), ("4.0", 4), ("010", 10), ("1_000", 1000), ("9007199254740993", 2**53 + 1)],
)
def test_a_whole_number_is_a_count(text: str, value: int) -> None:
    found = taken("recipe.images_seen", text, COUNT)
    assert found == value and isinstance(found, int)
    assert taken("counts", text, Kind("count", many=True)) == [value]


@pytest.mark.parametrize(
    ("name", "text", "kind", "said"),
    [
        ("recipe.images_seen", "2.5", COUNT, "recipe.images_seen is '2.5'; it must be a whole num"),
        ("recipe.images_seen", "abc", COUNT, "recipe.images_seen is 'abc'; it must be a whole num"),
        ("recipe.images_seen", "-1", COUNT, "recipe.images_seen is -1; it must be above 0"),
        ("batch_size", "0", COUNT, "batch_size is 0; it must be above 0"),
        ("runtime.workers", "-1", COUNT, "runtime.workers is -1; it must be 0 or more"),
        ("seed", "true", COUNT, "seed is 'true'; it must be a whole number"),
        ("seed", "", COUNT, "seed is ''; it must be a whole number"),
        ("lr", "abc", Kind("number"), "lr is 'abc'; it must be a number"),
        ("lr", "nan", Kind("number"), "lr is 'nan'; it must be a number"),
        ("lr", "-1", Kind("number"), "lr is -1; it must be above 0"),
        ("compile", "2", Kind("flag"), "compile is '2'; it must be true or false"),
        ("seeds", "[0,x]", Kind("count", many=True), "seeds is 'x'; it must be a whole number"),
        ("name", "", TEXT, "name is empty"),
        ("data.root", " ", PATH, "data.root is empty"),
        ("data.splits", "a", Kind("mapping"), "data.splits is 'a'; it takes several"),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence(name, text, kind, said) -> None:
    with pytest.raises(ValueError, match="^" + said.replace(".", r"\.")):
        read_value(name, text, kind, lambda inner: False)


def test_one_value_is_a_list_of_one() -> None:
    texts = Kind("text", many=True)
    assert taken("data.classes", "cat", texts) == ["cat"]
    assert taken("data.classes", "cat,dog", texts) == ["cat", "dog"]
    assert taken("data.classes", "[yes,no,1,'a, b',c d]", texts) == [
        "yes",
        "no",
        "1",
        "a, b",
        "c d",
    ]
    assert taken("data.classes", "[]", texts) == []
    assert taken("seeds", "0", Kind("count", many=True)) == [0]
    assert taken("size", "320", Kind("count", many=True, one=True)) == 320
    assert taken("size", "[320,4.8e2]", Kind("count", many=True, one=True)) == [320, 480]
    assert taken("milestones", "0.5", Kind("number", many=True)) == [0.5]


def test_null_is_nothing_where_nothing_is_a_value() -> None:
    assert taken("out", "null", Kind("path", none=True)) is None
    assert taken("rounds", "null", Kind("count", none=True)) is None
    assert taken("out", "'null'", Kind("path", none=True)) == "null"


def test_flags_are_words() -> None:
    for text, value in (("true", True), ("No", False), ("1", True), ("off", False)):
        assert taken("compile", text, Kind("flag")) is value


@pytest.mark.parametrize(
    ("annotation", "name", "kind"),
    [
        ("int", "n", COUNT),
        ("str | Path", "root", PATH),
        ("str | None", "weights", Kind("path", none=True)),
        ("str | None", "name", Kind("text", none=True)),
        ("Sequence[str] | None", "classes", Kind("text", many=True, none=True)),
        ("int | Sequence[int]", "size", Kind("count", many=True, one=True)),
        ("Mapping[str, float] | None", "holdout", Kind("mapping", none=True, mapping=True)),
        ("str | Mapping[str, str] | None", "images", Kind("text", none=True, mapping=True)),
        ("Sequence[Sequence[float]] | None", "anchors", Kind(none=True)),
        ("Backbone | Hourglass", "backbone", Kind()),
    ],
)
def test_the_kind_of_an_annotation(annotation: str, name: str, kind: Kind) -> None:
    assert kind_of(annotation, name) == kind


def test_the_kind_of_a_default() -> None:
    assert kind_like(True, "images") == Kind("flag")
    assert kind_like([], "images") == Kind("path", many=True)
    assert kind_like([0], "seeds") == Kind("count", many=True)
    assert kind_like([[1, 2]], "anchors") == Kind()
    assert kind_like(0.1, "lr") == Kind("number") and kind_like(None, "x") == Kind()


def test_lists_are_apart_at_commas_that_are_not_quoted_or_nested() -> None:
    assert split_list("a,'b,c',[d,e], f ") == ["a", "'b,c'", "[d,e]", "f"]
    assert split_list("it's,so") == ["it's", "so"] and split_list("") == []
    assert split_list("'open,a") == ["'open", "a"] and split_list("a[,b") == ["a[", "b"]
