from __future__ import annotations

import gc
import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from detzoo.data.jpeg import decoder
from detzoo.data.resize import Letterbox, ShortestSide
from detzoo.engine.precision import Mode
from detzoo.files import read_json, write_json
from detzoo.imagefile import ImageFile
from detzoo.speed import clock
from detzoo.speed.clock import TimingError, measure, spaced
from detzoo.speed.machine import cpu_model
from detzoo.speed.stages import STAGES

from .fakes import FakeDetector, jpeg


@pytest.fixture
def time_all(device, monkeypatch):
    """`measure` on the fake device, without what asks the real machine."""
    monkeypatch.setattr(clock.cost, "peak_memory_mb", lambda detector, images: 7.0)
    monkeypatch.setattr(clock.Bystanders, "load", lambda self: 0.0)

    def run(works: dict, paths, **options):
        detectors = {name: FakeDetector(device, work) for name, work in works.items()}
        fixed = {"lock": False, "progress": False, "seconds": 2000.0}
        fakes = {"clock": device.clock, "synchronize": device.synchronize}
        return measure(detectors, paths, **{**fixed, **fakes, **options})

    return run


def four(call, batch):
    return 4.0


def test_the_content_of_speed_json(time_all, paths, tmp_path):
    found = time_all({"a": four, "b": lambda call, batch: 8.0}, paths, rounds=13)
    assert list(found) == ["a", "b"]
    a, b = found["a"], found["b"]
    assert (a["n"], a["rounds"], a["images"], a["batch"], a["shapes"]) == (104, 13, 10, 1, 1)
    assert (a["device"], a["precision"], a["channels_last"]) == ("cpu", "fp32", False)
    same = {"p50": 4125.0, "p90": 4125.0, "p99": 4125.0, "mean": 4125.0, "n": 104}
    assert list(a["stages"]) == list(STAGES)
    assert a["stages"]["network"] == same
    assert a["stages"]["decode"]["p50"] == 250.0
    assert a["end_to_end"]["p50"] == 5875.0 and b["end_to_end"]["p50"] == 9875.0
    assert a["end_to_end"]["interval"] == [5875.0, 5875.0]
    assert a["samples"]["image"] == b["samples"]["image"]
    assert (a["input"], a["parameters"], a["peak_memory_mb"]) == ([1, 3, 8, 8], 3, 7.0)
    assert a["gmacs"] == 0.0
    assert a["throughput"]["batch"] > 1
    assert (a["warmup"]["settled"], a["warmup"]["passes"]) == (True, 10)
    assert a["fingerprint"]["resize"] == Letterbox(8).describe()
    assert (a["fingerprint"]["score_threshold"], a["fingerprint"]["max_dets"]) == (0.001, 100)
    assert a["warnings"] == []
    write_json(tmp_path / "speed.json", a)
    a["samples"]["shape"] = [list(shape) for shape in a["samples"]["shape"]]
    assert read_json(tmp_path / "speed.json") == a


def test_a_turned_photograph_is_timed_the_way_up_that_it_is_scored(time_all, tmp_path):
    """The same file, 16 x 32 as stored: without an annotation it is shown upright."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(orientation=6))
    for file, sides in [
        (path, [16, 8]),
        (ImageFile(path, (32, 16)), [16, 8]),
        (ImageFile(path, (16, 32)), [8, 16]),
        (ImageFile(path, (16, 32), "stored"), [8, 16]),
    ]:
        found = time_all({"a": four}, [file], rounds=1, resizes={"a": ShortestSide(8, 99)})["a"]
        assert found["input"] == [1, 3, *sides]


def test_every_row_is_set_against_the_reference_pair_by_pair(time_all, paths):
    works = {"a": four, "b": lambda call, batch: 8.0}  # 5.875 and 9.875 s a pass
    found = time_all(works, paths, rounds=3)
    assert found["a"]["against"] == {"reference": "a", "ratio": 1.0, "interval": [1, 1], "n": 24}
    slower = found["b"]["against"]
    assert slower["ratio"] == pytest.approx(9.875 / 5.875) and slower["reference"] == "a"
    found = time_all(works, paths, rounds=1, reference="b")
    assert found["a"]["against"]["ratio"] == pytest.approx(5.875 / 9.875)
    assert found["a"]["against"]["interval"] is None
    # (0.5 + 4.125 + 1) / 4.125: all but the 0.25 s of JPEG decoding
    assert found["a"]["overhead"]["p50"] == pytest.approx(5.625 / 4.125)
    with pytest.raises(ValueError, match="reference is 'c'; it must be one of a, b"):
        time_all(works, paths, reference="c")


def test_models_may_be_computed_each_in_its_own_way(time_all, paths):
    modes = {"a": Mode("fp32"), "b": Mode("bf16", channels_last=True)}
    found = time_all({"a": four, "b": four}, paths, rounds=1, mode=modes)
    for name, mode in modes.items():
        for place in (found[name], found[name]["fingerprint"]):
            assert (place["precision"], place["channels_last"]) == (
                mode.precision,
                mode.channels_last,
            )
            assert place["compile"] is False


def test_a_fingerprint_has_every_field(time_all, paths):
    found = time_all({"a": four}, paths, rounds=1)["a"]["fingerprint"]
    protocol = {"images_hash", "threads", "cpu", "gpu", "driver", "decoder", "batch"}
    same_object = {"weights_hash", "resize", "score_threshold", "max_dets", "device"}
    mode = {"precision", "channels_last", "compile"}
    assert set(found) == protocol | same_object | mode  # the rest is the run's: provenance()
    assert (found["cpu"], found["gpu"], found["driver"]) == (cpu_model(), None, None)
    assert found["decoder"] == decoder() and found["batch"] == 1


def test_what_was_in_an_image_stands_beside_its_time(time_all, paths):
    found = time_all({"a": four}, paths, rounds=1)["a"]["samples"]
    assert found["boxes"] == [1] * 8 and found["proposals"] == [None] * 8
    assert found["shape"] == [(8, 8)] * 8


def test_batch_sizes_that_were_asked_for_are_all_measured(time_all, paths):
    works = {"a": lambda call, batch: 4.0 * batch**2}  # a doubling would stop after 2
    found = time_all(works, paths, rounds=1, seconds=1.0, batches=[1, 3, 4])["a"]["throughput"]
    assert [point["batch"] for point in found["sweep"]] == [1, 3, 4]
    assert (found["batch"], found["stopped"]) == (1, "the last batch size given")
    with pytest.raises(ValueError, match="batches is 0"):
        time_all(works, paths, batches=[])


@pytest.mark.parametrize(
    ("counts", "gmacs", "spread", "images"),
    [
        ([2.0] * 8, 2.0, 0.0, 3),  # alike three times: a one-stage detector
        ([1.0, 3.0] * 4, 2.0, 8 / 7, 8),  # by what is in the image: mean and spread
    ],
)
def test_multiply_adds_are_a_mean_where_they_vary(
    time_all, paths, monkeypatch, counts, gmacs, spread, images
):
    counting = iter(counts)
    monkeypatch.setattr(clock.cost, "gmacs", lambda detector, batch: next(counting))
    found = time_all({"a": four}, paths, rounds=1)["a"]
    assert (found["gmacs"], found["gmacs_images"]) == (gmacs, images)
    assert found["gmacs_sd"] ** 2 == pytest.approx(spread)


def test_the_hash_is_of_the_images_timed(time_all, paths):
    found = time_all({"a": four}, paths, rounds=1, max_images=2)["a"]
    digests = [hashlib.sha256(Path(path).read_bytes()).digest() for path in (paths[0], paths[5])]
    assert found["images_hash"] == hashlib.sha256(b"".join(digests)).hexdigest()
    assert found["fingerprint"]["images_hash"] == found["images_hash"]
    assert found["fingerprint"]["cpu"] == cpu_model()


def test_all_ends_within_the_budget(time_all, paths, device):
    found = time_all({"a": four, "b": four}, paths, seconds=1000.0)
    assert 750.0 < device.now <= 1000.0
    assert found["a"]["rounds"] >= 5


def test_rounds_shrink_for_slow_detectors(time_all, paths):
    # A pass is 101.875 s. Warm-up takes 6 (611 s of 600), the sweep may take 600 and the cost 509,
    # which leaves 1279 s for rounds: 5 of 9 passes do not fit, nor 5 of 3 (one of them untimed).
    found = time_all({"a": lambda call, batch: 100.0}, paths, seconds=3000.0)["a"]
    assert (found["warmup"]["passes"], found["rounds"], found["n"]) == (6, 6, 6)


def test_a_number_of_rounds_is_kept_whatever_the_budget(time_all, paths):
    found = time_all({"a": four}, paths, rounds=3, seconds=1.0)["a"]
    assert (found["rounds"], found["n"]) == (3, 24)


def test_no_images_and_no_models_are_told(time_all, paths):
    with pytest.raises(ValueError, match="got no images"):
        time_all({"a": four}, [])
    with pytest.raises(ValueError, match="no models"):
        time_all({}, paths)
    with pytest.raises(ValueError, match="seconds is 0"):
        time_all({"a": four}, paths, seconds=0)
    with pytest.raises(ValueError, match="rounds is 0"):
        time_all({"a": four}, paths, rounds=0)


def test_a_broken_image_is_named_before_anything_is_timed(time_all, paths, device):
    paths[3].write_bytes(jpeg()[:100])
    with pytest.raises(ValueError, match=r"3\.jpg"):
        time_all({"a": four}, paths)


def test_a_failing_detector_is_named(time_all, paths):
    with pytest.raises(TimingError) as error:
        time_all({"a": four, "bad": lambda call, batch: 1 / 0}, paths)
    assert error.value.name == "bad"


def test_garbage_is_not_collected_while_timing(time_all, paths):
    collecting = []
    time_all({"a": lambda call, batch: collecting.append(gc.isenabled()) or 4.0}, paths, rounds=1)
    assert set(collecting) == {False}
    assert gc.isenabled()
    with pytest.raises(TimingError):
        time_all({"a": lambda call, batch: 1 / 0}, paths)
    assert gc.isenabled()


@pytest.mark.parametrize("fixed", [True, False])
def test_cudnn_chooses_among_algorithms_only_where_shapes_are_fixed(time_all, paths, fixed):
    chosen, before = set(), torch.backends.cudnn.benchmark

    def work(call, batch):
        chosen.add(torch.backends.cudnn.benchmark)
        return 4.0

    if not fixed:
        paths[0].write_bytes(jpeg(32, 16))
    time_all({"a": work}, paths, rounds=1, resizes={"a": ShortestSide(8, 16)})
    assert chosen == {fixed} and torch.backends.cudnn.benchmark == before


def test_the_lock_is_held_exactly_while_timing(time_all, paths, monkeypatch, tmp_path):
    from detzoo.speed.lock import timing_lock

    lock = tmp_path / "lock"
    monkeypatch.setattr(clock, "timing_lock", lambda: timing_lock(lock))
    free = []

    def work(call, batch):
        try:
            with timing_lock(lock, timeout=0):
                free.append(True)
        except TimeoutError:
            free.append(False)
        return 4.0

    time_all({"a": work}, paths, rounds=1, lock=True)
    assert set(free) == {False}
    with timing_lock(lock, timeout=0):
        pass


def test_own_resize_unless_another_is_given(time_all, paths):
    found = time_all({"a": four}, paths, rounds=1, resizes={"a": Letterbox((12, 24))})["a"]
    assert found["input"] == [1, 3, 12, 24]
    assert found["fingerprint"]["resize"]["size"] == [12, 24]


def test_shapes_that_vary_are_told(time_all, paths):
    paths[0].write_bytes(jpeg(32, 16))
    found = time_all({"a": four}, paths, rounds=2, resizes={"a": ShortestSide(8, 16)})["a"]
    assert found["shapes"] == 2 == found["warmup"]["shapes"]
    assert found["input"] == [1, 3, 8, 16]
    assert "the input has 2 shapes; the percentiles mix them" in found["warnings"]


def test_what_is_timed_is_folded_as_what_is_scored(time_all, paths, monkeypatch):
    prepared, prepare = [], clock.prepare
    monkeypatch.setattr(
        clock, "prepare", lambda *a, **k: (prepared.append(k["inference"]), prepare(*a, **k))[1]
    )
    time_all({"a": four, "b": four}, paths, rounds=1)
    assert prepared == [True, True]


def test_the_threads_of_the_network_are_recorded(time_all, paths, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    found = time_all({"a": four}, paths, rounds=1)["a"]
    assert found["threads"] == found["fingerprint"]["threads"] == 7


def test_a_card_held_back_for_a_moment_within_a_round_is_told_of(time_all, paths, monkeypatch):
    held = iter([set(), set(), {"power cap"}])  # when made and twice in rounds; later nothing
    card = SimpleNamespace(clocks=dict, throttles=lambda: next(held, set()), joules=lambda: None)
    monkeypatch.setattr(clock.Card, "find", lambda device: card)
    found = time_all({"a": four, "b": four}, paths, rounds=3)["a"]
    assert found["clocks"]["throttles"] == ["power cap"]
    assert "the GPU was held back while timing ran: power cap" in found["warnings"]


def test_thinning_is_even_and_keeps_what_is_few():
    assert spaced(list("abcdefghij"), 5) == list("acegi")
    assert spaced(list("abc"), 5) == list("abc")
    assert spaced(list(range(7)), 3) == [0, 2, 4]
