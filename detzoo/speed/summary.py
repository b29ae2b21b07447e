"""Summaries of timed passes: percentiles, ratios and their intervals. Nothing is clipped.

Every interval is 95%, by bootstrap over rounds: the passes of one round are not independent, so a
round is drawn whole. It is None with a single round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detzoo.speed.phases import Sample
from detzoo.speed.stages import STAGES

DRAWS = 1000
METHOD = f"95%, bootstrap over rounds, {DRAWS} draws"
QUANTILES = {"p50": 50, "p90": 90, "p99": 99}
CONTENT = ("boxes", "proposals", "shape")  # of a Sample: what was in the image that it is of


def latency(samples: Sequence[Sample], seed: int = 0) -> dict[str, Any]:
    """Milliseconds per stage and end to end: percentiles with n, the mean, intervals.

    `overhead` is, per pass, (end to end - JPEG decoding) / network alone, a pure number: 1 when all
    that is not the network took no time. Resizing, the move to the device, external proposals,
    postprocessing and the way back to original pixels are in it. What is given is its median.
    """
    times = 1e3 * np.array([sample.seconds for sample in samples])  # (n, stages)
    whole = times.sum(1)
    network, decoding = times[:, STAGES.index("network")], times[:, STAGES.index("decode")]
    of_round = np.array([sample.round for sample in samples])
    overhead = (whole - decoding) / network

    def quantiles(values: np.ndarray) -> np.ndarray:
        return np.percentile(values, list(QUANTILES.values()))

    limits = bootstrap(quantiles, whole, of_round, seed)
    intervals = dict.fromkeys(QUANTILES)
    if limits is not None:
        intervals = dict(zip(QUANTILES, limits.T.tolist(), strict=True))
    return {
        "stages": {stage: _spread(times[:, i]) for i, stage in enumerate(STAGES)},
        "end_to_end": {
            **_spread(whole),
            "interval": intervals["p50"],
            "p90_interval": intervals["p90"],
            "p99_interval": intervals["p99"],
        },
        "overhead": {
            "p50": float(np.median(overhead)),
            "interval": _listed(bootstrap(np.median, overhead, of_round, seed)),
            "measures": "median over passes of (end to end - JPEG decoding) / network alone",
        },
        "interval_method": METHOD,
        "samples": {
            "round": of_round.tolist(),
            "image": [sample.image for sample in samples],
            **{
                stage: times[:, STAGES.index(stage)].round(4).tolist()
                for stage in ("decode", "network", "postprocess")
            },
            "end_to_end": whole.round(4).tolist(),
            **{key: [getattr(sample, key) for sample in samples] for key in CONTENT},
        },
    }


def ratio(samples: Sequence[Sample], reference: Sequence[Sample], seed: int = 0) -> dict[str, Any]:
    """The ratio of end-to-end times to the reference: the median over paired passes.

    A pair is two passes over one image in one round, so what the machine did then is in both. Below
    1 is faster than the reference. Raises ValueError where the passes are no pairs.
    """
    if [(s.round, s.image) for s in samples] != [(s.round, s.image) for s in reference]:
        raise ValueError("passes of different images or rounds are no pairs; time them in one call")
    pairs = np.array(
        [sum(s.seconds) / sum(r.seconds) for s, r in zip(samples, reference, strict=True)]
    )
    of_round = np.array([s.round for s in samples])
    limits = bootstrap(np.median, pairs, of_round, seed)
    return {"ratio": float(np.median(pairs)), "interval": _listed(limits), "n": len(pairs)}


def bootstrap(
    statistic: Callable[[np.ndarray], Any], values: np.ndarray, of_round: np.ndarray, seed: int
) -> np.ndarray | None:
    """(2, ...) low and high of `statistic` over (n,) values; None for one round.

    All rounds have the same number of passes, in order, so `values` is a table of rounds.
    """
    rounds = len(np.unique(of_round))
    if rounds < 2:
        return None
    table = values.reshape(rounds, -1)
    draws = np.random.default_rng(seed).integers(rounds, size=(DRAWS, rounds))
    return np.percentile([statistic(table[draw]) for draw in draws], (2.5, 97.5), axis=0)


def _listed(limits: np.ndarray | None) -> list[float] | None:
    return None if limits is None else limits.tolist()


def _spread(values: np.ndarray) -> dict[str, float]:
    quantiles = np.percentile(values, list(QUANTILES.values())).tolist()
    spread = dict(zip(QUANTILES, quantiles, strict=True))
    return {**spread, "mean": float(values.mean()), "n": len(values)}
