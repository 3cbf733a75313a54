"""The configuration of a search whose children are scored by formula, as if trained on digits: small networks, one process."""

from typing import Any

from nas.runs.config import SearchConfig, config_from_document


def scored_by_formula(budget: int, controller: str = "random", **settings: Any) -> SearchConfig:
    """A search of so many children; ``settings`` take the place of, or add to, these."""
    document = {
        "budget": budget,
        "evaluator": "synthetic",
        "seed": 3,
        "data": {"name": "digits"},
        "fidelity": {"epochs": 2, "cells": 1},
        "controller": {"name": controller},
        "runner": {"kind": "local"},
    }
    return config_from_document(document | settings)
