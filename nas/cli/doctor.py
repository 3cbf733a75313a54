"""``nas doctor``: is everything here that is needed, and what to do where not."""

import json
from typing import Annotated

import typer

from nas.cli.options import say, say_marked


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, to attach to a bug report: no secrets are in it.")] = False,
) -> None:
    """Check Python, torch, GPUs, kernels, threads, limits, Ray, data sets, disk and versions, and say what to do about each fault.

    The exit code is 0 unless something makes the package unusable.
    """
    from nas.api.health import Verdict, examine

    if as_json:
        findings = list(examine())
        typer.echo(json.dumps({"schema": "nas.doctor/1", "checks": [one.document() for one in findings]}, ensure_ascii=False, indent=2))
    else:
        styles = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "bold red"}
        findings = []
        for one in examine():
            findings.append(one)
            say_marked(f"{one.verdict.value:4}", styles[one.verdict], f"{one.name}: {one.found}")
            if one.remedy:
                say(f"     → {one.remedy}")
    if any(one.verdict is Verdict.BAD for one in findings):
        raise typer.Exit(2)
