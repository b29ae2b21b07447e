"""Images that are left out by name: `data.skip`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import PurePosixPath


class Skip:
    """Decides which images are left out, and remembers which patterns matched.

    patterns: paths relative to the data set's root, file names or names without suffix, or patterns
    of these with *, ? and [...].
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.used = {unicodedata.normalize("NFC", str(pattern)): 0 for pattern in patterns}

    def __call__(self, name: str) -> bool:
        """Whether the image is left out; name: its path relative to the root, with slashes."""
        if not self.used:
            return False
        path = PurePosixPath(unicodedata.normalize("NFC", name))
        forms = (str(path), path.name, str(path.with_suffix("")), path.stem)
        found = [
            pattern
            for pattern in self.used
            if pattern in forms or any(fnmatchcase(form, pattern) for form in forms)
        ]
        for pattern in found:
            self.used[pattern] += 1
        return bool(found)

    @property
    def unused(self) -> list[str]:
        """The patterns that have matched no image so far."""
        return [pattern for pattern, count in self.used.items() if not count]
