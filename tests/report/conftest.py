"""Makes fabricated_runs importable in every import mode of pytest."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fabricated_runs


@pytest.fixture
def comparison(tmp_path: Path) -> list[Path]:
    return fabricated_runs.comparison(tmp_path)
