"""Mutated ledgers, configurations, genotypes and spaces: refused with a message, or accepted for what they say. Never a crash."""

from pathlib import Path

import fuzz
import pytest


def test_no_mutated_file_gets_past_the_readers() -> None:
    tally = fuzz.fuzz(cases=1000, seed=1)
    assert tally.findings == []
    for kind in fuzz.KINDS:  # the mutations are strong enough to be refused, and weak enough to be accepted now and then
        assert tally.counts[kind, "refused"] >= 100
        assert tally.counts[kind, "accepted"] + tally.counts[kind, "same"] >= 3


@pytest.mark.parametrize("wrong", ["reward", "crash", "hang"])
def test_the_fuzzer_finds_what_it_looks_for(wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def check(path: Path, original: bytes) -> str:
        if wrong == "reward":
            fuzz.expect(False, "a wrong value")
        if wrong == "crash":
            raise RecursionError("deep")
        while True:
            pass

    monkeypatch.setattr(fuzz, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(fuzz, "KINDS", {"space": (fuzz.spaces, check)})
    tally = fuzz.fuzz(cases=2, seed=0, out=tmp_path)
    assert tally.counts["space", "finding"] == 2 and len(list(tmp_path.iterdir())) == 2
    assert {"reward": "WrongError", "crash": "RecursionError", "hang": "HangError"}[wrong] in tally.findings[0]
