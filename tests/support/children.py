"""A child of a search, trained to its end."""

from collections.abc import Generator

from nas.evaluators.evaluator import Evaluation, Report


def finish(child: Generator[Report, None, Evaluation]) -> tuple[list[Report], Evaluation]:
    """All reports of a child, and its evaluation."""
    reports = []
    while True:
        try:
            reports.append(next(child))
        except StopIteration as end:
            return reports, end.value
