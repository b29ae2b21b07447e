"""Which images belong together: the frames of a video, a burst of photos, the slides of a patient.

Images taken together are similar, so no split, fold or resample may separate them: `data.group`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detzoo.data.dataset import Dataset, Problem, Sample
from detzoo.data.folders import composed, inside, located
from detzoo.files import read_text
from detzoo.text import shortened

SECONDS = 10.0  # for all names of a split; a pattern that backtracks without end takes years
LONGEST = 500  # characters of a pattern
SEARCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = [re.search(pattern, name) for name in names]
json.dump([m and (m[1] if m.re.groups and m[1] is not None else m[0]) for m in found], sys.stdout)
"""


class Groups:
    """Gives every image of a data set its group.

    setting: a regular expression that is searched in the file name without its suffix (in the path
    relative to root where it has a slash), whose first capture group is the group, and without one
    all that matched; or the name of a field of COCO's images; or FILE.csv inside root with the
    columns file and group. root: the data set's. Raises ValueError for an invalid setting.
    """

    def __init__(self, setting: str, root: Path) -> None:
        if not isinstance(setting, str) or not setting.strip() or len(setting) > LONGEST:
            raise ValueError(
                f"data.group is {shortened(repr(setting), 80)}; give a pattern of the file names "
                "such as '(.+)_frame\\d+', a field of COCO's images, or FILE.csv"
            )
        self.setting, self.root = setting, root
        self.table = setting.lower().endswith(".csv")
        if not self.table:
            try:
                re.compile(setting)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(
                    f"data.group is {setting!r}, which is no regular expression: {error}"
                ) from None

    def field(self, image: Mapping[str, Any]) -> str | None:
        """The group of a COCO image, from the field that the setting may name."""
        value = image.get(self.setting)
        return str(value) if isinstance(value, str | int) and value != "" else None

    def assign(self, dataset: Dataset) -> Dataset:
        """The data set with a group for every image; one without gets its own, with a warning.

        Raises ValueError where no image at all has one.
        """
        samples = dataset.samples
        found = [sample.group for sample in samples]
        if not any(found):
            found = self._listed(samples) if self.table else self._matched(samples)
        if samples and not any(found):
            first = samples[0].path.name
            raise ValueError(
                f"data.group is {self.setting!r}, and of {len(samples)} images of "
                f"{dataset.split} none has a group by it; the first is {first!r}"
            )
        alone = [s for s, group in zip(samples, found, strict=True) if not group]
        problems = dataset.problems
        if alone:
            what = (
                f"{len(alone)} of {len(samples)} images have no group, {alone[0].path.name} first"
            )
            action = "each is a group by itself"
            problems += (Problem("warning", "no group", dataset.split, what, action),)
        samples = tuple(
            replace(sample, group=group or self._name(sample))
            for sample, group in zip(samples, found, strict=True)
        )
        return replace(dataset, samples=samples, problems=problems)

    def _name(self, sample: Sample) -> str:
        return sample.path.relative_to(self.root).as_posix()

    def _matched(self, samples: Sequence[Sample]) -> list[str | None]:
        """By the pattern. Matched in a separate process, which can be ended: nothing else bounds
        the time of a regular expression."""
        whole = "/" in self.setting
        names = [composed(self._name(s) if whole else s.path.stem) for s in samples]
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", SEARCH],
                input=json.dumps([self.setting, names]),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(
                f"data.group is {self.setting!r}, which takes more than {SECONDS:.0f} s to match; "
                "a pattern without a repeat inside of a repeat is quick"
            ) from None
        return json.loads(done.stdout)

    def _listed(self, samples: Sequence[Sample]) -> list[str | None]:
        """By the table: paths relative to root, file names, or these without their suffix."""
        table = read_table(self.root, self.setting)
        forms = ((self._name(s), s.path.name, s.path.stem) for s in samples)
        found = (map(composed, of) for of in forms)
        return [next((table[form] for form in of if form in table), None) for of in found]


def read_table(root: Path, name: str) -> dict[str, str]:
    """file -> group from root/name. Raises ValueError for a table that cannot be used."""
    path = inside(root, root, name)
    path = path and located(path)
    if path is None or not path.is_file():
        raise ValueError(f"{root / name}: no such file inside data.root (data.group)")
    table: dict[str, str] = {}
    try:
        rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
        if not {"file", "group"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path}: its first line must name the columns file,group")
        for row in rows:
            file, group = ((row[key] or "").strip() for key in ("file", "group"))
            file = composed(file.replace("\\", "/"))
            if file and group and table.setdefault(file, group) != group:
                raise ValueError(
                    f"{path}:{rows.line_num}: {file} is in {table[file]} and in {group}"
                )
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    return table
