"""A run's trials as a table of plain values: a row for every trial, the same columns for all. No torch, no ray."""

import json
from typing import Any

from controllers.controller import Completed, Failed, Outcome, Stopped
from nas.runs.config import SearchConfig
from nas.runs.folder import RunFolder
from nas.runs.loop import child_seed
from nas.runs.state import RunState
from nas.runs.trials import Trial
from search_spaces.genotype import Genotype, to_document
from search_spaces.space import SearchSpace

Row = dict[str, Any]

OUTCOMES: dict[type[Outcome], str] = {Completed: "completed", Stopped: "stopped", Failed: "failed"}
"""How the outcomes are called."""
COSTS = ("params", "macs", "train_seconds")
"""Metrics with columns of their own, which are there whatever was measured."""


def trial_rows(folder: RunFolder) -> list[Row]:
    """Every trial in the order of asking, control cards and trainings on the ladder too; None where a trial has no such value.

    A row has ``trial``; ``rung``, ``origin`` (the trial whose cells are trained again there), ``replicate`` and ``card``; the fidelity
    (``epochs``, ``cells``, ``filters``, ``image_size``, ``train_examples``) and the child's ``seed``; ``outcome``, ``reward``, and of a
    failure ``reason`` and ``detail``; ``trained_epochs``, ``attempts``, ``repeats``; ``params``, ``macs``, ``seconds`` of training;
    ``started`` and ``ended`` in seconds since 1970; the ``genotype`` as JSON; and a column for every other metric.

    Raises:
        UserError: the run cannot be read.
    """
    config, state = folder.config(), folder.state()
    space = folder.space(config)
    rows = [_row(trial, config, state, space) for trial in state.trials.values()]
    metrics = sorted({name for trial in state.trials.values() if trial.evaluation for name in trial.evaluation.metrics} - set(COSTS))
    for row, trial in zip(rows, state.trials.values(), strict=True):
        row |= {name: trial.evaluation.metrics.get(name) if trial.evaluation else None for name in metrics}
    return rows


def _row(trial: Trial, config: SearchConfig, state: RunState, space: SearchSpace) -> Row:
    outcome = trial.evaluation.outcome if trial.evaluation is not None else None
    size = trial.size if trial.origin is None else state.trials[trial.origin].size
    fidelity = config.at_rung(min(trial.rung, len(config.ladder))).fidelity
    filters = fidelity.filters if size is None or size.filters is None else size.filters
    known = {**(size.costs if size is not None else {}), **(trial.evaluation.metrics if trial.evaluation is not None else {})}
    return {
        "trial": trial.number,
        "rung": trial.rung,
        "origin": trial.origin,
        "replicate": trial.replicate,
        "card": trial.card,
        "epochs": fidelity.epochs,
        "cells": fidelity.cells,
        "filters": float(filters),
        "image_size": fidelity.image_size,
        "train_examples": fidelity.train_examples,
        "seed": child_seed(config.seed, trial),
        "outcome": "pending" if outcome is None else OUTCOMES[type(outcome)],
        "reward": outcome.reward if isinstance(outcome, Completed | Stopped) else None,
        "reason": outcome.reason if isinstance(outcome, Failed) else None,
        "detail": outcome.detail if isinstance(outcome, Failed) else None,
        "trained_epochs": trial.reports[-1].epoch if trial.reports else 0,
        "attempts": trial.attempts,
        "repeats": trial.repeats,
        "params": _count(known.get("params")),
        "macs": _count(known.get("macs")),
        "seconds": known.get("train_seconds"),
        "started": trial.started,
        "ended": trial.ended,
        "genotype": json.dumps(to_document(_genotype(trial, state, space)), separators=(",", ":")),
    }


def _genotype(trial: Trial, state: RunState, space: SearchSpace) -> Genotype:
    return space.decode(trial.proposal.actions) if trial.card is None else state.cards[trial.card]


def _count(value: float | None) -> int | None:
    """A number of parameters or MACs; the ledger keeps every metric as a float."""
    return None if value is None else round(value)
