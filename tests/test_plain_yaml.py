"""YAML as plain values: what is read, what is refused, and that neither hangs nor recurses."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import yaml

from detzoo import plain_yaml
from detzoo.plain_yaml import YamlError, parse_yaml, read_yaml


@pytest.fixture(params=["C", "Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """libyaml is not everywhere; PyYAML's own parser has to give the same."""
    if request.param == "Python":
        monkeypatch.setattr(plain_yaml, "_Loader", yaml.SafeLoader)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("3", 3),
        ("[]", []),
        ("a: {}", {"a": {}}),
        ("a: 1\nb: [1.5, -2, +3, .5, 1., 1.0e-05]", {"a": 1, "b": [1.5, -2, 3, 0.5, 1, 1e-5]}),
        ("[true, True, TRUE, false]", [True, True, True, False]),
        ("[null, ~, Null, '', 'null', \"~\"]", [None, None, None, "", "null", "~"]),
        ("[yes, no, on, off, y, n, Yes, OFF]", ["yes", "no", "on", "off", "y", "n", "Yes", "OFF"]),
        ("[2024-01-05, 2024_01_05, 010, 1e3, 1:30, 0x1F, =, 12e03]",
         ["2024-01-05", "2024_01_05", "010", "1e3", "1:30", "0x1F", "=", "12e03"]),
        ("names:\n  0: cat\n  1: no\n", {"names": {0: "cat", 1: "no"}}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ("a: &x [1, {b: 2}]\nc: *x\n", {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}),
        ("&k a: 1\nb: *k\n", {"a": 1, "b": "a"}),
        ("- &a x\n- &a y\n- *a\n", ["x", "y", "y"]),
    ],
)  # fmt: skip
def test_plain_values(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert found == value and repr(found) == repr(value).replace("1, 1e-05", "1.0, 1e-05")


def test_infinity_and_not_a_number() -> None:
    assert parse_yaml("[.inf, -.inf]") == [math.inf, -math.inf]
    assert math.isnan(parse_yaml(".nan"))


def test_every_word_is_text_where_that_is_asked_for() -> None:
    text = "nc: 4\nnames: [true, 010, ~, 1e3]\nmore: {0: null, 1: }"
    told = {"nc": "4", "names": ["true", "010", "~", "1e3"], "more": {"0": "null", "1": ""}}
    assert parse_yaml(text, as_text=True) == told


@pytest.mark.parametrize(
    "word",
    [
        *("yes", "no", "on", "off", "true", "null", "~", "", "010", "0o10", "1e3", "1.5e3"),
        *("1.5e+3", "1_000", "0x1F", "0b1", "1:30", "2024-01-05", "2024-01-05 10:00:00", "=", "<<"),
        *(".inf", ".nan", "nan", "inf", "1.", "-", "é", "写真", "a: b", "#a", "*a", "&a", "!a"),
        *("%a", "@a", "a\nb", "\x1b[0m", "\x00", "${a}", "'", '"', " a ", "1_0.5", "+1", "-.5"),
        "1.e+4",
    ],
)  # fmt: skip
def test_what_pyyaml_writes_comes_back_as_it_was(word: str) -> None:
    value = {"a": word, "b": [word], "1": 1, "c": [1e-5, 1e16, 1.5, 10**20, -3, True, None]}
    for wide in (True, False):
        assert parse_yaml(yaml.safe_dump(value, allow_unicode=wide)) == value


def test_aliases_of_pyyaml_come_back_as_copies() -> None:
    shared = {"size": [1, 2]}
    found = parse_yaml(yaml.safe_dump({"a": shared, "b": shared}))
    assert found == {"a": shared, "b": shared}
    assert found["a"] is not found["b"] and found["a"]["size"] is not found["b"]["size"]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MAPS = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}\n" for i in range(1, 12)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 80))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!omap [b: 1]", "line 1: the tag !!omap is not read"),
        ("a: !!pairs [b: 1]", "the tag !!pairs"),
        ("a:\n  !!set {b}", "line 2: the tag !!set"),
        ("a: !!binary aGk=", "the tag !!binary"),
        ("a: !!timestamp 2024-01-05", "the tag !!timestamp"),
        ("a: !!str 1", "the tag !!str"),
        ("a: ! 1", "the tag !"),
        ("a: !mine {b: 1}", "the tag !mine"),
        ("a: !!python/object/apply:os.system [true]", "the tag !!python/object"),
        ("!!python/name:os.system", "the tag !!python/name"),
        ("a: &x [*x]", "line 1: *x stands inside of itself"),
        ("&x {a: {b: *x}}", "*x stands inside of itself"),
        ("a: *nothing", "there is no &nothing|undefined alias"),
        ("a: &x [1]\nb: &x [*x]", "stands inside of itself"),
        (BOMB, "more than 1,000,000 values"),
        (MAPS, "more than 1,000,000 values"),
        (MERGES, "merge keys"),
        (CHAIN, "nested deeper than 50"),
        ("[" * 100_000, "nested deeper than 50"),
        ("{a: " * 100_000, "nested deeper than 50"),
        ("- " * 100_000, "nested deeper than 50"),
        ("".join(" " * i + "a:\n" for i in range(60)), "nested deeper than 50"),
        ("? [a]\n: b", "a list or map as a key"),
        ("? {a: 1}\n: b", "a list or map as a key"),
        ("a: &x [1]\n*x : b", "a list or map as a key"),
        ("a: 1\nb: 2\na: 3", "line 3: a is given a second time; it stands at line 1"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: [", "line"),
        ("a: 1\n b: 2", "line 2"),
        ("a: \x01", "special characters are not allowed|control characters are not allowed"),
        ("%TAG ! tag:evil,2002:\n---\na: !x 1", "the tag"),
        ("\t- a: b\n\t c", "line 1"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_refused_at_once(text: str, said: str) -> None:
    start = time.perf_counter()
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    assert any(part in str(caught.value) for part in said.split("|")), caught.value
    assert time.perf_counter() - start < 10


def test_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    with pytest.raises(FileNotFoundError):
        read_yaml(path)
    path.write_bytes("a: käfer".encode("utf-8-sig"))
    assert read_yaml(path) == {"a": "käfer"}
    path.write_bytes("a: käfer".encode("utf-16"))
    assert read_yaml(path) == {"a": "käfer"}
    for content, said in {
        b"a: k\xe4fer": "not UTF-8 text",
        b"a: !!set {b}": "not a readable YAML file: line 1: the tag",
        b"x" * (plain_yaml.MOST_BYTES + 1): "10,000,001 bytes are too many",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said) as caught:
            read_yaml(path)
        assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(ValueError, match="not a file but a folder"):
        read_yaml(tmp_path)
