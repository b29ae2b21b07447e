"""The memory of a search: what was tried and how it went, in SQLite by Optuna.

A record is one transaction, and the next trial is a function of the records alone: a search that
was killed at any moment repeats the trial that it was in, and continues with the same ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detzoo.files import atomic
from detzoo.workflow.space import Range, Space, Value

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

FILE = "tune.db"
STUDY = "detzoo"
LEAST_STARTS = 4  # quasi-random trials, before any is chosen by the results of others


@dataclass(frozen=True)
class Outcome:
    """The result of a trial at a rung: its AP on val, 0 if it failed, and then the reason."""

    ap: float
    error: str | None = None


def optuna() -> Any:
    """The library. Raises ImportError that names the extra."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError("tuning needs Optuna: pip install 'detzoo[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Records:
    """The trials of one search in folder/tune.db; use as a context manager's value.

    A trial is recorded with its values and its result at the first rung, where all are compared;
    and, for those that continue, with the results at later rungs.
    """

    def __init__(self, study: Study, space: Space, seed: int) -> None:
        self.study, self.space, self.seed = study, space, seed
        self._read()

    def _read(self) -> None:
        """The records of the file, which no other process changes."""
        self.trials, self.later = self.study.get_trials(), self.study.user_attrs

    def __len__(self) -> int:
        return len(self.trials)

    def values(self, number: int) -> dict[str, Value]:
        """The settings of a trial that is recorded."""
        return {name: self.trials[number].params[name] for name in self.space}

    def outcome(self, number: int, rung: int) -> Outcome | None:
        """The result of a recorded trial at a rung; None if it did not reach it."""
        if rung:
            found = self.later.get(f"trial {number} at rung {rung}")
            return Outcome(**found) if found else None
        trial = self.trials[number]
        return Outcome(trial.value, trial.user_attrs.get("error"))

    def add(self, values: Mapping[str, Value], outcome: Outcome) -> None:
        """The next trial, at the first rung."""
        self.study.add_trial(
            optuna().trial.create_trial(
                params=dict(values),
                distributions=distributions(self.space),
                value=outcome.ap,
                user_attrs={"error": outcome.error} if outcome.error else {},
            )
        )
        self._read()

    def promote(self, number: int, rung: int, outcome: Outcome) -> None:
        """The result of a trial at a later rung."""
        self.study.set_user_attr(f"trial {number} at rung {rung}", vars(outcome))
        self._read()

    def propose(self, starts: int) -> dict[str, Value]:
        """The values of the next trial: a function of those before, its number and the seed.

        The first `starts` are Sobol points after its zero, the first of which is the centre of the
        space: the recipe's own learning rate. Then the tree-structured Parzen estimator, from all
        results at the first rung, at equal images seen.
        """
        number = len(self)
        if number < starts:
            return {
                name: dimension.at(share)
                for (name, dimension), share in zip(
                    self.space.items(), sobol(len(self.space), number), strict=True
                )
            }
        library = optuna()
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        sampler = library.samplers.TPESampler(
            n_startup_trials=0, multivariate=True, constant_liar=False, seed=seed
        )
        study = library.create_study(direction="maximize", sampler=sampler)
        study.add_trials(self.trials)
        found = study.ask(distributions(self.space)).params
        return {
            name: dimension.near(found[name]) if isinstance(dimension, Range) else found[name]
            for name, dimension in self.space.items()
        }


def sobol(dimensions: int, number: int) -> list[float]:
    """Point `number` of Sobol's sequence without its zero: 1/2, 3/4, 1/4, ... in each dimension."""
    from torch.quasirandom import SobolEngine

    return SobolEngine(dimensions).fast_forward(1 + number).draw(1)[0].double().tolist()


def starts_of(trials: int) -> int:
    """How many of `trials` trials are quasi-random."""
    return min(trials, max(LEAST_STARTS, trials // 2))


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space as Optuna has it."""
    library = optuna().distributions
    found: dict[str, BaseDistribution] = {}
    for name, dimension in space.items():
        if not isinstance(dimension, Range):
            found[name] = library.CategoricalDistribution(dimension.values)
        elif dimension.whole:
            found[name] = library.IntDistribution(dimension.low, dimension.high, log=True)
        else:
            found[name] = library.FloatDistribution(dimension.low, dimension.high, log=True)
    return found


@contextmanager
def records(folder: Path, space: Space, seed: int) -> Iterator[Records]:
    """The records in `folder`, made there whole if there are none. Raises ImportError."""
    library = optuna()
    path = folder / FILE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
        if not path.exists():
            with atomic(path) as temporary, opened(temporary) as storage:
                library.create_study(storage=storage, study_name=STUDY, direction="maximize")
        with opened(path) as storage:
            study = library.load_study(storage=storage, study_name=STUDY)
            yield Records(study, space, seed)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Optuna's storage in a file, closed at the end."""
    storage = optuna().storages.RDBStorage(f"sqlite:///{path.resolve()}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
