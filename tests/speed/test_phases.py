from __future__ import annotations

from collections import Counter

import pytest
import torch

from detzoo.speed.phases import run_rounds, sweep, warm_up
from detzoo.speed.stages import STAGES

from .fakes import jpeg

SMALL, WIDE = (8, 8), (8, 16)


def quiet(*args, **kwargs):
    pass


def rounds_of(pipelines, images, **changes):
    options = {"images_per_round": 3, "seconds": 1.0, "rounds": 4, "seed": 0, "show": quiet}
    return run_rounds(pipelines, images, **{**options, **changes})


# -- warm-up --------------------------------------------------------------------------------------


def test_a_steady_detector_needs_two_windows(pipeline):
    found = warm_up(pipeline(), [jpeg()], [SMALL], seconds=1e9)
    assert (found["passes"], found["settled"], found["seconds"]) == (10, True, 10 * 5.875)
    assert found["last_median_ms"] == 5875.0


def test_warm_up_goes_on_until_the_medians_meet(pipeline):
    # Five slow passes, then fast ones. After 12 the older window is slow slow slow fast fast, its
    # median still slow; after 13 it is slow slow fast fast fast.
    found = warm_up(pipeline(lambda call, batch: 40.0 if call < 5 else 4.0), [jpeg()], [SMALL], 1e9)
    assert (found["passes"], found["settled"]) == (13, True)


@pytest.mark.parametrize(("change", "passes"), [(1.019, 10), (1.021, 13)])
def test_two_percent_is_the_line(pipeline, device, change, passes):
    fake = pipeline(lambda call, batch: 4.0 * (change if call >= 5 else 1.0) - 0.125 * 1.0)
    # The network's own seconds are 4 and 4 x change: the launch is taken off above.
    assert warm_up(fake, [jpeg()], [SMALL], 1e9)["passes"] == passes


def test_the_whole_must_settle_too(pipeline):
    fake = pipeline()
    decode = fake.detector.decode

    def slow_at_first(outputs, sizes):
        fake.detector.postprocess = 50.0 if len(fake.detector.batches) <= 5 else 1.0
        return decode(outputs, sizes)

    fake.detector.decode = slow_at_first
    assert warm_up(fake, [jpeg()], [SMALL], 1e9)["passes"] == 13


def test_warm_up_is_bounded_and_says_so(pipeline):
    # Passes take 2, 4, 8, 16, ... seconds, and what is not the network 1.875 each.
    found = warm_up(
        pipeline(lambda call, batch: 2.0 ** (call + 1)), [jpeg()], [SMALL], seconds=25.0
    )
    assert (found["passes"], found["settled"], found["shapes_settled"]) == (4, False, 0)
    assert found["seconds"] == 2 + 4 + 8 + 16 + 4 * 1.875


def test_every_shape_is_warmed_up_the_frequent_one_first(pipeline):
    images = [jpeg(grey=20), jpeg(grey=40), jpeg(grey=60)]
    fake = pipeline()
    found = warm_up(fake, images, [WIDE, SMALL, SMALL], seconds=1e9)
    assert (found["passes"], found["shapes"], found["shapes_settled"]) == (20, 2, 2)
    assert fake.detector.seen == [40, 60] * 5 + [20] * 10


def test_a_shape_that_time_does_not_reach_is_not_settled(pipeline):
    found = warm_up(pipeline(), [jpeg(), jpeg()], [SMALL, WIDE], seconds=3.0)
    assert (found["passes"], found["settled"], found["shapes_settled"]) == (1, False, 0)


# -- rounds ---------------------------------------------------------------------------------------


def test_all_detectors_see_the_same_images_in_a_round(pipeline):
    pipelines = {name: pipeline(name=name) for name in "abc"}
    images = [jpeg(grey=20 * i) for i in range(5)]
    samples = rounds_of(pipelines, images)
    pairs = [(s.round, s.image) for s in samples["a"]]
    assert pairs == [(s.round, s.image) for s in samples["b"]]
    assert [r for r, _ in pairs] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    # Twelve passes over five images: they go round, none is left out.
    assert sorted(Counter(i for _, i in pairs).values()) == [2, 2, 2, 3, 3]
    assert [image for _, image in pairs[:5]] != sorted(range(5))  # in no order of the files
    # And they are what the detectors saw, but for the untimed pass at the start of each turn.
    seen = pipelines["a"].detector.seen
    assert len(seen) == 16
    assert [grey // 20 for i, grey in enumerate(seen) if i % 4] == [i for _, i in pairs]


def test_the_order_of_detectors_changes_and_follows_the_seed(pipeline):
    def order(seed):
        turns = []
        pipelines = {name: pipeline(name=name) for name in "abc"}

        def show(what, left=None):
            if what:
                turns.append(what[-1])

        rounds_of(pipelines, [jpeg()], rounds=8, seed=seed, show=show)
        return ["".join(turns[i : i + 3]) for i in range(0, 24, 3)]

    first = order(0)
    assert all(sorted(turn) == ["a", "b", "c"] for turn in first)
    assert len(set(first)) >= 3
    assert first == order(0) != order(1)


def test_a_machine_that_slows_down_favours_nobody(pipeline, device):
    # Twins on a machine that gets twice as slow and more. One after the other, the second twin
    # would seem far slower than the first.
    def drifting(call, batch):
        return 1.0 + device.now / 1000

    pipelines = {name: pipeline(drifting, name) for name in "ab"}
    samples = rounds_of(pipelines, [jpeg()], rounds=60)
    first, second = (sum(sum(s.seconds) for s in samples[name]) for name in "ab")
    assert device.now > 1000
    assert first / second == pytest.approx(1.0, abs=0.01)


def test_the_untimed_pass_is_in_no_sample(pipeline):
    # The first of every four passes is slow, as if another detector had emptied the caches.
    slow = pipeline(lambda call, batch: 4.0 if call % 4 else 99.0)
    network = STAGES.index("network")
    assert {s.seconds[network] for s in rounds_of({"a": slow}, [jpeg()])["a"]} == {4.125}


def test_as_many_rounds_as_fit_and_at_least_one(pipeline):
    # A round is four passes of 5.875 s: 23.5 s. Four end at 94, a fifth would end at 117.5.
    assert rounds_of({"a": pipeline()}, [jpeg()], rounds=None, seconds=117.0)["a"][-1].round == 3
    assert rounds_of({"a": pipeline()}, [jpeg()], rounds=None, seconds=118.0)["a"][-1].round == 4
    assert len(rounds_of({"a": pipeline()}, [jpeg()], rounds=None, seconds=-1.0)["a"]) == 3


# -- batch sweep ----------------------------------------------------------------------------------


def swept(pipelines, seconds=1e9, max_batch=64):
    samples = rounds_of(pipelines, [jpeg()], rounds=1)
    options = {"samples": samples, "seed": 0, "show": quiet}
    return sweep(pipelines, [jpeg()] * 3, max_batch=max_batch, seconds=seconds, **options)


def up_to_four(call: int, batch: int) -> float:
    """A device that does up to four images in the time of one.

    Decoding is 0.25 an image; preprocessing, launch and postprocessing are 1.625 a batch.
    """
    return 14.375 if batch <= 4 else 14.375 * batch / 4


def test_the_sweep_ends_when_doubling_gains_nothing(pipeline):
    found = swept({"a": pipeline(up_to_four)})["a"]
    speeds = [1 / 16.25, 2 / 16.5, 4 / 17, 8 / (28.75 + 2 + 1.625), 16 / (57.5 + 4 + 1.625)]
    assert [p["batch"] for p in found["sweep"]] == [1, 2, 4, 8, 16]
    assert [p["images_per_second"] for p in found["sweep"]] == pytest.approx(speeds)
    # 4 to 8 gains 5%, 8 to 16 gains 2.6%: too little to go on, and yet the best.
    assert (found["batch"], found["stopped"]) == (16, "no gain")
    assert found["images_per_second"] == pytest.approx(16 / 63.125)


def test_the_best_batch_is_not_the_last(pipeline):
    found = swept({"a": pipeline(lambda call, batch: 4.0 * batch**2)})["a"]
    assert (found["batch"], found["stopped"]) == (1, "no gain")
    assert [p["batch"] for p in found["sweep"]] == [1, 2]


def test_the_first_pass_of_a_batch_size_is_not_timed(pipeline):
    sizes = []

    def slow_at_new_sizes(call, batch):
        sizes.append(batch)
        return 99.0 if sizes.count(batch) == 1 else 4.0

    found = swept({"a": pipeline(slow_at_new_sizes)}, max_batch=2)["a"]
    assert found["sweep"][1]["images_per_second"] == pytest.approx(2 / 6.125)


def test_where_memory_ends_the_sweep_ends(pipeline):
    def work(call, batch):
        if batch == 4:
            raise torch.OutOfMemoryError("too much")
        return 4.0

    found = swept({"a": pipeline(work), "b": pipeline()}, max_batch=8)
    assert (found["a"]["batch"], found["a"]["stopped"]) == (2, "memory")
    assert (found["b"]["batch"], found["b"]["stopped"]) == (8, "the largest batch allowed")


def test_the_sweep_keeps_to_its_time(pipeline, device):
    # Batch 1 takes 9 passes of 5.875 s, 53 s; batch 2 would take 5 of 2 images: 59 s as predicted.
    fake = pipeline()
    begin = device.now
    found = swept({"a": fake}, seconds=100.0)["a"]
    assert device.now - begin - 4 * 5.875 == 9 * 5.875
    assert (found["batch"], found["stopped"]) == (1, "time budget")


def test_without_time_the_rounds_stand_for_batch_one(pipeline):
    fake = pipeline()
    found = swept({"a": fake}, seconds=0.0)["a"]
    assert len(fake.detector.batches) == 4
    assert found["sweep"] == [{"batch": 1, "images_per_second": pytest.approx(1 / 5.875)}]


def test_detectors_take_turns_in_the_sweep(pipeline):
    turns = []

    def record(name):
        return lambda call, batch: turns.append(name) or 4.0

    pipelines = {name: pipeline(record(name), name) for name in "ab"}
    swept(pipelines, max_batch=1)
    pairs = [turns[i : i + 2] for i in range(8, len(turns), 2)]
    assert len(pairs) == 9
    assert all(sorted(pair) == ["a", "b"] for pair in pairs)
