from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
import torch

from detzoo.speed import lock, machine
from detzoo.speed.machine import Bystanders, commit, cpu_model, environment

CPUINFO = (
    "processor\t: 0\nvendor_id\t: X\nmodel name\t: Example CPU 9 @ 2GHz\nflags\t\t: fpu avx2\n"
)


def test_the_processors_own_name(tmp_path):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    assert cpu_model(tmp_path / "cpuinfo") == "Example CPU 9 @ 2GHz"
    assert cpu_model(tmp_path / "absent")  # what the platform says, which is never nothing


def test_instruction_sets_that_decide_on_bf16(monkeypatch):
    flags = frozenset({"fpu", "amx_tile", "avx2", "amx_bf16"})
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    assert machine.instruction_sets() == ["avx2", "amx_tile", "amx_bf16"]


def test_environment_has_what_the_run_directory_promises():
    found = environment("cpu", "bf16")
    promised = (
        "detzoo python torch torchvision timm commit command cpu cores memory_gb gpu driver "
        "threads device precision instruction_sets"
    )
    assert set(promised.split()) <= set(found)
    assert (found["device"], found["precision"]) == ("cpu", "bf16")
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["gpu"] is None and found["driver"] is None
    assert found["cores"] >= 1 and found["memory_gb"] > 0.1
    json.dumps(found, allow_nan=False)


def test_the_command_line_can_be_pasted():
    code = "from detzoo.speed.lock import command_line; print(command_line())"
    done = subprocess.run(
        [sys.executable, "-c", code, "a b", "c=[1,2]"], capture_output=True, text=True, check=True
    )
    words = shlex.split(done.stdout)
    assert words[1:] == ["-c", code, "a b", "c=[1,2]"]


def test_the_command_is_the_user_s_own(monkeypatch):
    argv = ["python3", "/opt/venv/bin/detzoo", "bench", "seeds=[0,1]"]
    monkeypatch.setattr(lock.sys, "orig_argv", argv)
    assert lock.command_line() == "detzoo bench 'seeds=[0,1]'"
    monkeypatch.setattr(lock, "_begun_by", "")
    monkeypatch.setattr(lock.sys, "orig_argv", ["python3", "-c", "spawn_main(parent_pid=7)"])
    lock.set_command("detzoo bench name=mine")  # in the process of one of its runs
    assert lock.command_line() == "detzoo bench name=mine"


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    (tmp_path / "notes.md").write_text("one")
    (tmp_path / "reports" / "kept").mkdir(parents=True)
    (tmp_path / "reports" / "kept" / "page").write_text("one")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return tmp_path, git("rev-parse", "HEAD")


def test_the_commit_of_a_checkout(repository):
    root, head = repository
    assert commit(root) == head
    (root / "new").write_text("untracked files change nothing that runs")
    assert commit(root) == head
    (root / "reports" / "kept" / "page").write_text("a page is no code")
    (root / "notes.md").write_text("a note is none")
    assert commit(root) == head
    (root / "file").write_text("two")
    assert commit(root) == f"{head}+changes"


def test_another_projects_commit_is_not_taken(repository):
    root, _ = repository
    inside = root / ".venv" / "site-packages"
    inside.mkdir(parents=True)
    assert commit(inside) is None


def test_no_checkout_has_no_commit(tmp_path):
    assert commit(tmp_path) is None


@pytest.mark.parametrize(
    ("busy", "own", "load"),
    [
        (10.0, 10.0, 0.0),  # all of it is ours
        (16.0, 10.0, 0.3),  # six of twenty processor seconds are not
        (9.98, 10.0, 0.0),  # ticks are coarse: never below nothing
        (40.0, 1.0, 1.0),
    ],
)
def test_what_others_used(monkeypatch, busy, own, load):
    monkeypatch.setattr(machine.psutil, "cpu_count", lambda: 2)
    moments = iter([(100.0, 50.0, 7.0), (100.0 + busy, 50.0 + own, 17.0)])
    monkeypatch.setattr(Bystanders, "_now", staticmethod(lambda: next(moments)))
    assert Bystanders().load() == pytest.approx(load)


def test_own_work_is_seen_in_both_counts():
    before = Bystanders._now()
    total = 0.0
    while Bystanders._now()[1] - before[1] < 0.05:
        total += sum(range(10_000))
    busy, own, wall = (b - a for a, b in zip(before, Bystanders._now(), strict=True))
    assert own >= 0.05 and wall > 0
    assert busy >= own - 0.03  # the machine's count comes in ticks
