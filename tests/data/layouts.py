"""Data sets in the layouts that tools write: a function of a few lines for each.

Every function writes `ITEMS` below `root`. It gives the split in which the layout has the images of
train, val and test, None for one that it does not have; or None where it has no splits at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .conftest import write_image

NAMES = ("cat", "dog")
WIDTH, HEIGHT = 60, 40


@dataclass(frozen=True)
class Item:
    """An image and its boxes: (class, x1, y1, x2, y2) in pixels, edges."""

    stem: str
    split: str
    boxes: tuple[tuple[str, int, int, int, int], ...]


def _items() -> tuple[Item, ...]:
    splits = ("train", "train", "train", "train", "val", "val", "test", "test")
    return tuple(
        Item(
            f"shot {i}" if i == 3 else f"shot{i}",
            split,
            (("dog", i, 2, 30 + i, 20), ("cat", 12, 8, 24, 20 + i)) if i != 2 else (),
        )
        for i, split in enumerate(splits)
    )


ITEMS = _items()
SPLITS = ("train", "val", "test")


def of(split: str) -> list[Item]:
    return [item for item in ITEMS if item.split == split]


def image(folder: Path, item: Item, suffix: str = ".jpg") -> None:
    write_image(folder / (item.stem + suffix), HEIGHT, WIDTH, seed=ITEMS.index(item))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def coco(path: Path, items, name=lambda item: f"{item.stem}.jpg", first_id: int = 1) -> None:
    annotations = [
        {"image_id": n, "category_id": NAMES.index(c) + first_id, "bbox": [a, b, x - a, y - b]}
        for n, item in enumerate(items)
        for c, a, b, x, y in item.boxes
    ]
    content = {
        "info": {},
        "images": [
            {"id": n, "file_name": name(item), "width": WIDTH, "height": HEIGHT}
            for n, item in enumerate(items)
        ],
        "annotations": [
            a | {"id": n, "iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3]}
            for n, a in enumerate(annotations)
        ],
        "categories": [{"id": n + first_id, "name": c} for n, c in enumerate(NAMES)],
    }
    write(path, json.dumps(content))


def voc(folder: Path, item: Item, database: str = "Unknown", shift: int = 0) -> None:
    objects = "".join(
        f"<object><name>{c}</name><difficult>0</difficult><bndbox><xmin>{a + shift}</xmin>"
        f"<ymin>{b + shift}</ymin><xmax>{x}</xmax><ymax>{y}</ymax></bndbox></object>\n"
        for c, a, b, x, y in item.boxes
    )
    write(
        folder / f"{item.stem}.xml",
        f"<annotation><filename>{item.stem}.jpg</filename>"
        f"<source><database>{database}</database></source><size><width>{WIDTH}</width>"
        f"<height>{HEIGHT}</height><depth>3</depth></size>\n{objects}</annotation>",
    )


def yolo(folder: Path, item: Item) -> None:
    rows = [
        f"{NAMES.index(c)} {(a + x) / 2 / WIDTH} {(b + y) / 2 / HEIGHT} "
        f"{(x - a) / WIDTH} {(y - b) / HEIGHT}\n"
        for c, a, b, x, y in item.boxes
    ]
    write(folder / f"{item.stem}.txt", "".join(rows))


# COCO


def roboflow_coco(root):
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        coco(root / folder / "_annotations.coco.json", of(split))
        for item in of(split):
            image(root / folder, item)
    write(root / "README.roboflow.txt", "exported from Roboflow\n")
    return SPLITS


def coco_2017(root):
    for split in ("train", "val", "test"):
        coco(root / f"annotations/instances_{split}2017.json", of(split))
        write(root / f"annotations/captions_{split}2017.json", '{"images": [], "annotations": []}')
        for item in of(split):
            image(root / f"{split}2017", item)
    return SPLITS


def images_by_split(root):
    for split in SPLITS:
        coco(root / f"annotations/{split}.json", of(split))
        for item in of(split):
            image(root / "images" / split, item)
    return SPLITS


def cvat_coco(root):
    coco(root / "annotations/instances_default.json", ITEMS)
    for item in ITEMS:
        image(root / "images/default", item)


def cvat_coco_subsets(root):
    for split, subset in zip(SPLITS, ("Train", "Validation", "Test"), strict=True):
        coco(root / f"annotations/instances_{subset}.json", of(split))
        for item in of(split):
            image(root / "images" / subset, item)
    return SPLITS


def label_studio_coco(root):
    coco(root / "result.json", ITEMS, lambda item: f"images\\{item.stem}.jpg", first_id=0)
    for item in ITEMS:
        image(root / "images", item)


def label_studio_coco_server_paths(root):
    coco(root / "result.json", ITEMS, lambda i: f"/data/media/upload/7/{i.stem}.jpg")
    for item in ITEMS:
        image(root / "images", item)


def makesense_coco(root):
    coco(root / "labels_my-project-name_2024-01-05-10-20-30.json", ITEMS)
    for item in ITEMS:
        image(root, item)


def via_coco(root):
    coco(root / "via_export_coco.json", ITEMS, first_id=0)
    for item in ITEMS:
        image(root / "img", item)


def coco_one_folder_down(root):
    coco(root / "my animals v1/annotations.json", ITEMS)
    for item in ITEMS:
        image(root / "my animals v1/data", item)
    write(root / "__MACOSX/my animals v1/._annotations.json", "\0")


def coco_folders_in_names(root):
    coco(root / "all.json", ITEMS, lambda item: f"{item.split}/cam1/{item.stem}.jpg")
    for item in ITEMS:
        image(root / "pictures" / item.split / "cam1", item)


# Pascal VOC


def voc_devkit(root):
    home = root / "VOCdevkit/VOC2007"
    for split in SPLITS:
        write(home / f"ImageSets/Main/{split}.txt", "".join(f"{item.stem}\n" for item in of(split)))
        write(
            home / f"ImageSets/Main/cat_{split}.txt", "".join(f"{i.stem} -1\n" for i in of(split))
        )
    for item in ITEMS:
        voc(home / "Annotations", item, "The VOC2007 Database", shift=1)
        image(home / "JPEGImages", item)
    return SPLITS


def cvat_voc(root):
    write(root / "ImageSets/Main/default.txt", "".join(f"{item.stem}\n" for item in ITEMS))
    for item in ITEMS:
        voc(root / "Annotations", item)
        image(root / "JPEGImages", item)


def roboflow_voc(root):
    for split, folder in zip(SPLITS, ("train", "valid", "test"), strict=True):
        for item in of(split):
            voc(root / folder, item)
            image(root / folder, item)
    return SPLITS


def label_studio_voc(root):
    for item in ITEMS:
        voc(root / "Annotations", item)
        image(root / "images", item)


def labelimg_voc(root):
    for item in ITEMS:
        voc(root, item)
        image(root, item)


def kaggle_voc(root):
    for item in ITEMS:
        voc(root / "archive/annotations", item)
        image(root / "archive/images", item, ".png")


def annots(root):
    for item in ITEMS:
        voc(root / "annots", item)
        image(root / "images", item)


def xml_folder(root):
    for item in ITEMS:
        voc(root / "xml", item)
        image(root / "photos", item)


def voc_by_split(root):
    for item in ITEMS:
        voc(root / "annotations" / item.split, item)
        image(root / "images" / item.split, item)
    return SPLITS


def voc_by_video(root):
    for item in ITEMS:
        video = f"video{ITEMS.index(item) % 2}"
        voc(root / "Annotations" / video, item)
        image(root / "JPEGImages" / video, item)


def kaggle_train_zip(root):
    for item in ITEMS:
        folder = root / ("test_zip/test" if item.split == "test" else "train_zip/train")
        voc(folder, item)
        image(folder, item)
    return ("train", "train", "test")


# YOLO


def ultralytics(root):
    write(
        root / "data.yaml",
        "path: ../datasets/mine\ntrain: images/train\nval: images/val\ntest: images/test\n"
        "names:\n  0: cat\n  1: dog\n",
    )
    for item in ITEMS:
        image(root / "images" / item.split, item)
        yolo(root / "labels" / item.split, item)
    return SPLITS


def roboflow_yolo(root):
    write(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
        "names: ['cat', 'dog']\n\nroboflow:\n  workspace: w\n  license: CC BY 4.0\n",
    )
    for item in ITEMS:
        folder = root / {"val": "valid"}.get(item.split, item.split)
        image(folder / "images", item)
        yolo(folder / "labels", item)
    return SPLITS


def yaml_other_names(root):
    write(
        root / "animals.yaml", "train: [images/a, images/b]\nval: images/later\nnames: [cat, dog]\n"
    )
    for item in ITEMS:
        folder = {"val": "later", "test": "later"}.get(item.split, "ab"[ITEMS.index(item) % 2])
        image(root / "images" / folder, item)
        yolo(root / "labels" / folder, item)
    return ("train", "val", "val")


def yaml_lists(root):
    write(
        root / "data.yaml", "train: train.txt\nval: [val.txt]\ntest: test.txt\nnames: [cat, dog]\n"
    )
    for split in SPLITS:
        lines = "".join(f"/content/mine/images/{item.stem}.jpg\n" for item in of(split))
        write(root / f"{split}.txt", lines)
    for item in ITEMS:
        image(root / "images", item)
        yolo(root / "labels", item)
    return SPLITS


def cvat_yolo_1_1(root):
    write(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(root / "obj.names", "cat\ndog\n")
    write(root / "train.txt", "".join(f"data/obj_train_data/{item.stem}.jpg\n" for item in ITEMS))
    for item in ITEMS:
        image(root / "obj_train_data", item)
        yolo(root / "obj_train_data", item)


def cvat_yolo_1_1_subsets(root):
    write(root / "obj.data", "classes = 2\ntrain = data/Train.txt\nnames = data/obj.names\n")
    write(root / "obj.names", "cat\ndog\n")
    for split, subset in zip(SPLITS, ("Train", "Validation", "Test"), strict=True):
        lines = "".join(f"data/obj_{subset}_data/{item.stem}.jpg\n" for item in of(split))
        write(root / f"{subset}.txt", lines)
        for item in of(split):
            image(root / f"obj_{subset}_data", item)
            yolo(root / f"obj_{subset}_data", item)
    return SPLITS


def cvat_ultralytics(root):
    write(root / "data.yaml", "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n")
    write(root / "train.txt", "".join(f"data/images/train/{item.stem}.jpg\n" for item in ITEMS))
    for item in ITEMS:
        image(root / "images/train", item)
        yolo(root / "labels/train", item)


def label_studio_yolo(root):
    write(root / "classes.txt", "cat\ndog\n")
    write(root / "notes.json", json.dumps({"categories": [{"id": 0, "name": "cat"}]}))
    for item in ITEMS:
        image(root / "images", item)
        yolo(root / "labels", item)


def notes_alone(root):
    categories = [{"id": n, "name": name} for n, name in enumerate(NAMES)]
    write(root / "notes.json", json.dumps({"categories": categories, "info": {}}))
    for item in ITEMS:
        image(root / "images", item)
        yolo(root / "labels", item)


def labelimg_yolo(root):
    write(root / "classes.txt", "\ufeffcat\r\ndog\r\n")
    for item in ITEMS:
        image(root, item)
        yolo(root, item)
    write(root / ".DS_Store", "\0")
    write(root / "Thumbs.db", "\0")
    write(root / "._shot1.jpg", "\0")


def labelimg_yolo_classes_with_labels(root):
    write(root / "labels/classes.txt", "cat\ndog\n")
    for item in ITEMS:
        image(root / "images", item)
        yolo(root / "labels", item)


def makesense_yolo(root):
    write(root / "labels.txt", "cat\ndog\n")
    for item in ITEMS:
        image(root / "photos", item, ".jfif")
        yolo(root / "labels", item)


def darknet(root):
    write(
        root / "data/obj.data",
        "train = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\n",
    )
    write(root / "data/obj.names", "cat\ndog\n")
    for name, splits in (("train", ("train",)), ("test", ("val", "test"))):
        items = [item for item in ITEMS if item.split in splits]
        write(root / f"data/{name}.txt", "".join(f"data/obj/{item.stem}.jpg\n" for item in items))
    for item in ITEMS:
        image(root / "data/obj", item)
        yolo(root / "data/obj", item)
    return ("train", "test", "test")


def kaggle_yolo(root):
    write(root / "set/classes.txt", "cat\ndog\n")
    for item in ITEMS:
        folder = root / "set" / {"val": "validation"}.get(item.split, item.split)
        image(folder, item)
        yolo(folder, item)
    return SPLITS


def labels_of_the_split(root):
    write(root / "animals.names", "cat\ndog\n")
    for item in ITEMS:
        image(root / f"{item.split}_images", item)
        yolo(root / f"{item.split}_labels", item)
    return SPLITS


def labels_in_one_folder(root):
    write(root / "classes.txt", "cat\ndog\n")
    for item in ITEMS:
        image(root / "images" / item.split, item)
        yolo(root / "labels", item)
    return SPLITS


def yolo_test_without_labels(root):
    write(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, dog]\n")
    for item in ITEMS:
        image(root / "images" / item.split, item)
        if item.split != "test":
            yolo(root / "labels" / item.split, item)
    return ("train", "val", None)


LAYOUTS = {
    "coco": (
        *(roboflow_coco, coco_2017, images_by_split, cvat_coco, cvat_coco_subsets),
        *(label_studio_coco, label_studio_coco_server_paths, makesense_coco, via_coco),
        *(coco_one_folder_down, coco_folders_in_names),
    ),
    "voc": (
        *(voc_devkit, cvat_voc, roboflow_voc, label_studio_voc, labelimg_voc, kaggle_voc, annots),
        *(xml_folder, voc_by_split, voc_by_video, kaggle_train_zip),
    ),
    "yolo_txt": (
        *(ultralytics, roboflow_yolo, yaml_other_names, yaml_lists, cvat_yolo_1_1),
        *(cvat_yolo_1_1_subsets, cvat_ultralytics, label_studio_yolo, notes_alone, labelimg_yolo),
        *(labelimg_yolo_classes_with_labels, makesense_yolo, darknet, kaggle_yolo),
        *(labels_of_the_split, labels_in_one_folder, yolo_test_without_labels),
    ),
}
