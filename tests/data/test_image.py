"""Loading, resizing and the way back: answers by hand, and round trips."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision import tv_tensors
from torchvision.transforms import v2

from detzoo.data import (
    Letterbox,
    ShortestSide,
    Stretch,
    collate_images,
    image,
    load_image,
    load_picture,
    resize_boxes,
    to_original,
)
from detzoo.data import jpeg as jpegs
from detzoo.data.augment import Flip, View, view_window
from detzoo.data.resize import resample
from detzoo.imagefile import ImageFile
from detzoo.types import Detections, Frame

sides = st.integers(8, 700)


def jpeg(array, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@pytest.fixture
def picture():
    """(40, 60, 3), smooth, different in every corner."""
    y, x = np.mgrid[:40, :60]
    return np.stack([x * 4, y * 6, 255 - x * 2 - y * 2], -1).astype(np.uint8)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


class TestLoading:
    def test_a_jpeg_gives_the_pixels_that_pil_gives(self, picture, tmp_path):
        path = tmp_path / "a.jpg"
        path.write_bytes(jpeg(picture))
        expected = np.asarray(Image.open(path).convert("RGB"))
        for source in (path, str(path), path.read_bytes(), Image.open(path)):
            assert np.array_equal(load_image(source), expected)

    @pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
    def test_other_modes_become_rgb(self, picture, mode, tmp_path):
        path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
        Image.fromarray(picture).convert(mode).save(path)
        assert np.array_equal(load_image(path), np.asarray(Image.open(path).convert("RGB")))

    def test_an_array_passes_through(self, picture):
        assert load_image(picture) is picture

    @pytest.mark.parametrize(
        ("bad", "error", "says"),
        [
            (np.zeros((4, 4), np.uint8), ValueError, r"\(4, 4\) uint8"),
            (np.zeros((4, 4, 3), np.float32), ValueError, "float32"),
            (np.zeros((3, 4, 4), np.uint8), ValueError, r"\(3, 4, 4\)"),
            (7, TypeError, "int"),
            ("nowhere.jpg", FileNotFoundError, "nowhere.jpg"),
            (b"no image", ValueError, "not a whole image"),
            (Image.new("I;16", (4, 4)), ValueError, "8 bits"),
        ],
    )
    def test_anything_else_is_refused_in_words(self, bad, error, says):
        with pytest.raises(error, match=says):
            load_image(bad)

    def test_a_truncated_jpeg_is_told_with_its_path(self, picture, tmp_path):
        path = tmp_path / "half.jpg"
        path.write_bytes(jpeg(picture)[:400])
        with pytest.raises(ValueError, match=r"half\.jpg: not a whole image"):
            load_image(path)

    def test_both_decoders_give_the_same_pixels(self, picture, monkeypatch):
        pytest.importorskip("simplejpeg")
        fast = load_image(jpeg(picture))
        assert jpegs.decoder().startswith("simplejpeg ")
        monkeypatch.setattr(jpegs, "simplejpeg", None)
        assert np.array_equal(load_image(jpeg(picture)), fast)
        assert jpegs.decoder().startswith("Pillow ")

    def test_an_image_is_upright_unless_the_annotation_gives_the_stored_size(self, picture):
        lying = jpeg(picture, exif=exif(6))  # "turn me a quarter clockwise to see me upright"
        stored = load_image(jpeg(picture))
        assert np.array_equal(load_image(lying), np.rot90(stored, -1))  # as OpenCV reads it
        assert np.array_equal(load_image(lying, (40, 60)), stored)
        assert np.array_equal(load_image(lying, (60, 40)), np.rot90(stored, -1))
        # No tag: nothing to turn by.
        assert load_image(jpeg(picture), (60, 40)).shape == (40, 60, 3)

    def test_a_file_of_a_data_set_brings_its_way_up_along(self, picture, tmp_path):
        path = tmp_path / "a.jpg"
        path.write_bytes(jpeg(picture, exif=exif(6)))
        stored = load_image(jpeg(picture))
        for file in (ImageFile(path, (40, 60)), ImageFile(path.read_bytes(), exif="stored")):
            assert np.array_equal(load_image(file), stored)
            assert load_picture(file, Letterbox(20)).size == (40, 60)
        assert np.array_equal(load_image(ImageFile(str(path))), np.rot90(stored, -1))

    @pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
    def test_all_orientations_are_those_of_pillow(self, picture, orientation, format):
        data = io.BytesIO()
        options = {"lossless": True} if format == "WEBP" else {}
        Image.fromarray(picture).save(data, format, exif=exif(orientation), **options)
        shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data.getvalue()))).convert("RGB")
        upright = load_image(data.getvalue())
        assert upright.shape == np.asarray(shown).shape
        assert np.abs(upright.astype(int) - np.asarray(shown)).max() <= 2  # two JPEG decoders
        plain = load_image(data.getvalue(), exif="stored")
        assert plain.shape == picture.shape
        assert np.array_equal(load_image(data.getvalue(), picture.shape[:2], "upright"), upright)

    @pytest.mark.parametrize("orientation", [0, 9, 255, -1])
    def test_an_orientation_outside_1_to_8_turns_nothing(self, picture, orientation):
        data = jpeg(picture, exif=exif(orientation) if orientation >= 0 else b"Exif\0\0nonsense")
        assert np.array_equal(load_image(data), load_image(jpeg(picture)))

    def test_more_pixels_than_pillow_allows_only_if_the_annotation_says_so(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        monkeypatch.setattr(image, "MAX_MEGAPIXELS", 0.002)
        data = io.BytesIO()
        Image.fromarray(np.zeros((60, 50, 3), np.uint8)).save(data, "PNG")
        with pytest.raises(ValueError, match=r"too large .*cut it into tiles$"):
            load_image(data.getvalue())
        with pytest.raises(ValueError, match=r"too large .*or raise data\.max_megapixels$"):
            load_image(data.getvalue(), (1, 1))
        assert load_image(data.getvalue(), (60, 50)).shape == (60, 50, 3)
        assert Image.MAX_IMAGE_PIXELS == 1000

    def test_a_setting_of_data_sets_is_named_for_an_image_of_one_alone(self, picture):
        cut = jpeg(picture)[:200]
        with pytest.raises(ValueError, match=r"not a whole image that can be decoded \(.*\)$"):
            load_image(cut)
        with pytest.raises(ValueError, match=r"leave it out of the data set \(data\.skip\)$"):
            load_image(cut, (40, 60))


class TestParts:
    """JPEGs decoded at a part of their sides."""

    @pytest.fixture
    def scene(self):
        """(240, 320, 3): smooth, with a black box."""
        y, x = np.mgrid[:240, :320]
        pixels = np.stack([x / 2 + 60, y / 2 + 90, 220 - x / 4 - y / 4], -1)
        pixels[64:192, 96:160] = 0
        return pixels.astype(np.uint8)

    @pytest.mark.parametrize(
        ("target", "decoded"),
        [
            (320, (240, 320)),
            (161, (240, 320)),
            (160, (120, 160)),
            ((60, 320), (60, 80)),  # whatever makes it small
            (81, (120, 160)),
            (80, (60, 80)),
            (40, (30, 40)),
            (7, (30, 40)),  # libjpeg goes no further
        ],
    )
    @pytest.mark.parametrize("fast", [True, False])
    def test_no_smaller_than_what_is_asked_for(self, scene, target, decoded, fast, monkeypatch):
        if not fast:
            monkeypatch.setattr(jpegs, "simplejpeg", None)
        picture = load_picture(jpeg(scene), Letterbox(target))
        assert picture.pixels.shape[:2] == decoded and picture.size == (240, 320)
        assert load_picture(jpeg(scene), None).pixels.shape == (240, 320, 3)

    def test_sides_that_the_part_does_not_divide_are_decoded_whole(self, scene):
        for height, width in [(239, 320), (240, 319)]:
            picture = load_picture(jpeg(scene[:height, :width]), Letterbox(40))
            assert picture.pixels.shape[:2] == picture.size == (height, width)
        picture = load_picture(jpeg(scene[:236]), Letterbox(40))
        assert picture.pixels.shape[:2] == (59, 80), "a quarter divides where an eighth does not"

    def test_both_decoders_give_the_same_pixels(self, scene, monkeypatch):
        pytest.importorskip("simplejpeg")
        fast = load_picture(jpeg(scene), Letterbox(80)).pixels
        monkeypatch.setattr(jpegs, "simplejpeg", None)
        assert np.array_equal(load_picture(jpeg(scene), Letterbox(80)).pixels, fast)

    def test_the_picture_and_its_boxes_are_where_the_whole_image_s_are(self, scene):
        resize = Letterbox(128)
        part, frame = resize(load_picture(jpeg(scene), resize), 5)
        whole, expected = resize(load_image(jpeg(scene)), 5)
        assert frame == expected == Frame(5, (240, 320), (96, 128))
        assert abs(part.astype(int) - whole).mean() < 1

    def test_an_edge_is_where_the_box_s_is(self):
        page = np.full((240, 320, 3), 200, np.uint8)
        page[64:192, 96:160] = 0
        resize = Letterbox(128)
        part, frame = resize(load_picture(jpeg(page), resize), 0)
        assert resize_boxes(torch.tensor([[96.0, 64, 160, 192]]), frame)[0].tolist() == (
            pytest.approx([38.4, 25.6, 64, 76.8])
        )
        dark = 1 - part[:96, :, 1] / 200
        for line, low, high in [(dark[50], 38.4, 64), (dark[:, 50], 25.6, 76.8)]:
            assert line.sum() == pytest.approx(high - low, abs=0.1)
            middle = (line * (np.arange(len(line)) + 0.5)).sum() / line.sum()
            assert middle == pytest.approx((low + high) / 2, abs=0.05)

    def test_other_files_and_what_is_no_file_come_whole(self, scene, tmp_path):
        path = tmp_path / "a.png"
        Image.fromarray(scene).save(path)
        for source in (path, scene, Image.fromarray(scene)):
            picture = load_picture(source, Letterbox(40))
            assert np.array_equal(picture.pixels, scene) and picture.size == (240, 320)
        with pytest.raises(TypeError, match="int"):
            load_picture(7, Letterbox(40))

    def test_a_lying_image_is_turned_at_a_part_as_well(self, scene):
        lying = jpeg(scene, exif=exif(6))
        picture = load_picture(lying, Letterbox(40), (320, 240))
        part = load_picture(jpeg(scene), Letterbox(40)).pixels
        assert picture.size == (320, 240) and part.shape == (30, 40, 3)
        assert np.abs(picture.pixels.astype(int) - np.rot90(part, -1)).max() <= 2


class TestSizes:
    @pytest.mark.parametrize(
        ("resize", "original", "resized"),
        [
            (Letterbox(320), (512, 384), (320, 240)),
            (Letterbox(320), (100, 50), (320, 160)),  # enlarged
            (Letterbox((240, 320)), (512, 512), (240, 240)),
            (Letterbox(10), (1000, 3), (10, 1)),  # never nothing
            (ShortestSide(800, 1333), (480, 640), (800, 1067)),
            (ShortestSide(800, 1333), (500, 1000), (667, 1333)),
        ],
    )
    def test_by_hand(self, resize, original, resized):
        assert resize.size(*original) == resized

    @given(sides, sides, st.integers(8, 400), st.integers(8, 400))
    def test_a_letterbox_fits_inside_and_touches(self, height, width, h, w):
        resized = Letterbox((h, w)).size(height, width)
        assert resized[0] <= h and resized[1] <= w
        assert resized[0] == h or resized[1] == w

    @given(sides, sides)
    def test_the_shortest_side_is_as_asked_unless_the_longest_forbids_it(self, height, width):
        short, long = sorted(ShortestSide(200, 333).size(height, width))
        assert long <= 333
        assert short == 200 or long == 333

    @pytest.mark.parametrize("size", [0, -3, (1, 2, 3), (5.5, 2), "a"])
    def test_a_bad_size_is_refused(self, size):
        with pytest.raises(ValueError, match="size is"):
            Letterbox(size)

    def test_shortest_above_longest_is_refused(self):
        with pytest.raises(ValueError, match="shortest 9"):
            ShortestSide(9, 8)

    def test_describe_tells_rules_apart(self):
        rules = [Letterbox(64), Letterbox(32), Letterbox(64, False), ShortestSide(64, 64)]
        assert len({str(rule.describe()) for rule in rules}) == 4


class TestResampling:
    def test_shrinking_is_antialiased(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::4] = 255
        small = resample(stripes, (16, 16))  # without antialiasing every stripe is stepped over
        assert abs(small.astype(int) - 64).max() < 20

    def test_pixels_agree_with_pil(self, picture):
        ours = resample(picture, (17, 23)).astype(int)
        pils = Image.fromarray(picture).resize((23, 17), Image.Resampling.BILINEAR)
        assert abs(ours - np.asarray(pils)).max() <= 1

    def test_the_same_size_copies_nothing(self, picture):
        assert resample(picture, (40, 60)) is picture


class TestThereAndBack:
    @given(sides, sides, st.sampled_from([Letterbox(128), Letterbox((96, 320)), ShortestSide()]))
    def test_boxes_come_back(self, height, width, resize):
        frame = Frame(1, (height, width), resize.size(height, width))
        boxes = torch.tensor(
            [[0, 0, width, height], [width * 0.1, height * 0.3, width * 0.2, height * 0.9]],
            dtype=torch.float32,
        )
        seen = resize_boxes(boxes, frame)
        assert seen[0].tolist() == pytest.approx([0, 0, frame.resized[1], frame.resized[0]])
        back = to_original(Detections(seen, torch.ones(2), torch.zeros(2).long()), frame)
        assert torch.allclose(back.boxes, boxes, rtol=1e-6, atol=1e-4)

    def test_by_hand(self):
        frame = Frame(1, original=(100, 200), resized=(50, 20))
        boxes = torch.tensor([[20.0, 10, 100, 90]])
        assert resize_boxes(boxes, frame).tolist() == [[2, 5, 10, 45]]

    def test_what_sticks_out_is_clipped_and_nothing_is_legal(self):
        frame = Frame(1, original=(100, 200), resized=(50, 100))
        found = Detections(torch.tensor([[-5.0, -1, 120, 60]]), torch.ones(1), torch.zeros(1))
        assert to_original(found, frame).boxes.tolist() == [[0, 0, 200, 100]]
        none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))
        assert to_original(none, frame).boxes.shape == (0, 4)


class TestAgainstTorchvision:
    """Boxes to 0.01 px where transforms.v2 puts them, over a whole chain."""

    @given(
        st.integers(100, 700),
        st.integers(100, 700),
        st.sampled_from([Letterbox(320), ShortestSide(200, 333), Stretch((300, 200))]),
        st.integers(0, 2**31),
        st.booleans(),
    )
    def test_resized_flipped_and_looked_at_through_a_window(self, height, width, rule, seed, out):
        rng = np.random.default_rng(seed)
        corners = np.sort(rng.uniform(0, 1, (6, 2, 2)), 1)
        corners[:, 1] = np.minimum(corners[:, 1] + 0.05, 1)
        boxes = torch.tensor(corners.reshape(6, 4) * ([width, height] * 2), dtype=torch.float32)
        frame = Frame(0, (height, width), rule.size(height, width))
        h, w = frame.resized
        window = (h * 5 // 4, w * 6 // 5) if out else (h * 2 // 3, w * 3 // 4)
        top, left = (-(h // 9), -(w // 7)) if out else (h // 5, w // 6)

        view = View(
            torch.zeros(3, h, w, dtype=torch.uint8),
            resize_boxes(boxes, frame),
            torch.arange(6),
            torch.zeros(6, dtype=torch.bool),
        )
        ours = view_window(Flip(p=1)(view, rng), top, left, window, min_visible=0, fill=0)

        theirs = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
        theirs = v2.functional.horizontal_flip(v2.functional.resize(theirs, [h, w]))
        if out:
            right, bottom = window[1] - w + left, window[0] - h + top
            theirs = v2.functional.pad(theirs, [-left, -top, right, bottom])
        else:
            theirs = v2.functional.crop(theirs, top, left, *window)
        theirs = torch.Tensor(v2.functional.resize(theirs, [h, w]))
        seen = (theirs[:, 2:] - theirs[:, :2]).min(1).values  # ours drops what is below a pixel
        assert {*ours.labels.tolist()} >= {*torch.where(seen > 1.02)[0].tolist()}
        assert ((ours.boxes - theirs[ours.labels]).abs() < 0.01).all()


class TestCollate:
    def test_zeros_at_the_right_and_the_bottom_up_to_the_stride(self, picture):
        items = [Letterbox(64, pad_to_size=False)(picture, 3), (picture[:20, :10], frame(20, 10))]
        batch = collate_images(items, stride=32)
        assert batch.pixels.shape == (2, 3, 64, 64)
        assert batch.pixels.dtype == torch.uint8
        assert batch.sizes == [(43, 64), (20, 10)]
        assert torch.equal(
            batch.pixels[1, :, :20, :10], torch.tensor(picture[:20, :10]).permute(2, 0, 1)
        )
        assert batch.pixels[1, :, 20:].sum() == 0 and batch.pixels[1, :, :, 10:].sum() == 0
        assert batch.frames[0].id == 3 and batch.frames[0].original == (40, 60)

    def test_a_letterbox_gives_every_batch_one_shape(self, picture):
        resize = Letterbox(96)
        flat = collate_images([resize(picture, 0)], stride=32)
        tall = collate_images([resize(picture.transpose(1, 0, 2), 0)], stride=32)
        assert flat.pixels.shape == tall.pixels.shape == (1, 3, 96, 96)
        assert flat.sizes == [(64, 96)] and flat.pixels[0, :, 64:].sum() == 0

    def test_an_image_is_the_same_alone_and_in_a_batch(self, picture):
        items = [Letterbox(64)(picture, 0), Letterbox(64)(picture[:, ::-1], 1)]
        both = collate_images(items, stride=16).pixels
        for index, item in enumerate(items):
            assert torch.equal(collate_images([item], stride=16).pixels[0], both[index])

    def test_no_images_are_refused(self):
        with pytest.raises(ValueError, match="no images"):
            collate_images([], stride=32)


def frame(height, width):
    return Frame(0, (height, width), (height, width))
