"""Published checkpoints, read into our detectors."""

from detzoo.weights.torchvision import create_from_torchvision, is_torchvision, load_torchvision

__all__ = ["create_from_torchvision", "is_torchvision", "load_torchvision"]
