"""What a run goes through: settings, data, training, scoring, timing. Plain Python, no Hydra."""
