"""Images of two splits that are nearly the same, in addition to a check's other results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from detzoo.data import CheckResult, Dataset, Source
from detzoo.data.near_duplicates import Twins, near_duplicates, problems

KEPT = 12  # nearest pairs that the result names for a report
MOST = 20_000  # images that are compared by default: some tens of seconds


def with_twins(
    result: CheckResult, source: Source, most: int | None = None
) -> tuple[CheckResult, Sequence[Twins], str]:
    """The result with a warning for each image that has a near twin in another split; all pairs;
    and why there are none where they were not looked for, "" else.

    most: with more images, or without the extra `duplicates`, there is no search.
    """
    datasets = {split: source.read(split) for split in result.statistics}
    count = sum(map(len, datasets.values()))
    if most is not None and count > most:
        said = f"near-duplicates were not looked for among {count:,} images; detzoo check does"
        return result, [], said
    try:
        found = near_duplicates(datasets)
    except ImportError as error:
        return result, [], str(error)
    listed = [*result.problems, *problems(datasets, found)]
    pairs = [_pair(datasets, twins) for twins in found[:KEPT]]
    return replace(result, problems=listed, near_duplicates=pairs), found, ""


def _pair(datasets: Mapping[str, Dataset], twins: Twins) -> dict[str, Any]:
    """Two images as the report reads them."""
    images = []
    for split, place in (twins.one, twins.other):
        dataset, sample = datasets[split], datasets[split].samples[place]
        name = sample.path.relative_to(dataset.root).as_posix()
        height, width = sample.size
        images.append({"split": split, "file_name": name, "height": height, "width": width})
    return {"distance": twins.distance, "images": images}
