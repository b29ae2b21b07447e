"""Modules with two or more users."""

from detzoo.nn.anchors import Anchors
from detzoo.nn.backbones import Backbone
from detzoo.nn.fpn import FPN, OneMap
from detzoo.nn.hourglass import Hourglass
from detzoo.nn.roi_head import BoxHead, RegionFeatures

__all__ = ["FPN", "Anchors", "Backbone", "BoxHead", "Hourglass", "OneMap", "RegionFeatures"]
