from __future__ import annotations

import csv
import multiprocessing
import os
import random
import re
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detzoo.engine import checkpoint, status, training
from detzoo.engine.recipe import Recipe
from detzoo.engine.train import NonFiniteLoss, train
from detzoo.engine.training import Training
from detzoo.nn.freezing import Freezable

from .tiny import FakeBatches, Tiny, batch, recipe, score, tiny, train_and_tell


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run(run_dir: Path, detector=None, steps: int = 40, bad_step: int | None = None, **options):
    detector = detector or tiny()
    changes = options.pop("recipe", {})
    batches = FakeBatches(steps, bad_step=bad_step)
    train(detector, batches, recipe(steps, **changes), run_dir, seed=3, progress=False, **options)
    return detector


class Stop(Exception):
    pass


def stop_at(step: int):
    def on_progress(progress):
        if progress["step"] == step:
            raise Stop

    return on_progress


def assert_equal(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_it_learns_and_writes_the_run(tmp_path):
    detector = run(tmp_path, validate=score)
    assert not detector.training
    assert score(detector)["AP"] == 1

    log = rows(tmp_path / "log.csv")
    assert list(log[0]) == [
        *("step", "images_seen", "lr", "loss", "cls", "size", "images_per_second", "seconds")
    ]
    assert [int(row["step"]) for row in log] == list(range(1, 41))
    assert [int(row["images_seen"]) for row in log] == list(range(4, 161, 4))
    assert float(log[4]["lr"]) == pytest.approx(0.02)  # the peak, after 20 images of warm-up
    assert float(log[-1]["lr"]) == pytest.approx(0.0002)
    for row in log:
        assert float(row["loss"]) == pytest.approx(float(row["cls"]) + float(row["size"]))
    seconds = [float(row["seconds"]) for row in log]
    assert 0 < seconds[0] <= seconds[-1] and seconds == sorted(seconds)

    curve = rows(tmp_path / "curve.csv")
    assert list(curve[0]) == ["images_seen", "seconds", "AP", "AP50"]
    assert [int(row["images_seen"]) for row in curve] == [40, 80, 120, 160]
    assert float(curve[-1]["AP50"]) == 1
    found = status.read(tmp_path)
    assert (found["state"], found["stage"], found["images_seen"]) == ("done", "train", 160)
    assert found["train_seconds"] == pytest.approx(seconds[-1], abs=2e-3)


def test_same_seed_same_weights_other_seed_other_weights(tmp_path):
    first = run(tmp_path / "a", steps=6).state_dict()
    assert_equal(first, run(tmp_path / "b", steps=6).state_dict())
    detector = tiny()
    train(detector, FakeBatches(6), recipe(6), tmp_path / "c", seed=4, progress=False)
    assert not torch.equal(first["linear.weight"], detector.state_dict()["linear.weight"])


def test_validation_leaves_no_trace_and_costs_no_training_time(tmp_path):
    def slow(detector):
        assert not detector.training
        time.sleep(0.2)
        np.random.rand()
        random.random()
        return score(detector)

    plain = run(tmp_path / "a", steps=8)
    validated = run(tmp_path / "b", steps=8, validate=slow)
    assert_equal(plain.state_dict(), validated.state_dict())
    assert float(rows(tmp_path / "b" / "log.csv")[-1]["seconds"]) < 0.6


def test_without_average_validation_sees_the_weights_themselves(tmp_path):
    seen = []

    def look(detector):
        assert not detector.training
        seen.append({k: v.clone() for k, v in detector.state_dict().items()})
        return {"AP": None, "AP50": None}

    detector = run(tmp_path, steps=8, validate=look, recipe={"ema_decay": None})
    assert_equal(seen[-1], detector.state_dict())
    assert checkpoint.load(tmp_path)["ema"] is None
    assert rows(tmp_path / "curve.csv")[0]["AP"] == ""


@pytest.mark.parametrize("layout", [False, True])
def test_a_run_that_stops_goes_on_to_the_same_bits(tmp_path, layout, capsys):
    options = {"steps": 20, "channels_last": layout, "validate": score}
    whole = run(tmp_path / "whole", **options)
    for step in (3, 10, 11, 20):
        with pytest.raises(Stop):
            run(tmp_path / "cut", checkpoint_seconds=0, on_progress=stop_at(step), **options)
        assert status.read(tmp_path / "cut")["state"] == "failed"
    detector = run(tmp_path / "cut", **options)
    said = capsys.readouterr().err
    assert re.search(r"^resumes after \d+ of 80 images$", said, re.MULTILINE)
    point = r"^80 of 80 images: AP [01]\.\d{3}, AP50 [01]\.\d{3} on val, 0\.0 min$"
    assert re.search(point, said, re.MULTILINE)
    assert_equal(whole.state_dict(), detector.state_dict())
    states = [checkpoint.load(tmp_path / name) for name in ("whole", "cut")]
    for name in ("model", "ema"):
        assert_equal(states[0][name], states[1][name])
    assert states[0]["images_seen"] == states[1]["images_seen"] == 80
    for name, columns in (("log.csv", ["step", "lr", "loss"]), ("curve.csv", ["AP", "AP50"])):
        first, second = (rows(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert [[r[c] for c in columns] for r in first] == [[r[c] for c in columns] for r in second]


def test_a_training_that_is_paused_goes_on_under_the_same_schedule(tmp_path):
    """Pauses leave no trace: weights, log and curve are those of a training without them."""
    whole = run(tmp_path / "whole", steps=20, validate=score)
    for until, seen in ((20, 20), (20, 20), (37, 40)):
        with pytest.raises(status.Paused, match=f"stopped at {seen} of 80 images"):
            run(tmp_path / "cut", steps=20, validate=score, until=until)
        now = status.read(tmp_path / "cut")
        assert (now["state"], now["images_seen"]) == ("interrupted", seen)
        assert [int(row["images_seen"]) for row in rows(tmp_path / "cut" / "curve.csv")][-1] == seen
    detector = run(tmp_path / "cut", steps=20, validate=score, until=80)
    assert status.read(tmp_path / "cut")["state"] == "done"
    assert_equal(whole.state_dict(), detector.state_dict())
    for name, columns in (("log.csv", ["step", "lr", "loss"]), ("curve.csv", ["AP", "AP50"])):
        first, second = (rows(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert [[r[c] for c in columns] for r in first] == [[r[c] for c in columns] for r in second]


def test_a_budget_of_minutes_is_of_training_alone_and_is_counted_on(tmp_path, monkeypatch):
    """A clock of one second a step, and of a hundred a validation, which do not count."""
    now = [0.0]

    def look(detector):
        now[0] += 100
        return score(detector)

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    step = Training.update

    def update(self, *batch):
        step(self, *batch)
        now[0] += 1

    monkeypatch.setattr(Training, "update", update)
    options = {"steps": 2**30, "recipe": {"minutes": 0.2, "warmup": 0.25}, "validate": look}
    with pytest.raises(Stop):
        run(tmp_path, checkpoint_seconds=0, on_progress=stop_at(5), **options)
    run(tmp_path, **options)
    now = status.read(tmp_path)
    assert (now["state"], now["images_seen"], now["train_seconds"]) == ("done", 48, 12)
    seconds = [float(row["seconds"]) for row in rows(tmp_path / "curve.csv")]
    assert seconds == [3, 6, 9, 12]
    assert [float(row["seconds"]) for row in rows(tmp_path / "log.csv")] == list(range(1, 13))
    used = [recipe(minutes=0.2, warmup=0.25).lr_at(0, seconds) for seconds in (0, 1.5, 3, 7.5, 12)]
    assert used == pytest.approx([0, 0.01, 0.02, 0.0101, 0.0002])


def test_a_finished_run_is_only_loaded(tmp_path):
    first = run(tmp_path, steps=4)
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    other = tiny()
    run(tmp_path, other, steps=4, on_progress=stop_at(1))
    assert_equal(first.state_dict(), other.state_dict())
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before


def test_another_recipe_does_not_go_on_in_the_same_place(tmp_path):
    run(tmp_path, steps=4)
    with pytest.raises(ValueError, match=r"holds another training.*recipe was"):
        run(tmp_path, steps=4, recipe={"lr": 0.5})
    with pytest.raises(ValueError, match="steps was 4, is 5"):
        run(tmp_path, steps=5)


@pytest.fixture(params=["at once", "a step late"])
def looked_at(request, monkeypatch):
    """When losses are: on a CPU and on a GPU."""
    late = property(lambda self: request.param == "a step late", lambda self, value: None)
    monkeypatch.setattr(training.Training, "late", late, raising=False)


def test_non_finite_loss_stops_with_step_losses_and_images(tmp_path, looked_at):
    with pytest.raises(NonFiniteLoss) as caught:
        run(tmp_path, steps=10, bad_step=7)
    error = caught.value
    assert (error.step, error.image_ids) == (7, [24, 25, 26, 27])
    assert set(error.losses) == {"cls", "size"} and np.isnan(error.losses["cls"])
    found = status.read(tmp_path)
    assert found["state"] == "failed" and found["finished"]
    for part in ("NonFiniteLoss", "step 7", "cls nan", "24, 25, 26, 27"):
        assert part in found["error"]
    assert len(rows(tmp_path / "log.csv")) == 6
    assert checkpoint.load(tmp_path) is None


def test_losses_read_late_are_those_of_their_step(tmp_path, monkeypatch):
    told = {}
    for late in (False, True):
        attribute = property(lambda self, late=late: late, lambda self, value: None)
        monkeypatch.setattr(training.Training, "late", attribute, raising=False)
        heard = []
        run(tmp_path / str(late), steps=12, validate=score, on_progress=heard.append)
        told[late] = [(step["step"], step["images_seen"], step["loss"]) for step in heard]
    assert told[True] == told[False] and len(told[True]) == 12
    first, second = (rows(tmp_path / str(late) / "log.csv") for late in (False, True))
    columns = ("step", "images_seen", "lr", "loss")
    assert [[r[c] for c in columns] for r in first] == [[r[c] for c in columns] for r in second]


def test_rows_of_a_run_that_left_no_checkpoint_are_dropped(tmp_path):
    with pytest.raises(Stop):  # the default saves once a minute: nothing was saved
        run(tmp_path, steps=8, validate=score, on_progress=stop_at(5))
    assert checkpoint.load(tmp_path) is None
    assert len(rows(tmp_path / "log.csv")) == 5 and (tmp_path / "curve.csv").exists()
    with pytest.raises(NonFiniteLoss):
        run(tmp_path, steps=8, bad_step=1)
    assert not (tmp_path / "log.csv").exists() and not (tmp_path / "curve.csv").exists()


def test_non_finite_gradient_is_never_saved(tmp_path, looked_at):
    detector = tiny()
    detector.linear.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteLoss, match=r"step 1: cls .*gradient norm"):
        run(tmp_path, detector, checkpoint_seconds=0)
    assert checkpoint.load(tmp_path) is None


def test_the_gradient_is_clipped(tmp_path):
    """Plain SGD at lr 1 moves the weights by at most clip_norm in one step."""
    before = tiny().state_dict()
    changes = {"optimizer": "momentum", "lr": 1.0, "weight_decay": 0.0, "warmup": 0.0}
    changes |= {"schedule": "constant", "ema_decay": None}
    moved = {}
    for clip in (1e-3, None):
        after = run(tmp_path / str(clip), steps=1, recipe={**changes, "clip_norm": clip})
        named = dict(after.named_parameters())
        squares = [(named[name].detach() - before[name]).square().sum() for name in named]
        moved[clip] = float(torch.stack(squares).sum().sqrt())
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert moved[None] > 1e-2


def test_no_batches_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no image"):
        run(tmp_path, steps=0, recipe={"images_seen": 99})


def test_bf16_trains_and_losses_are_written_in_full(tmp_path):
    detector = run(tmp_path, steps=30, precision="bf16", channels_last=True)
    assert score(detector)["AP"] == 1
    assert detector.conv.weight.dtype == torch.float32
    assert detector.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_disk_that_fills_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    saves = []

    def full(state, path):
        saves.append(state["step"])
        if len(saves) == 3:
            Path(path).write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        return save(state, path)

    save = torch.save
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, steps=6, checkpoint_seconds=0)
    assert checkpoint.load(tmp_path)["step"] == 2
    assert "No space left" in status.read(tmp_path)["error"]
    assert not list(tmp_path.glob(".*.tmp"))


def test_torch_s_error_for_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(state, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"No space left on the disk, .* needed; make space"):
        run(tmp_path, steps=2)
    assert status.read(tmp_path)["state"] == "failed"
    monkeypatch.undo()
    run(tmp_path, steps=2)
    assert status.read(tmp_path)["state"] == "done"


def test_too_little_space_is_reported_before_the_first_step(tmp_path, monkeypatch):
    free = checkpoint.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: free)
    with pytest.raises(OSError, match=r"No space left .* and 1\.\d MB needed"):
        run(tmp_path, on_progress=stop_at(1))
    assert status.read(tmp_path)["state"] == "failed" and not (tmp_path / "log.csv").exists()


def test_a_disk_without_a_free_byte_still_gets_the_state(tmp_path, monkeypatch):
    update = status.update

    def full(run_dir, **fields):
        if fields.get("state") == "failed":
            raise OSError(28, "No space left on device")
        update(run_dir, **fields)

    monkeypatch.setattr(status, "update", full)
    with pytest.raises(Stop):
        run(tmp_path, on_progress=stop_at(2))
    found = status.read(tmp_path)
    assert (found["state"], found["stage"]) == ("failed", "train") and "Stop" in found["error"]


def spoil(state, key, value):
    state[key] = value


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("model"),
        lambda state: state.pop("optimizer"),
        lambda state: state.pop("random"),
        lambda state: state.pop("steps"),
        lambda state: spoil(state, "recipe", [1]),
        lambda state: spoil(state, "step", "two"),
        lambda state: spoil(state, "step", 10**6),
        lambda state: spoil(state, "random", {"torch": torch.zeros(2)}),
        lambda state: spoil(state, "ema", None),
        lambda state: spoil(state["model"], "linear.weight", torch.full((3, 8), float("nan"))),
        lambda state: spoil(state["model"], "linear.weight", torch.zeros(3, 8, dtype=torch.int64)),
        lambda state: spoil(state["model"], "linear.weight", torch.zeros(1).expand(10**9)),
        lambda state: spoil(state["optimizer"], "param_groups", []),
        lambda state: [
            spoil(moments, "exp_avg" if "exp_avg" in moments else "momentum_buffer", torch.ones(5))
            for moments in state["optimizer"]["state"].values()
        ],
    ],
)
def test_a_checkpoint_damaged_in_any_way_is_one_error(tmp_path, damage):
    with pytest.raises(Stop):
        run(tmp_path, steps=4, checkpoint_seconds=0, on_progress=stop_at(3))
    state = checkpoint.load(tmp_path)
    damage(state)
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: .*remove it to train again"):
        run(tmp_path, steps=4)


def test_a_recipe_of_before_it_had_a_key_goes_on(tmp_path):
    with pytest.raises(Stop):
        run(tmp_path, steps=4, checkpoint_seconds=0, on_progress=stop_at(3))
    state = checkpoint.load(tmp_path)
    assert state["recipe"].pop("ema_power")
    torch.save(state, tmp_path / "checkpoint.pt")
    run(tmp_path, steps=4)
    assert status.read(tmp_path)["state"] == "done"


@pytest.mark.parametrize("name", ["log.csv", "curve.csv"])
@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"a,b\n1,2\n", b"images_seen\nmany\n", b"x" * 200000]
)
def test_a_damaged_log_is_named_and_stops_no_finished_run(tmp_path, name, content):
    with pytest.raises(Stop):
        run(tmp_path, steps=4, checkpoint_seconds=0, on_progress=stop_at(3), validate=score)
    (tmp_path / name).write_bytes(content + b"\n" + content)
    with pytest.raises(ValueError, match=rf"{name}: .*remove it, and training continues"):
        run(tmp_path, steps=4)
    (tmp_path / name).unlink()
    run(tmp_path, steps=4, validate=score)
    (tmp_path / name).write_bytes(content)
    run(tmp_path, steps=4)  # is over, and says so
    assert status.read(tmp_path)["state"] == "done"


def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path):
    """SIGKILL between steps, in the middle of one, and while a checkpoint is written."""
    steps = 50
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(whole, steps=steps, validate=score)
    server = multiprocessing.get_context("forkserver")
    # imported once and not once a process; it finds only what is installed
    server.set_forkserver_preload(["torchvision.transforms.v2", "timm.optim", "timm.utils"])

    def start():
        listen, tell = server.Pipe(duplex=False)
        process = server.Process(target=train_and_tell, args=(str(cut), steps, tell))
        process.start()
        tell.close()
        return process, listen

    dice = random.Random(0)
    reached = 0
    for _ in range(5):
        process, listen = start()
        aim = reached + dice.randint(2, 8)
        while reached < aim:
            reached = listen.recv()
        time.sleep(dice.uniform(0, 0.03))  # a step and its checkpoint take about as long
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with suppress(EOFError):
            while True:
                reached = listen.recv()
        assert reached < steps, "it was over before it was killed"
        assert status.read(cut)["state"] == "interrupted"
        state = checkpoint.load(cut)
        assert state["step"] in (reached - 1, reached)
        reached = state["step"]

    process, listen = start()
    process.join()
    assert process.exitcode == 0
    assert listen.recv() == reached + 1  # it went on, it did not begin anew
    states = [checkpoint.load(folder) for folder in (whole, cut)]
    for name in ("model", "ema"):
        assert_equal(states[0][name], states[1][name])
    for name, columns in (("log.csv", ["step", "loss"]), ("curve.csv", ["images_seen", "AP"])):
        first, second = (rows(folder / name) for folder in (whole, cut))
        assert [[r[c] for c in columns] for r in first] == [[r[c] for c in columns] for r in second]
    assert status.read(cut)["state"] == "done"
    assert not list(cut.glob(".checkpoint*.tmp"))


def scores_of(*aps):
    """A validation that gives these APs by the number of steps of 10 that were made."""

    def validate(detector):
        ap = aps[validate.calls]
        validate.calls += 1
        return {"AP": ap, "AP50": ap}

    validate.calls = 0
    return validate


@pytest.mark.parametrize(
    ("aps", "seen"),
    [
        ((0.1, 0.3, 0.3, 0.2, 0.9, 0.9, 0.9, 0.9), 64),  # 0.3 again is no rise
        ((0.3, 0.2, 0.4, 0.3, 0.5, 0.6, 0.5, 0.7), 128),
        ((None, None, None, 0.1), 48),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6), 128),
    ],
)
def test_patience_ends_a_training_whose_ap_has_not_risen(tmp_path, aps, seen, capsys):
    options = {"steps": 32, "recipe": {"val_points": 8, "patience": 2}}
    detector = run(tmp_path, validate=scores_of(*aps), **options)
    found = status.read(tmp_path)
    assert (found["state"], found["images_seen"]) == ("done", seen)
    assert len(rows(tmp_path / "curve.csv")) == seen // 16 and not detector.training
    assert ("no AP of the last 2 points" in capsys.readouterr().err) == (seen < 128)
    again = scores_of()  # asks for nothing: the decision stands in the run
    assert_equal(run(tmp_path, validate=again, **options).state_dict(), detector.state_dict())
    assert again.calls == 0


def test_a_run_with_patience_that_was_cut_off_stops_at_the_same_point(tmp_path):
    aps = (0.1, 0.3, 0.2, 0.1, 0.9, 0.9, 0.9, 0.9)
    options = {"steps": 32, "recipe": {"val_points": 8, "patience": 2}, "checkpoint_seconds": 0}
    whole = run(tmp_path / "whole", validate=scores_of(*aps), **options)
    for step in (6, 13, 16):
        done = len(rows(tmp_path / "cut" / "curve.csv")) if step > 6 else 0
        with pytest.raises(Stop):
            validate = scores_of(*aps[done:])
            run(tmp_path / "cut", validate=validate, on_progress=stop_at(step), **options)
    done = len(rows(tmp_path / "cut" / "curve.csv"))
    cut = run(tmp_path / "cut", validate=scores_of(*aps[done:]), **options)
    assert status.read(tmp_path / "cut")["images_seen"] == 64
    assert_equal(whole.state_dict(), cut.state_dict())


def test_batches_of_the_fake_are_what_the_contract_says():
    first, again = batch(3), batch(3)
    assert torch.equal(first[0].pixels, again[0].pixels)
    ids = [i.frames[0].id for i, _ in FakeBatches(5).iterate(3)]
    assert ids == [12, 16]


def test_a_norm_that_its_owner_froze_stays_frozen(tmp_path):
    """Through training and through validation of the weights themselves."""
    detector = tiny().train()
    detector.norm.eval()
    modes = []

    def validate(scored):
        assert not scored.training and not scored.dropout.training
        return score(scored)

    detector.norm.register_forward_hook(lambda norm, *_: modes.append(norm.training))
    train(
        detector,
        FakeBatches(6),
        recipe(6, ema_decay=None, val_points=2),
        tmp_path,
        validate=validate,
        progress=False,
    )
    assert modes and not any(modes)
    assert detector.norm.num_batches_tracked == 0


class TwoStages(Freezable):
    """Tiny's convolution, and its batch norm, as two stages of a backbone."""

    def __init__(self, detector):
        super().__init__()
        self.conv, self.norm = detector.conv, detector.norm
        self.freeze(1)

    @property
    def stages(self):
        return [[self.conv], [self.norm]]

    def forward(self, x):
        return self.norm(self.conv(x))


def test_a_frozen_backbone_stays_as_it_was_through_validation_average_and_resumption(tmp_path):
    def made():
        detector = tiny().train()
        detector.backbone = TwoStages(detector)
        detector.conv, detector.norm = nn.Identity(), detector.backbone
        return detector

    before, options = made().state_dict(), {"steps": 20, "validate": score}
    whole = run(tmp_path / "whole", detector=made(), **options)
    for step in (3, 11):
        with pytest.raises(Stop):
            run(
                tmp_path / "cut",
                detector=made(),
                checkpoint_seconds=0,
                on_progress=stop_at(step),
                **options,
            )
    resumed = run(tmp_path / "cut", detector=made(), **options)
    assert_equal(whole.state_dict(), resumed.state_dict())
    for state in (whole.state_dict(), checkpoint.load(tmp_path / "cut")["model"]):
        moved = {name for name, value in state.items() if not torch.equal(value, before[name])}
        assert moved == {"linear.weight", "linear.bias"}


def test_rates_are_the_recipe_s_times_the_part_s_factor(tmp_path):
    class Parted(Tiny):
        linear = property(lambda self: self.head)

        def __init__(self):
            super().__init__()
            self.head = self._modules.pop("linear")

    rates = []

    class Looked(Recipe):
        def make_optimizer(self, model):
            optimizer = super().make_optimizer(model)
            optimizer.register_step_pre_hook(
                lambda o, *_: rates.append({g["lr_scale"]: g["lr"] for g in o.param_groups})
            )
            return optimizer

    own = Looked(**(asdict(recipe(4)) | {"schedule": "constant", "warmup": 0.5, "head_lr": 0.1}))
    train(Parted(), FakeBatches(4), own, tmp_path, progress=False)
    assert [r[1.0] for r in rates] == pytest.approx([0.01, 0.02, 0.02, 0.02])
    assert [r[0.1] for r in rates] == pytest.approx([0.001, 0.002, 0.002, 0.002])


@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_the_backward_pass_has_the_precision_of_the_training(tmp_path, name):
    seen = []
    detector = tiny()
    detector.conv.weight.register_hook(lambda _: seen.append(torch.backends.cudnn.allow_tf32))
    train(detector, FakeBatches(2), recipe(2), tmp_path, precision=name, progress=False)
    assert seen == [name == "tf32"] * 2 and torch.backends.cudnn.allow_tf32
