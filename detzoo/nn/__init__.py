"""Modules with two or more users."""

from detzoo.nn.anchors import Anchors
from detzoo.nn.backbones import Backbone
from detzoo.nn.darknet import Darknet24
from detzoo.nn.fpn import FPN, OneMap, make_neck
from detzoo.nn.hourglass import Hourglass
from detzoo.nn.roi_head import BoxHead, GlobalPoolingHead, RegionFeatures
from detzoo.nn.vgg import VGG16, VGG16Conv5
from detzoo.nn.vit import ViT

__all__ = [
    "FPN",
    "VGG16",
    "Anchors",
    "Backbone",
    "BoxHead",
    "Darknet24",
    "GlobalPoolingHead",
    "Hourglass",
    "OneMap",
    "RegionFeatures",
    "VGG16Conv5",
    "ViT",
    "make_neck",
]
