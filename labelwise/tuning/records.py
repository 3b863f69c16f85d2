"""Trials on record, and the next one from them: optuna proposes, and decides at the rungs.

The search has no state but its records: before every trial the study is made of them anew, and the
sampler is seeded by the trial's number. So a search that was killed goes on as if it had not been.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pydantic

from labelwise.errors import MissingExtraError
from labelwise.files import intact, read_json, write_json
from labelwise.measure.metrics import METRICS
from labelwise.tuning.halving import COMPLETE, FACTOR, FAILED, Outcome
from labelwise.tuning.space import Space

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Record:
    """One trial: what was tried and what became of it.

    Attributes:
        number: 0 is the recipe as it was given.
        variant: the recipe as text.
        values: of every searched range; empty for trial 0.
        fields: the text of every searched field.
        seconds: time that the trial took.
    """

    number: int
    variant: str
    values: Mapping[str, Any]
    fields: Mapping[str, str]
    outcome: Outcome
    seconds: float

    def write(self, folder: Path) -> None:
        """Publish the record in a run's folder."""
        write_json(_file(folder, self.number), asdict(self))


_RECORD = pydantic.TypeAdapter(Record)


def read_records(folder: Path) -> list[Record]:
    """The records of a run's folder, in order; those after a missing one do not count.

    Raises:
        DataError: one is damaged.
    """
    found: list[Record] = []
    while (file := _file(folder, len(found))).exists():
        with intact(file, "Delete it and resume: this trial and those after it are run again."):
            found.append(_RECORD.validate_python(read_json(file)))
    return found


def _file(folder: Path, number: int) -> Path:
    return folder / "trials" / f"{number:04}.json"


def table_of(records: Sequence[Record], metric: str) -> pd.DataFrame:
    """A row per trial: number, state, the metric, tempered_log_loss, rung_1..., fields, seconds,
    variant, reason.

    Fields of which there are several kinds are text. What has no value is null.
    """
    rungs = max((len(record.outcome.rungs) for record in records), default=0)
    names = dict.fromkeys(name for record in records for name in record.values)
    rows = []
    for record in records:
        outcome = record.outcome
        losses = dict(enumerate(outcome.rungs))
        rows.append(
            {
                "number": record.number,
                "state": outcome.state,
                metric: outcome.value,
                "tempered_log_loss": outcome.loss,
                **{f"rung_{rung + 1}": losses.get(rung) for rung in range(rungs)},
                **{name: record.values.get(name) for name in names},
                "seconds": record.seconds,
                "variant": record.variant,
                "reason": outcome.reason,
            }
        )
    table = pd.DataFrame(rows)
    numbers = [metric, "tempered_log_loss", *(f"rung_{rung + 1}" for rung in range(rungs))]
    return table.astype(dict.fromkeys(numbers, "float64") | {"reason": "string"})


def ranked(records: Sequence[Record], metric: str) -> list[Record]:
    """Complete trials, best first: by the metric, then log loss, then the earlier one."""
    sign = -1 if METRICS[metric].higher_is_better else 1

    def key(record: Record) -> tuple[float, float, int]:
        assert record.outcome.value is not None
        return sign * record.outcome.value, record.outcome.loss or 0.0, record.number

    judged = [r for r in records if r.outcome.state == COMPLETE and r.outcome.value is not None]
    return sorted(judged, key=key)


class Proposal:
    """The next trial of a search, after the records so far."""

    def __init__(self, space: Space, records: Sequence[Record], metric: str, seed: int) -> None:
        self.number = len(records)
        with _optuna() as optuna:
            self._study = optuna.create_study(
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=_mixed(seed, self.number)),
                pruner=optuna.pruners.SuccessiveHalvingPruner(
                    min_resource=1, reduction_factor=FACTOR
                ),
            )
            for record in records:
                self._study.add_trial(_frozen(record, space, metric))
            # Trial 0 is the recipe as given: it has no place in the space.
            self._trial = self._study.ask(space.distributions if self.number else {})

    @property
    def values(self) -> dict[str, Any]:
        """A value of every range; empty for trial 0."""
        return dict(self._trial.params)

    def behind(self, rung: int, loss: float) -> bool:
        """Whether the trial is to be given up; each rung is one of optuna's, in its own units."""
        with _optuna():
            self._trial.report(-loss, FACTOR**rung)
            return self._trial.should_prune()


def check_optuna() -> None:
    """Refuse to begin a search without optuna.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError("optuna", "tune", "labelwise tune")


@contextmanager
def _optuna() -> Iterator[Any]:
    """optuna, silent: what it has to say is about its own interface, not the user's search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna

        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            yield optuna
        finally:
            optuna.logging.set_verbosity(before)


def _mixed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _frozen(record: Record, space: Space, metric: str) -> optuna.trial.FrozenTrial:
    """A record as a finished trial of optuna, where more is better.

    A failed trial counts as the worst of all that were pruned, so that it is avoided.
    """
    from optuna.trial import TrialState, create_trial

    outcome = record.outcome
    losses = () if outcome.state == FAILED else outcome.rungs
    complete = outcome.state == COMPLETE and outcome.value is not None
    sign = 1 if METRICS[metric].higher_is_better else -1
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=sign * outcome.value if complete and outcome.value is not None else None,
        params=dict(record.values),
        distributions=space.distributions if record.values else {},
        intermediate_values={FACTOR**rung: -loss for rung, loss in enumerate(losses)},
        # What the pruner notes of a trial that came to a rung.
        system_attrs={f"completed_rung_{rung}": -loss for rung, loss in enumerate(losses)},
    )
