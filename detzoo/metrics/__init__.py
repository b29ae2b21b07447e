"""Scores of detections: COCO's average precision and its confidence intervals."""
