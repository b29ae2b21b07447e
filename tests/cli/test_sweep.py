"""A sweep: every job ends or fails by itself, and all results are reported."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from omegaconf import DictConfig

from detzoo.cli import sweep
from detzoo.cli.app import app
from detzoo.files import write_json
from detzoo.workflow.devices import free_device
from detzoo.workflow.live_table import Row


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def small_app():  # type: ignore[no-untyped-def]
    """An app whose jobs leave a file with their process and threads; some fail, some are killed."""

    @app("train")
    def run(config: DictConfig) -> int:
        from detzoo.cli import sweep

        path = Path("done") / f"{config.label}-{config.seed}"
        path.parent.mkdir(exist_ok=True)
        before = path.exists()
        sweep.record(config, path=str(path), before=before)
        if config.seed == 1:
            raise ValueError("seed 1 is unlucky\nand told so")
        if config.seed == 3 and not before:
            path.write_text("was here")
            os.kill(os.getpid(), signal.SIGKILL)
        if config.seed == 9:
            raise ZeroDivisionError("a mistake of ours")
        print(f"seed {config.seed} prints")
        path.write_text(f"{os.getpid()} {config.runtime.threads}")
        return 0

    return run


def extra(package: str) -> None:
    if not sweep.is_installed(package):
        pytest.skip(f"needs {package}: pip install 'detzoo[{sweep.EXTRAS[package]}]'")


def found() -> dict[str, list[str]]:
    return {path.name: path.read_text().split() for path in sorted(Path("done").iterdir())}


def test_a_failed_job_stops_no_other_and_the_exit_code_says_so(capsys) -> None:
    assert small_app()(["-m", "detector=glob([re*,s*])", "seed=0,1,9"]) == 1
    assert list(found()) == ["retinanet-0", "ssd-0"]
    said = capsys.readouterr()
    assert "detzoo train: seed 1 is unlucky\nand told so\n" in said.err
    assert "ZeroDivisionError" in said.err and "in run" in said.err
    assert said.err.endswith("6 runs: 2 done, 4 failed\n")
    left = sorted(path.name for path in Path("runs/default").iterdir())
    assert left == ["multirun.yaml"], "the journal is gone"
    assert small_app()(["-m", "seed=0,2"]) == 0
    assert small_app()(["-m", "seed=0,2"]) == 0
    assert "was done before" in capsys.readouterr().err


def test_a_wrong_setting_is_told_before_anything_starts(capsys) -> None:
    assert small_app()(["-m", "seed=0,1", "detector=ssd,nothing"]) == 1
    assert "nothing" in capsys.readouterr().err and not Path("done").exists()
    assert not list(Path("runs/default").glob(".sweep*"))


@pytest.mark.slow
def test_joblib_runs_several_at_once_and_one_that_is_killed_stops_no_other(capfd) -> None:
    extra("hydra_joblib_launcher")
    launch = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert small_app()(["-m", "label=a", "seed=0,1,2", *launch]) == 1
    files = found()
    assert list(files) == ["a-0", "a-2"]
    assert str(os.getpid()) not in {pid for pid, _ in files.values()}
    share = max(1, sweep.cores() // 2)
    assert {threads for _, threads in files.values()} == {str(share)}
    assert "3 runs: 2 done, 1 failed" in capfd.readouterr().err

    # seed 3 is killed the first time; it and the others go on one by one
    assert small_app()(["-m", "label=b", "seed=3,4,5", *launch]) == 0
    assert [name for name in found() if name.startswith("b")] == ["b-3", "b-4", "b-5"]
    said = capfd.readouterr().err
    assert "continuing with one run at a time" in said and "3 runs: 3 done" in said


@pytest.mark.slow
def test_submitit_runs_jobs_of_their_own_and_one_that_is_killed_stops_no_other(capfd) -> None:
    extra("hydra_submitit_launcher")
    launch = ["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2"]
    assert small_app()(["-m", "label=a", "seed=0,1,3", *launch]) == 1
    assert list(found()) == ["a-0", "a-3"] and found()["a-3"] == ["was", "here"]
    said = capfd.readouterr().err
    assert "3 runs: 1 done, 2 failed" in said
    assert "seed=1  failed  ValueError: seed 1 is unlucky" in said


@pytest.mark.parametrize(
    ("launcher", "package", "name"),
    [
        ("joblib", "hydra_joblib_launcher", "detzoo[joblib]"),
        ("submitit_local", "hydra_submitit_launcher", "detzoo[submitit]"),
        ("submitit_slurm", "hydra_submitit_launcher", "detzoo[submitit]"),
    ],
)
def test_what_is_not_installed_is_named(launcher, package, name, monkeypatch, capsys) -> None:
    assert package in sweep.EXTRAS
    monkeypatch.setattr(sweep, "is_installed", lambda n: n != package)
    assert small_app()(["-m", "seed=0,1", f"hydra/launcher={launcher}"]) == 1
    said = capsys.readouterr().err
    assert f"hydra/launcher={launcher} needs" in said and f"pip install '{name}'" in said
    assert not Path("runs").exists()


def test_how_many_at_once(monkeypatch) -> None:
    def config(device: str) -> DictConfig:
        return DictConfig({"runtime": {"device": device}})

    monkeypatch.setattr(sweep, "cores", lambda: 16)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    auto = DictConfig({"n_jobs": None})
    assert sweep.count_jobs("JoblibLauncher", auto, None, config("auto")) == 3
    assert sweep.count_jobs("JoblibLauncher", auto, None, config("cpu")) == sweep.MOST
    assert sweep.count_jobs("LocalLauncher", auto, 7, config("cuda")) == 7
    assert sweep.count_jobs("JoblibLauncher", DictConfig({"n_jobs": 5}), None, config("auto")) == 5
    assert sweep.count_jobs("JoblibLauncher", DictConfig({"n_jobs": -2}), None, config("cpu")) == 15
    assert sweep.count_jobs("BasicLauncher", auto, 7, config("auto")) == 1
    assert sweep.count_jobs("SlurmLauncher", auto, None, config("auto")) == 256


def test_two_runs_never_have_the_same_device(tmp_path: Path, capsys) -> None:
    names, holding, most, together = ["GPU-a", "GPU-b"], [], [], threading.Barrier(2)

    def run(number: int) -> None:
        with free_device(names, tmp_path, poll=0.01) as index:
            assert index not in holding
            holding.append(index)
            if number < 2:
                together.wait(20)  # two have one each, at the same time
                time.sleep(0.1)  # and a third must wait
            most.append(len(holding))
            holding.remove(index)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    while len(holding) < 2:
        time.sleep(0.01)
    threads.append(threading.Thread(target=run, args=(2,)))
    threads[2].start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 3 and max(most) == 2
    assert "all 2 GPUs have a run: waiting for one" in capsys.readouterr().err
    with pytest.raises(TimeoutError, match="from within"), free_device(names, tmp_path):
        raise TimeoutError("from within")
    with free_device(names, tmp_path) as index:
        assert index == 0, "what failed has let go"


def test_a_row_is_read_from_the_journal_and_the_run(tmp_path: Path) -> None:
    assert sweep.read_row(tmp_path, 0, "a") == Row("a", "waiting")
    write_json(tmp_path / "0.json", {"code": None, "path": str(tmp_path / "run"), "total": 80})
    assert sweep.read_row(tmp_path, 0, "a") == Row("a", "running", total=80)
    write_json(tmp_path / "run" / "status.json", {"images_seen": 8, "train_seconds": 2.0})
    assert sweep.read_row(tmp_path, 0, "a") == Row("a", "running", "", 8, 80, 2.0)
    sweep._record(tmp_path, 0, code=1, error="ValueError: no")
    assert sweep.read_row(tmp_path, 0, "a") == Row("a", "failed", "ValueError: no")


def test_beside_a_table_jobs_print_into_the_journal_and_failures_are_shown_at_the_end(
    monkeypatch, capsys
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert small_app()(["-m", "seed=0,1"]) == 1
    said = capsys.readouterr()
    assert "seed 0 prints" not in said.out
    assert said.err.rstrip().endswith("seed=1:\ndetzoo train: seed 1 is unlucky\nand told so")
