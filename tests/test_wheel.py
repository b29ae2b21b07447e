"""What a user installs: the wheel, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("detzoo", "conf", "experiments")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def run(*command: object, **options: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout gets no build folder; nothing is fetched."""
    tmp = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp / "src" / part, ignore=shutil.ignore_patterns("__pyc*"))
    for name in FILES:
        shutil.copy(ROOT / name, tmp / "src" / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "--wheel-dir", tmp / "out", tmp / "src")
    (built,) = (tmp / "out").glob("detzoo-*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """An empty site with the wheel in it and nothing else."""
    target = wheel.parent.parent / "site"
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile")
    run(*pip, "--target", target, wheel)
    return target


def test_every_source_file_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for part in PARTS:
        for path in (ROOT / part).rglob("*"):
            if not path.is_file() or "__pycache__" in path.parts or path.suffix == ".tmp":
                continue
            name = path.relative_to(ROOT).as_posix()
            name = name if part == "detzoo" else f"detzoo/{name}"
            assert name in inside, f"{name} is not in the wheel: see setup.cfg"


def test_the_wheel_has_no_tests_and_no_runs(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"detzoo"}


def test_train_composes_from_the_installed_package(site: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    where = "import detzoo.config; print(detzoo.config.folder('conf'))"
    conf = run(sys.executable, "-c", where, cwd=tmp_path, env=environment).strip()
    assert Path(conf) == site / "detzoo" / "conf"
    command = (sys.executable, "-m", "detzoo", "train")
    out = run(*command, "detector=retinanet", "--cfg", "job", cwd=tmp_path, env=environment)
    assert "_target_: detzoo.detectors.RetinaNet" in out
    info = run(*command, "--info", "searchpath", cwd=tmp_path, env=environment)
    assert str(site) in info and str(ROOT) not in info
    assert not list(tmp_path.iterdir()), "composing must write nothing"
    script = site / "bin" / "detzoo"
    assert "bench" in run(sys.executable, script, "--help", cwd=tmp_path, env=environment)
