"""The stages of a run: settings, data, training, scoring, timing. Plain Python, no Hydra."""
