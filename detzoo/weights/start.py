"""What a training starts from: a detector's weights carried over to another set of classes.

The rows of the class layers are matched by name, from the classes of the source to those of the
data; all that belongs to no class (backbone, neck, class-agnostic boxes, a background's row) is
copied; the rest stays as initialised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from detzoo.detector import Detector
from detzoo.weights.class_layers import class_layers
from detzoo.weights.source import COUNTER

NAMELESS = ("__background__", "N/A", "")  # outputs of COCO's models that no class has
NEVER = -1e4  # a logit that gives no detection


@dataclass(frozen=True)
class Carried:
    """classes: of the detector -> of the source. new: the detector's that the source lacks. left:
    the source's unused ones. values: how many numbers were loaded, of how many."""

    classes: dict[str, str]
    new: tuple[str, ...]
    left: tuple[str, ...]
    values: tuple[int, int]


def normal(name: str) -> str:
    """Equal for names that differ in case, spaces, underscores and hyphens alone."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def match(
    mine: Sequence[str], theirs: Sequence[str], given: Mapping[str, object]
) -> dict[str, str]:
    """Class of the data -> class of the source: by name, or as `given` has it.

    Raises ValueError for a given name that is not there.
    """
    own = {normal(name): name for name in mine}
    known = {normal(name): name for name in theirs if name not in NAMELESS}
    found = {name: known[normal(name)] for name in mine if normal(name) in known}
    for name, other in given.items():
        if normal(str(name)) not in own:
            raise ValueError(
                _unknown(f"start.classes: the data have no class {name!r}", name, mine)
            )
        if normal(str(other)) not in known:
            raise ValueError(
                _unknown(f"start.classes: the source has no class {str(other)!r}", other, theirs)
            )
        found[own[normal(str(name))]] = known[normal(str(other))]
    return found


def unique_names(
    theirs: Sequence[str], mine: Sequence[str], given: Mapping[str, object]
) -> list[tuple[str, bool]]:
    """Every output of the source: a name that is no other class's, and whether the data have it.

    mine, given: the data's classes, and as in `match`. Raises ValueError where they share none.
    """
    taken = set(match(mine, theirs, given).values())
    if not taken:
        raise ValueError(
            f"none of the data's classes ({', '.join(mine[:12])}) is one of the source's; name "
            "them with start.classes={mine: theirs}"
        )
    known, found = {normal(name) for name in mine}, []
    for label, name in enumerate(theirs):
        own = name in taken
        apart = f"output {label}" if name in NAMELESS else name
        found.append((f"{apart} (theirs)" if not own and normal(apart) in known else apart, own))
    return found


def _unknown(text: str, name: object, known: Sequence[str]) -> str:
    near = get_close_matches(str(name), known, 3, 0.5) or list(known)[:12]
    return f"{text}; there is {', '.join(near)}{', ...' * (len(known) > len(near))}"


def count_classes(detector: Detector, state: Mapping[str, Tensor]) -> int | None:
    """How many classes the state of a detector like this one is for; None if unknown."""
    for key, (layout, blocks) in class_layers(detector).items():
        if key in state and state[key].dim():
            return layout.classes(len(state[key]), blocks)
    return None


def carry(
    detector: Detector,
    state: Mapping[str, Tensor],
    theirs: Sequence[str] | None,
    mine: Sequence[str],
    given: Mapping[str, object] | None = None,
    *,
    source: str = "the source",
    wanted: str = "",
) -> Carried:
    """Copy `state`, of a detector like this one with the classes `theirs`, into `detector`.

    theirs: None uses their numbers as names. mine: the detector's classes. given: as in `match`.
    source, wanted: for errors, the weights' description and the settings that they need. All or
    nothing: raises ValueError, before anything is copied, if any part does not fit.
    """
    theirs, pairs = check_fit(
        detector, state, theirs, mine, given or {}, source=source, wanted=wanted
    )
    layers = class_layers(detector)
    own = {k: v for k, v in detector.state_dict().items() if not k.endswith(COUNTER)}
    index = {name: label for label, name in reversed(list(enumerate(theirs)))}
    to = torch.tensor([mine.index(name) for name in pairs], dtype=torch.long)
    of = torch.tensor([index[name] for name in pairs.values()], dtype=torch.long)
    loaded = 0
    with torch.no_grad():
        for key, value in own.items():  # the detector's own memory
            if key not in layers:
                value.copy_(state[key])
                loaded += value.numel()
                continue
            layout, blocks = layers[key]
            here, shared = layout.rows(len(mine), blocks)
            there, shared_there = layout.rows(len(theirs), blocks)
            value[shared] = state[key][shared_there].to(value.dtype)
            value[here[to].flatten()] = state[key][there[of].flatten()].to(value.dtype)
            loaded += (len(shared) + here[to].numel()) * (value[0].numel() if len(value) else 0)
    if hasattr(getattr(detector, "backbone", None), "pretrained"):
        detector.backbone.pretrained = True
    taken = set(pairs.values())
    left = tuple(n for n in dict.fromkeys(theirs) if n not in taken and n not in NAMELESS)
    new = tuple(name for name in mine if name not in pairs)
    return Carried(pairs, new, left, (loaded, sum(v.numel() for v in own.values())))


def check_fit(
    detector: Detector,
    state: Mapping[str, Tensor],
    theirs: Sequence[str] | None,
    mine: Sequence[str],
    given: Mapping[str, object],
    *,
    source: str,
    wanted: str,
) -> tuple[Sequence[str], dict[str, str]]:
    """The source's classes, by number where `theirs` is None, and class -> theirs: see `carry`.

    Looks at shapes alone: the detector may be on the meta device. Raises ValueError as `carry`.
    """
    if theirs is None:
        theirs = [str(label) for label in range(count_classes(detector, state) or 0)]
    own = {k: v for k, v in detector.state_dict().items() if not k.endswith(COUNTER)}
    state = {k: v for k, v in state.items() if not k.endswith(COUNTER)}
    _check(own, state, class_layers(detector), len(theirs), source, wanted)
    return theirs, match(mine, theirs, given)


def suppress_classes(detector: Detector, classes: Sequence[int]) -> None:
    """Let the detector never find these classes: their scores are of a logit of NEVER."""
    layers = class_layers(detector)
    state = detector.state_dict()
    scores = [key for key in layers if key.endswith(".bias") and not _is_box(key)]
    with torch.no_grad():
        for bias in scores:
            layout, blocks = layers[bias]
            rows = layout.rows(detector.num_classes, blocks)[0][list(classes)].flatten()
            state[bias][rows] = NEVER
            state[bias.removesuffix("bias") + "weight"][rows] = 0.0


def _is_box(key: str) -> bool:
    return any(part in key for part in (".deltas.", ".bbox_pred.", ".values."))


def _check(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    layers: Mapping[str, tuple],
    classes: int,
    source: str,
    wanted: str,
) -> None:
    """Raise ValueError with the reason unless all of theirs has its place in ours."""
    expected = {key: tuple(value.shape) for key, value in own.items()}
    for key, (layout, blocks) in layers.items():
        expected[key] = (blocks * layout.width(classes), *expected[key][1:])
    found = {key: tuple(value.shape) for key, value in state.items()}
    wrong = [k for k in {**expected, **found} if expected.get(k) != found.get(k)]
    if not wrong:
        other = [k for k in own if own[k].is_floating_point() != state[k].is_floating_point()]
        if other:
            raise ValueError(f"{source} does not fit this detector: {other[0]} is of another type")
        return
    first = min(
        wrong,
        key=lambda k: (
            not k.startswith("backbone."),
            list({**expected}).index(k) if k in expected else len(expected),
        ),
    )
    what = (
        f"{first} is {found[first]} in them and {expected[first]} in the detector"
        if first in expected and first in found
        else f"{first} is in {'them' if first in found else 'the detector'} alone"
    )
    hint = f"; they want {wanted}" if wanted else ""
    raise ValueError(
        f"{source} does not fit this detector: {what} ({len(wrong)} such); the reason is "
        f"{_reason(first, expected.get(first), found.get(first), layers)}{hint}"
    )


def _reason(
    key: str, ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None, layers: Mapping
) -> str:
    """The setting in which both differ, by the first part with a difference."""
    if key.startswith("backbone."):
        if key.rpartition(".")[2].startswith("running") or ours == theirs:
            return "another backbone, or another norm of it"
        return "another backbone"
    if ours is None or theirs is None:
        return "another neck or head (levels, layers, norms)"
    if key in layers and ours[1:] == theirs[1:]:
        return "another number of anchors or classes"
    if ours[1:] == theirs[1:] and ours[0] % 4 == theirs[0] % 4 == 0 and "deltas" in key:
        return "another number of anchors"
    return "another width (channels, head_width) or number of anchors"
