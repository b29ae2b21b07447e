"""Milliseconds, multiply-adds and memory of any Detector, and the machine they are measured on.

Nothing is imported here, so that waiting for the lock (`detzoo.speed.lock`) needs no torch.
"""
