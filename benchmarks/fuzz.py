"""Does any damaged or hostile file get past the readers? Mutations of valid ledgers, configurations, genotypes and spaces.

    python benchmarks/fuzz.py --cases 100000

A case is a finding where a reader raises anything but a UserError, takes more than ten seconds of processor time, or accepts a wrong value:

- a ledger of mutated bytes that is accepted must be a beginning of the true one, record by record;
- a ledger of mutated records with right checksums must add up to a consistent state, or be refused;
- an accepted configuration must hold every value that its text gives, keep every bound, and be equal after writing and reading;
- an accepted genotype must keep the rules of the format as restated here, hold what its text says, and be equal after writing and reading;
- an accepted space must propose actions that decode to genotypes that encode to the same actions.

Findings are written to the folder --out, with the seed that repeats them. tests/runs_tests/test_fuzz.py runs some hundred cases.
"""

import argparse
import json
import math
import random
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from controllers.controller import Completed, Failed, Proposal, Stopped, random_for
from nas.errors import ConfigError, GenotypeError, UserError
from nas.evaluators.evaluator import Evaluation, Report
from nas.runs import records
from nas.runs.config import build_config, config_from_document, config_yaml, preset_names
from nas.runs.ledger import Ledger, read_records
from nas.runs.records import encode_line
from nas.runs.state import replay
from search_spaces.genotype import from_document, read_genotype, to_document, to_json
from search_spaces.genotype import to_yaml as genotype_to_yaml
from search_spaces.nasnet import NASNET
from search_spaces.reference import load_reference, reference_names
from search_spaces.registry import load_space
from search_spaces.space import sample_actions
from search_spaces.strict_yaml import load_document
from search_spaces.vocabulary import COMBINES, OPERATION_OPTIONS

LIMIT_SECONDS = 10


def main() -> None:
    """Fuzz and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    arguments = parser.parse_args()
    began = time.perf_counter()
    tally = fuzz(arguments.cases, arguments.seed, arguments.out)
    print("| file | cases | refused | accepted | unchanged in meaning | findings |\n|---|---|---|---|---|---|")
    for kind in KINDS:
        numbers = [tally.counts[kind, what] for what in ("refused", "accepted", "same", "finding")]
        print(f"| {kind} | {sum(numbers):,} | {' | '.join(f'{n:,}' for n in numbers)} |")
    conclude(tally, began)


@dataclass
class Tally:
    """How the cases went: (kind of file, verdict) -> number."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    slowest: float = 0.0


def conclude(tally: Tally, began: float) -> None:
    """Say how long it took and what was found, and end: with 1 where anything was."""
    print(f"{time.perf_counter() - began:.0f} s, slowest case {tally.slowest:.2f} s; findings: {tally.findings[:20] or 'none'}")
    raise SystemExit(bool(tally.findings))


class WrongError(Exception):
    """A wrong value was accepted."""


class HangError(BaseException):
    """A case takes too long. Not an Exception, so that no reader catches it."""


def fuzz(cases: int, seed: int, out: Path | None = None) -> Tally:
    """Run that many cases; case i of a seed is always the same."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        seeds = {kind: make(scratch) for kind, (make, _) in KINDS.items()}
        for number in range(cases):
            rng = random.Random(f"{seed}/{number}")
            kind = list(KINDS)[number % len(KINDS)]
            original = rng.choice(seeds[kind])
            mutant = mutate_records(original, rng) if kind == "ledger records" else mutate(original, rng, seeds[kind])
            path = scratch / "mutant.yaml"
            path.write_bytes(mutant)
            began = time.process_time()
            try:
                with time_limit(LIMIT_SECONDS):
                    verdict = KINDS[kind][1](path, original)
            except UserError as error:
                verdict = "refused" if str(error).strip() else "finding"
                problem = "an empty message"
            except (Exception, HangError) as error:
                verdict, problem = "finding", f"{type(error).__name__}: {error}"
            tally.slowest = max(tally.slowest, time.process_time() - began)
            tally.counts[kind, verdict] += 1
            if verdict == "finding":
                tally.findings.append(f"{kind}, case {number} of seed {seed}: {problem[:300]}")
                if out is not None:
                    out.mkdir(parents=True, exist_ok=True)
                    (out / f"{seed}-{number}.txt").write_bytes(mutant)
    return tally


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise HangError in the block after that many seconds of processor time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(f"still busy after {seconds} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


# ---------------------------------------------------------------------------------------------------- mutations

ODD_NUMBERS = "-1 0 1 2 3 1.5 -0.0 1e-400 1e400 1e18 .nan .inf -.inf NaN Infinity 0x10 0o7 0b1 1_000 1:30 9223372036854775807"
ODD_WORDS = "null ~ true false yes no on off '' '1' [] {} [1] {a:1} 2020-01-01 <<: !!python/name:os.system &a *a | > - ? : @ % ` # ,"
ODD_VALUES = [
    *ODD_NUMBERS.split(),
    *ODD_WORDS.split(),
    *("9223372036854775808", "\ufeff", "\x00", "\u202e", "١٢", "é"),
    *("9" * 400, "9" * 5000, "[" * 50, "[" * 3000, "{a: " * 200, "x" * 5000),
    *("\n", "  ", "\t", "---\n", "...\n", "&a [*a, *a]"),
]


def mutate(raw: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """One to three mutations of a file."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        start = rng.randrange(len(data) + 1)
        length = min(int(rng.expovariate(1 / 12)) + 1, len(data) - start)
        match rng.randrange(11):
            case 0 if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 2:
                del data[start : start + length]
            case 3:
                data[start:start] = data[start : start + length]
            case 4:
                other = rng.choice(others)
                place = rng.randrange(len(other) + 1)
                data[start:] = other[place:]
            case 5:
                del data[start:]
            case 6:
                data[start:start] = rng.choice(ODD_VALUES).encode()
            case 7:  # another type or number for a value
                data = _replace_match(data, rb"(-?[0-9][0-9.e+-]*|[a-z_0-9]+)(?=[,\]}\n])", rng)
            case 8:
                data = _replace_match(data, rb"[0-9]+", rng)
            case 9:
                lines = bytes(data).splitlines(keepends=True)
                if len(lines) > 1:
                    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
                    lines[i], lines[j] = (lines[j], lines[i]) if rng.random() < 0.5 else (lines[i], lines[i])
                    data = bytearray(b"".join(lines))
            case 10:
                data[start:start] = bytes(rng.randrange(256) for _ in range(length))
    return bytes(data)


def _replace_match(data: bytearray, pattern: bytes, rng: random.Random) -> bytearray:
    places = [match.span() for match in re.finditer(pattern, bytes(data))]
    if places:
        start, end = rng.choice(places)
        data[start:end] = rng.choice(ODD_VALUES).encode()
    return data


ODD_NUMBERS_IN_JSON = (-1, 0, 1, 7, 10**30, 1.5, -0.5, 1e308, math.nan, math.inf)
ODD_JSON: tuple[Any, ...] = (*ODD_NUMBERS_IN_JSON, None, True, "", "1", "completed", [], {}, [1], {"a": 1}, [[[]]])


def mutate_records(raw: bytes, rng: random.Random) -> bytes:
    """A ledger in which a record was changed, left out, repeated or moved, with numbers and checksums made right again."""
    found = [json.loads(line) for line in raw.splitlines()]
    for record in found:
        del record["n"], record["crc"]
    place = rng.randrange(len(found))
    match rng.randrange(5):
        case 0:
            del found[place]
        case 1:
            found.insert(rng.randrange(len(found) + 1), dict(found[place]))
        case 2:
            found.insert(rng.randrange(len(found)), found.pop(place))
        case 3:
            record = found[place]
            record[rng.choice([*record, "extra"])] = rng.choice(ODD_JSON)
        case 4:
            record = found[place]
            del record[rng.choice(list(record))]
    lines = []
    for number, record in enumerate(found):
        try:
            lines.append(encode_line(number, record))
        except ValueError:  # NaN: write it as a careless program would
            lines.append(encode_line(number, {k: 0.5 if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}))
    return "".join(line + "\n" for line in lines).encode()


# ---------------------------------------------------------------------------------------------------- valid files


def ledgers(scratch: Path) -> list[bytes]:
    """A ledger with every kind of record."""
    path = scratch / "ledger.jsonl"
    path.unlink(missing_ok=True)
    with Ledger(path) as ledger:
        ledger.append(records.opened(10.0, budget=3))
        for number, outcome in enumerate([Completed(0.5), Failed("diverged", "loss is nan"), Stopped(1, 0.25), Completed(0.75)]):
            ledger.append(records.asked(Proposal(number, (1, 2, 3), (-0.1, -0.2, -0.3), policy_version=number)))
            ledger.append(records.started(number, 1, 11.0 + number))
            ledger.append(records.reported(number, 1, Report(1, 0.125, {"loss": 2.0})))
            ledger.append(records.finished(number, Evaluation(outcome, {"params": 100.0}), 12.0 + number))
        ledger.append(records.asked(Proposal(4, (0, 0, 0))), records.started(4, 1, 16.0), records.lost(4, 1, "node left"))
        ledger.append(records.started(4, 2, 17.0), records.finished(4, Evaluation(Completed(0.5)), 18.0))
        ledger.append(records.updated(4, {"entropy": 1.5}))
        ledger.append(records.asked(Proposal(5, (0, 0, 0))), records.finished(5, Evaluation(Completed(0.5)), 18.5, repeats=4))
        ledger.append(records.asked(Proposal(6, (3, 3, 3))), records.closed("interrupted", 19.0))
    return [path.read_bytes()]


def configurations(scratch: Path) -> list[bytes]:
    """The effective configurations of all presets."""
    return [config_yaml(build_config(name)).encode() for name in preset_names()]


def genotypes(scratch: Path) -> list[bytes]:
    """Published cells and found ones, as YAML and as JSON."""
    found = [NASNET.decode(sample_actions(NASNET, random_for(0, number))) for number in range(3)]
    every = [*found, *(load_reference(name) for name in reference_names())]
    return [text.encode() for genotype in every for text in (genotype_to_yaml(genotype), to_json(genotype, indent=None))]


def spaces(scratch: Path) -> list[bytes]:
    """Spaces as the README declares them."""
    small = "schema: nas.space/1\nname: small\noperations: [identity, sep_conv_3x3, max_pool_3x3]\nnodes: 4\ncombine: [add]\n"
    return [f"{small}cells: [normal, reduction]\noutputs: loose_ends\n".encode(), f"{small}cells: [normal]\noutputs: all\n".encode()]


# ---------------------------------------------------------------------------------------------------- checks


def expect(condition: object, what: str) -> None:
    """Raise WrongError where the condition does not hold."""
    if not condition:
        raise WrongError(what)


def check_ledger_bytes(path: Path, original: bytes) -> str:
    """An accepted ledger is a beginning of the true one."""
    found, size = read_records(path)
    replay(found, path)
    true = [json.loads(line) for line in original.splitlines()]
    for line in true:
        del line["n"], line["crc"]
    expect(found == true[: len(found)], "records that were never written")
    expect(path.read_bytes()[:size].count(b"\n") == len(found), "the size is not that of the records")
    return "same" if len(found) == len(true) else "accepted"


def check_ledger_records(path: Path, original: bytes) -> str:
    """An accepted state is consistent."""
    state = replay(read_records(path)[0], path)
    expect(list(state.trials) == list(range(len(state.trials))), "trials are numbered from 0")
    expect(len(set(state.told)) == len(state.told), "a trial was told twice")
    ended = {number for number, trial in state.trials.items() if trial.evaluation is not None}
    expect(ended == set(state.told) and set(state.pending) == set(state.trials) - ended, "told, pending and trials disagree")
    expect(state.spent == sum(trial.spends_budget for trial in state.trials.values()), "spent is not what was spent")
    for trial in state.trials.values():
        expect(trial.reward is None or math.isfinite(trial.reward), "a reward is not finite")
        expect(trial.reward is None or 0 <= trial.reward <= 1, f"a reward of {trial.reward}")
        expect(all(isinstance(action, int) and action >= 0 for action in trial.proposal.actions), "actions are indices")
        earlier = None if trial.repeats is None else state.trials[trial.repeats]
        expect(earlier is None or (earlier is not trial and earlier.evaluation is not None), "a trial repeats one that never ended")
    state.ranked()
    return "accepted"


def check_configuration(path: Path, original: bytes) -> str:
    """An accepted configuration holds what its text says, within bounds, and survives writing and reading."""
    document = load_document(path, ConfigError)
    config = config_from_document(document)
    held = config.model_dump(mode="json")
    _holds(document, held, "")
    for name, value in _leaves(held):
        if isinstance(value, float):
            expect(math.isfinite(value), f"{name} is {value}")
        if isinstance(value, int | float) and not isinstance(value, bool) and not name.startswith("controller.options"):
            expect(value >= 0, f"{name} is {value}")
    again = path.with_name("again.yaml")
    again.write_text(config_yaml(config), encoding="utf-8")
    expect(config_from_document(load_document(again, ConfigError)) == config, "it changes when written and read")
    return "same" if again.read_bytes() == original else "accepted"


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}".strip("."))
    else:
        yield name, value


def _holds(given: object, held: Any, name: str) -> None:  # noqa: ANN401 - plain data
    if isinstance(given, dict):
        for key, inner in given.items():
            _holds(inner, held[key], f"{name}.{key}")
    elif isinstance(given, list):
        expect(len(given) == len(held), f"{name} was {given!r} and is {held!r}")
        for number, (inner, kept) in enumerate(zip(given, held, strict=True)):
            _holds(inner, kept, f"{name}.{number}")
    elif isinstance(held, float) and isinstance(given, str | int) and not isinstance(given, bool):
        expect(float(given) == held, f"{name} was {given!r} and is {held!r}")
    else:
        expect(given == held and isinstance(given, bool) == isinstance(held, bool), f"{name} was {given!r} and is {held!r}")


def check_genotype(path: Path, original: bytes) -> str:
    """An accepted genotype keeps the rules, holds what its text says, and survives writing and reading."""
    genotype = read_genotype(path)
    document: Any = load_document(path, GenotypeError)
    for name, cell in genotype.cells():
        raw = document["cells"][name]
        expect(cell.inputs == len(raw["inputs"]) and list(cell.outputs) == raw["outputs"], f"{name}: inputs or outputs")
        expect(len(cell.nodes) == len(raw["nodes"]) and cell.outputs, f"{name}: nodes")
        for state, (node, raw_node) in enumerate(zip(cell.nodes, raw["nodes"], strict=True), start=cell.inputs):
            expect(node.combine in COMBINES and node.combine == raw_node.get("combine", "add"), f"{name}, {state}: combine")
            for edge, raw_edge in zip(node.edges, raw_node["edges"], strict=True):
                expect(type(edge.source) is int and 0 <= edge.source < state and edge.source == raw_edge[0], f"{name}, {state}: source")
                expect(edge.operation in OPERATION_OPTIONS and edge.operation == raw_edge[1], f"{name}, {state}: operation")
        expect(all(type(o) is int and 0 <= o < cell.inputs + len(cell.nodes) for o in cell.outputs), f"{name}: outputs")
        expect(len(set(cell.outputs)) == len(cell.outputs), f"{name}: outputs repeat")
    expect(set(document["cells"]) == {name for name, _ in genotype.cells()}, "cells")
    again = from_document(to_document(genotype))
    labels = (genotype.name, genotype.space, genotype.provenance)
    expect(again == genotype and (again.name, again.space, again.provenance) == labels, "it changes when written and read")
    expect(from_document(json.loads(to_json(genotype))) == genotype, "its JSON form is another")
    path.write_text(genotype_to_yaml(genotype), encoding="utf-8")
    back = read_genotype(path)
    expect(back == genotype and (back.name, back.space, back.provenance) == labels, "its YAML form is another")
    return "accepted"


def check_space(path: Path, original: bytes) -> str:
    """An accepted space proposes what it can decode and encode."""
    space = load_space(str(path))
    expect(space.decisions or space.name, "a space has a name")
    for number in range(3):
        actions = sample_actions(space, random_for(0, number))
        genotype = space.decode(actions)
        expect(space.encode(genotype) == actions, "decoding and encoding disagree")
        expect(from_document(to_document(genotype)) == genotype, "it proposes genotypes that break the format")
    return "accepted"


KINDS: dict[str, tuple[Callable[[Path], list[bytes]], Callable[[Path, bytes], str]]] = {
    "ledger bytes": (ledgers, check_ledger_bytes),
    "ledger records": (ledgers, check_ledger_records),
    "configuration": (configurations, check_configuration),
    "genotype": (genotypes, check_genotype),
    "space": (spaces, check_space),
}


if __name__ == "__main__":
    main()
