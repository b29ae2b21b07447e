"""Test images with their detections."""
