"""The ground truth of explanations: objects pasted into images, whose pixels are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from detzoo.data import Dataset, Source, load_image
from detzoo.data.dataset import Sample
from detzoo.progress import track
from detzoo.workflow.contestants import Contestant
from detzoo.workflow.explain import Explained
from detzoo.workflow.faithfulness import GroundTruth, faithfulness


def pasted(
    asked: Sequence[Contestant],
    data: Source,
    split: str,
    methods: Sequence[str],
    objects: int,
    out: Path,
    seed: int,
    about: Mapping[str, Any],
) -> Explained:
    """The faithfulness study over objects pasted into the split's images, beside the right map.

    The only difference between an image and its original is the object, so the map of how much each
    pixel differs is the right one: it has to score better than any method's, and a method's better
    than the uniform one. What takes the place of a pixel, in deletion and insertion, is the
    original's: so no score changes but by the object. Writes what `faithfulness` does. Raises
    ValueError for data that are not drawn.
    """
    with TemporaryDirectory(prefix="detzoo-pasted-") as folder:
        before = data.read(split)
        dataset = with_pasted(data, before, Path(folder), seed)
        originals = {sample.id: sample.image for sample in before.samples}

        def truth_of(sample: Sample, index: int) -> GroundTruth | None:
            if index < len(sample.boxes) - 1:
                return None
            return GroundTruth(without=load_image(originals[sample.id]))

        return faithfulness(asked, dataset, methods, objects, out, seed, about, truth_of)


def with_pasted(data: Source, dataset: Dataset, folder: Path, seed: int) -> Dataset:
    """The images with one object more, their last, as files in `folder`.

    An image without free ground is left out.
    """
    samples = []
    for sample in track(dataset.samples, "paste", "images"):
        found = data.paste(sample, load_image(sample.image), seed)
        if found is None:
            continue
        path = folder / f"{sample.id}.png"
        Image.fromarray(found.pixels).save(path, compress_level=1)
        box = torch.tensor([found.box], dtype=torch.float32)
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        more = {
            "boxes": torch.cat([sample.boxes, box]),
            "labels": torch.cat([sample.labels, torch.tensor([found.label])]),
            "crowd": torch.cat([sample.crowd, torch.tensor([False])]),
            "areas": torch.cat([sample.areas, area]),
        }
        samples.append(replace(sample, path=path, exif="auto", **more))
    return replace(dataset, samples=tuple(samples))
