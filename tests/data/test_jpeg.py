"""JPEGs decoded on a pretended GPU: torchvision's own decoder on the CPU, called for `cuda`."""

from __future__ import annotations

import io
from importlib import metadata

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from detzoo.data import Letterbox, jpeg, load_image, load_picture
from detzoo.data.jpeg import check_decoder, decoder, decoding
from detzoo.data.workers import choose_workers
from detzoo.workflow.settings import runtime

GIVEN = {"device": "cpu", "precision": "fp32", "channels_last": False, "threads": None}


def encoded(mode: str = "RGB", **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(pixels).resize((64, 48)).convert(mode)
    image.save(file, "JPEG", quality=95, **options)
    return file.getvalue()


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The devices that decoded; their pixels are one shade brighter, so that it shows."""
    devices, decode = [], torchvision.io.decode_jpeg

    def fake(data, mode, device):
        devices.append(str(device))
        return decode(data, mode=mode).clamp(max=254) + 1

    monkeypatch.setattr(jpeg.torchvision_io, "decode_jpeg", fake)
    return devices


def test_a_gpu_decodes_what_is_loaded_within_and_nothing_else(asked):
    data = encoded()
    plain, name = load_image(data).astype(int), decoder()
    with decoding("cuda", "cuda:1"):
        asked.clear()  # the trial
        found = load_picture(data, Letterbox(16))
        assert decoder() == f"nvJPEG by torchvision {metadata.version('torchvision')}, whole"
        assert asked == ["cuda:1"] and found.size == (48, 64)
    assert found.pixels.shape == (48, 64, 3) and found.pixels.dtype == np.uint8
    assert np.abs(found.pixels - plain.clip(max=254) - 1).max() <= 2  # another libjpeg
    assert np.array_equal(load_image(data), plain) and asked == ["cuda:1"]
    assert decoder() == name and "nvJPEG" not in name


def test_what_a_gpu_cannot_decode_is_decoded_as_elsewhere(asked, monkeypatch):
    turned = Image.Exif()
    turned[0x0112] = 6
    others = [encoded("CMYK"), encoded(exif=turned.tobytes())]
    plain = [load_image(data) for data in others]
    with decoding("cuda", "cuda"):
        asked.clear()
        for data, expected in zip(others, plain, strict=True):
            assert np.array_equal(load_image(data), expected)
        assert asked == []

        def fails(*_, **__):
            raise RuntimeError("nvjpegDecode failed: 5")

        monkeypatch.setattr(jpeg.torchvision_io, "decode_jpeg", fails)
        assert load_image(encoded()).shape == (48, 64, 3)
        with pytest.raises(ValueError, match="not a whole image"):
            load_image(encoded()[:300])


def test_where_no_gpu_decodes_it_is_said_at_once(monkeypatch):
    with pytest.raises(ValueError, match=r"runtime\.decoder is 'gpu'; choose one of auto, cuda"):
        check_decoder("gpu", "cpu")
    with pytest.raises(ValueError, match=r"on a CUDA device, and the device is cpu; use"):
        runtime({**GIVEN, "decoder": "cuda"})

    def fails(*_, **__):
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support\nstack")

    monkeypatch.setattr(jpeg.torchvision_io, "decode_jpeg", fails)
    with pytest.raises(ValueError, match=r"decodes no JPEG on cuda:0 .*nvJPEG support\); use"):
        check_decoder("cuda", torch.device("cuda", 0))


def test_the_process_that_has_the_gpu_decodes_itself():
    assert choose_workers("cuda", "auto", decoder="cuda") == 0
    assert choose_workers("cuda", 0, decoder="cuda") == 0
    with pytest.raises(ValueError, match=r"runtime\.workers is 4, and runtime\.decoder=cuda"):
        choose_workers("cuda", 4, decoder="cuda")


def test_a_decoder_is_a_setting_of_a_run_where_it_is_not_the_default(asked, monkeypatch):
    assert "decoder" not in runtime({**GIVEN, "decoder": "auto"})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    found = runtime({**GIVEN, "device": "cuda:0", "decoder": "cuda", "workers": "auto"})
    assert (found["decoder"], found["workers"]) == ("cuda", 0)
