from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detzoo.data.resize import Letterbox
from detzoo.speed.stages import STAGES, TimingError

from .fakes import DECODE, LAUNCH, POSTPROCESS, PREPROCESS, jpeg


def test_every_second_is_in_its_stage(pipeline):
    # The network returns after 0.125 s and its work is done after 4 more: both are the network's.
    taken = pipeline()([jpeg()])
    assert dict(zip(STAGES, taken.seconds, strict=True)) == {
        "decode": DECODE,
        "proposals": 0.0,
        "preprocess": PREPROCESS,
        "transfer": 0.0,
        "network": LAUNCH + 4.0,
        "postprocess": POSTPROCESS,
        "restore": 0.0,
    }
    assert taken.network == 4.125
    assert taken.end_to_end == 5.875


def test_proposals_are_a_stage_of_their_own(pipeline, device):
    class Slow:
        def __call__(self, image):
            device.spend(2.0)
            return np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)

    fake, given = pipeline(), []
    fake.detector.proposer = Slow()
    network = fake.detector.network
    fake.detector.network = lambda images: given.append(images.proposals) or network(images)
    taken = fake([jpeg(16, 32), jpeg(8, 8)])
    assert dict(zip(STAGES, taken.seconds, strict=True))["proposals"] == 4.0
    assert taken.end_to_end == 5.875 + 4 + DECODE  # of a second image
    assert [p.tolist() for p in given[0]] == [[[0, 0, 8, 4]], [[0, 0, 8, 8]]]  # as the network sees


def test_an_image_is_decoded_for_the_resize_that_is_timed(pipeline):
    asked, fake = [], pipeline()
    fake = replace(fake, resize=Letterbox(16))
    picture_of = fake.detector.picture_of
    fake.detector.picture_of = lambda *a: (asked.append(a[1]), picture_of(*a))[1]
    assert fake([jpeg(16, 32)]).shape == (1, 3, 16, 16)
    assert asked == [fake.resize]


def test_work_from_before_is_nobodys(pipeline, device):
    device.launch(100.0)
    assert pipeline()([jpeg()]).seconds[0] == DECODE


def test_late_work_of_the_last_stage_is_waited_for(pipeline, device, monkeypatch):
    def late(detections, frame):
        device.launch(7.0)
        return detections

    monkeypatch.setattr("detzoo.speed.stages.to_original", late)
    assert pipeline()([jpeg()]).seconds[-1] == 7.0


def test_boxes_come_back_in_original_pixels(pipeline):
    # 16 x 32 into 8 x 8 is a factor of 1/4.
    taken = pipeline()([jpeg(16, 32), jpeg(8, 8)])
    assert taken.shape == (2, 3, 8, 8)
    assert [d.boxes.tolist() for d in taken.detections] == [[[4, 4, 12, 8]], [[1, 1, 3, 2]]]


def test_no_gradients_are_kept(pipeline):
    fake = pipeline()
    grad = []
    fake.detector.decode = lambda outputs, sizes: grad.append(torch.is_grad_enabled()) or []
    fake.detector.network = lambda images: None
    with pytest.raises(TimingError):  # no detections for an image
        fake([jpeg()])
    assert grad == [False]


def test_a_failure_names_its_detector(pipeline):
    fake = pipeline(lambda call, batch: 1 / 0, name="broken")
    with pytest.raises(TimingError, match="timing broken failed: ZeroDivisionError") as error:
        fake([jpeg()])
    assert error.value.name == "broken"


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_memory_that_ends_passes_as_it_is(pipeline, error):
    def work(call, batch):
        raise error

    with pytest.raises(type(error)) as raised:
        pipeline(work)([jpeg()])
    assert raised.value is error
