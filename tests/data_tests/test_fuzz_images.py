"""Mutated images of every format, mode and depth: refused with a reason, or read. Never a crash, a hang, or another picture."""

import os
import time

import fuzz_images
import pytest


def test_no_mutated_image_gets_past_the_reader():
    tally = fuzz_images.fuzz(range(1500), seed=5)
    assert tally.findings == []
    totals = {verdict: sum(n for (_, found), n in tally.counts.items() if found == verdict) for verdict in fuzz_images.VERDICTS}
    assert totals["refused"] > 700 and totals["read"] > 150, "the mutations are strong enough to be refused, and weak enough to be read"
    assert {"PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"} <= {kind for kind, _ in tally.counts}


@pytest.mark.parametrize("wrong", ["crash", "end", "hang"])
def test_the_fuzzer_finds_what_it_looks_for(wrong, monkeypatch, tmp_path):
    def decode(content: bytes) -> object:
        if wrong == "crash":
            raise RecursionError("deep")
        if wrong == "end":
            os._exit(1)
        time.sleep(60)
        return None

    fuzz_images.seeds()
    monkeypatch.setattr(fuzz_images, "LIMIT_SECONDS", 1)
    monkeypatch.setattr(fuzz_images, "decode", decode)
    tally = fuzz_images.fuzz(range(2), seed=0, out=tmp_path)
    assert len(tally.findings) == len(list(tmp_path.iterdir())) == 2
    assert {"crash": "RecursionError", "end": "the process ended", "hang": "hung"}[wrong] in tally.findings[1]
