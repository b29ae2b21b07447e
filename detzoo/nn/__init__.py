"""Modules with two or more users."""

from detzoo.nn.backbones import Backbone
from detzoo.nn.fpn import FPN

__all__ = ["FPN", "Backbone"]
