"""How good the detections are: COCO's average precision and how sure one can be of it."""
