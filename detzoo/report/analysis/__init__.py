"""Analyses of the rows: pairs, errors, training, studies, and a summary in sentences."""
