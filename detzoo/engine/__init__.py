"""Training and prediction; knows only `Detector`, never a concrete one.

Nothing is imported here, so that `detzoo.engine.status` can be read without loading torch.
"""
