"""Data: readers with one sample form, resizing and its inverse, augmentation, batches, check."""

from detzoo.data.auto import Auto, recognise
from detzoo.data.coco import Coco
from detzoo.data.dataset import SPLITS, Dataset, Problem, Sample
from detzoo.data.health import CheckResult, check
from detzoo.data.image import Picture, load_image, load_picture
from detzoo.data.loader import Batches, EvaluationBatches, evaluation_batches
from detzoo.data.proposal_cache import with_proposals
from detzoo.data.proposals import EdgeBoxes, Grid, Proposer, SelectiveSearch
from detzoo.data.resize import (
    Letterbox,
    Resize,
    ShortestSide,
    Stretch,
    collate_images,
    resize_boxes,
    to_original,
)
from detzoo.data.shapes import Shapes
from detzoo.data.source import DataError, Source
from detzoo.data.voc import Voc
from detzoo.data.yolo_txt import YoloTxt

__all__ = [
    "SPLITS",
    "Auto",
    "Batches",
    "CheckResult",
    "Coco",
    "DataError",
    "Dataset",
    "EdgeBoxes",
    "EvaluationBatches",
    "Grid",
    "Letterbox",
    "Picture",
    "Problem",
    "Proposer",
    "Resize",
    "Sample",
    "SelectiveSearch",
    "Shapes",
    "ShortestSide",
    "Source",
    "Stretch",
    "Voc",
    "YoloTxt",
    "check",
    "collate_images",
    "evaluation_batches",
    "load_image",
    "load_picture",
    "recognise",
    "resize_boxes",
    "to_original",
    "with_proposals",
]
