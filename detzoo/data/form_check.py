"""Whether the boxes of a file are written in its format's form, or in another common one.

A box is four numbers, and every tool has its own: corners, or a corner with width and height, or a
centre with them, in pixels or in fractions of the image. Boxes in another form than the reader
expects are mostly outside their images, or all within the first pixel: then the forms are tried.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from detzoo.box_forms import FRACTIONS, PERCENT, PIXELS, Form, leave

FEW = 4  # boxes below which chance could make a form look right
MANY = 16  # boxes from which a tenth outside is suspicious
FITS = 0.98  # of the boxes inside their images: this is the form
CORNER = 8  # pixels; in an image with a smaller side, boxes within the first pixel are possible


Suspicion = tuple[Literal["error", "warning"], str, str]


def suspicion(written: np.ndarray, sizes: np.ndarray, expected: Form) -> Suspicion | None:
    """Severity, finding and action, if the boxes of a split seem to be in another form.

    written: (N, 4), as in the file. sizes: (N, 2), the heights and widths of their images.
    """
    boxes = expected.corners(written)
    # A point or a line, a slip of the mouse, is no evidence of the form.
    telling = np.isfinite(written).all(1) & (boxes[:, 2:] != boxes[:, :2]).all(1)
    written, sizes = written[telling].astype(np.float64), sizes[telling].astype(np.float64)
    if not len(written):
        return None
    if expected.unit is None and (found := _within_a_pixel(written, sizes, expected)):
        return found
    share = _share(written, sizes, expected)
    # A value above 2 is no fraction, however rare: no box is twice the size of its image.
    nonsense = expected.unit == 1 and bool((np.abs(written).max(1) > 2).all())
    if not nonsense and (len(written) < FEW or share >= (0.9 if len(written) >= MANY else 0.75)):
        return _in_a_corner(written, sizes, expected)
    others = [*FRACTIONS, *PIXELS, *PERCENT] if expected.unit else [*PIXELS, *PERCENT]
    fits = [form for form in others if form != expected and _plausible(written, sizes, form)]
    out = round((1 - share) * len(written))
    seen = f"{out} of {len(written)} boxes leave their images as {expected.name}"
    if fits:
        return _error(f"{seen}; they would fit as {fits[0].name}", expected)
    if nonsense or (share < 0.5 and len(written) >= MANY // 2):
        other = "no other usual form fits; are these the annotations of images of another size?"
        return _error(f"{seen}, and {other}", expected)
    return None


def _within_a_pixel(written: np.ndarray, sizes: np.ndarray, expected: Form) -> Suspicion | None:
    inside = ((written >= 0) & (written <= 1)).all(1) & (sizes.min(1) >= CORNER)
    if not inside.any() or (written[inside] == np.round(written[inside])).all():
        return None
    seen = f"{inside.sum()} of {len(written)} boxes lie within the first pixel"
    if inside.mean() < 0.5:
        return "warning", f"{seen}: are some in fractions of the image?", "taken as pixels"
    fits = [form for form in FRACTIONS if _share(written[inside], sizes[inside], form) >= FITS]
    guess = next((form for form in fits if form.corners is expected.corners), None)
    guess = guess or (fits[0] if fits else None)
    named = f"they look normalised: {guess.name}" if guess else "they look normalised"
    return _error(f"{seen}; {named}", expected)


def _in_a_corner(written: np.ndarray, sizes: np.ndarray, expected: Form) -> Suspicion | None:
    """Many boxes, all in the upper left quarter of their images: they belong to smaller ones."""
    if len(written) < MANY or _reach(written, sizes, expected) > 0.5:
        return None
    fits = [form for form in PERCENT if _plausible(written, sizes, form)]
    guess = f"they would fit as {fits[0].name}" if fits else "are they of smaller images?"
    what = f"all {len(written)} boxes lie in the upper left quarter of their images; {guess}"
    return "warning", what, f"taken as {expected.name}"


def _reach(written: np.ndarray, sizes: np.ndarray, form: Form) -> float:
    """How far right or down the boxes go, as a part of the sides."""
    return float((form.boxes(written, sizes)[:, 2:] / sizes[:, ::-1]).max())


def _error(what: str, expected: Form) -> Suspicion:
    return "error", what, f"wrong boxes; write them as {expected.name}"


def _plausible(written: np.ndarray, sizes: np.ndarray, form: Form) -> bool:
    """Whether nearly all boxes fit as that form, and do not all crowd into one corner."""
    return _share(written, sizes, form) >= FITS and _reach(written, sizes, form) > 0.5


def _share(written: np.ndarray, sizes: np.ndarray, form: Form) -> float:
    """The part of the boxes that have an area and are inside their images, with a tolerance."""
    boxes = form.boxes(written, sizes)
    return float(((boxes[:, 2:] > boxes[:, :2]).all(1) & ~leave(boxes, sizes)).mean())
