"""Data: readers with one sample form, resizing and its inverse, augmentation, batches, check."""

from detzoo.data.image import (
    Letterbox,
    Resize,
    ShortestSide,
    collate_images,
    load_image,
    resize_boxes,
    to_original,
)

__all__ = [
    "Letterbox",
    "Resize",
    "ShortestSide",
    "collate_images",
    "load_image",
    "resize_boxes",
    "to_original",
]
