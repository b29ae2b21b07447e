"""Test images with what was found in them."""
