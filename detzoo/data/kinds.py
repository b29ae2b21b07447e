"""The kinds of problems that a check reports, and which of them may be allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Training stops at these, whatever is allowed -> what to do instead.
IMPASSABLE = {
    "unreadable image": "leave such images out with data.skip=[NAME,...]",
    "size mismatch": (
        "correct the annotation, leave such images out with data.skip=[NAME,...], or say with "
        "data.exif=upright or data.exif=stored which way up they were annotated"
    ),
    "unreadable split": "name its place with data.splits, or cut it with data.holdout",
}
PASSABLE = frozenset(
    {
        "EXIF rotation",
        "area too large",
        "box outside the image",
        "class left out",
        "crowd",
        "difficult",
        "duplicate box",
        "duplicate class",
        "duplicate id",
        "duplicate image",
        "empty class",
        "extra columns",
        "first pixel",
        "form of boxes",
        "group sizes",
        "image ids",
        "image too large",
        "images without annotation",
        "inverted box",
        "labels without images",
        "malformed entry",
        "mask without box",
        "missing annotation",
        "missing image",
        "no boxes",
        "no group",
        "no label file",
        "no size",
        "not in a list",
        "non-finite box",
        "other folders",
        "path leaves the root",
        "root category",
        "rotated box",
        "skipped image",
        "test/val overlap",
        "train/test groups",
        "train/test near-duplicates",
        "train/test overlap",
        "train/val groups",
        "train/val near-duplicates",
        "train/val overlap",
        "unknown class",
        "unknown image",
        "unknown word",
        "unused skip",
        "val/test groups",
        "val/test near-duplicates",
        "val/test overlap",
        "zero-area box",
    }
)


def allowed(kinds: Iterable[str]) -> frozenset[str]:
    """`data.allow`, checked: ValueError for a kind that cannot pass or that there is not."""
    kinds = frozenset([kinds] if isinstance(kinds, str) else kinds)
    for kind in sorted(map(str, kinds)):
        if kind in IMPASSABLE:
            raise ValueError(
                f"data.allow: training stops at a problem of kind {kind!r}, so it cannot be "
                f"allowed; {IMPASSABLE[kind]}"
            )
        if kind not in PASSABLE:
            near = difflib.get_close_matches(kind, [*PASSABLE, *IMPASSABLE], 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(sorted(PASSABLE))}"
            raise ValueError(f"data.allow: no kind of problem is called {kind!r}{hint}")
    return kinds
