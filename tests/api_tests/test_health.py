"""`nas doctor`: every check answers here, a broken installation is told with what to do, and nothing secret is in it."""

import json
from collections import namedtuple
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.api import health
from nas.api.health import CHECKS, Verdict, examine
from nas.cli.main import app


def test_every_check_answers_and_this_installation_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "do-not-tell")
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    done = CliRunner().invoke(app, ["doctor", "--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == 0 and [one["name"] for one in document["checks"]] == list(CHECKS)
    assert not any("could not be checked" in one["found"] for one in document["checks"])
    assert "do-not-tell" not in done.stdout and f"{Path.home()}/" not in done.stdout
    assert all((one["remedy"] is None) == (one["verdict"] == "ok") for one in document["checks"])


def test_what_makes_the_package_unusable_ends_with_2_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECKS", {"torch": lambda: (Verdict.BAD, "cannot be used: [broken]", "pip install torch")})
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 2 and done.stdout == "bad  torch: cannot be used: [broken]\n     → pip install torch\n"


def test_a_check_that_breaks_is_told_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECKS", {"disk": lambda: 1 / 0})  # type: ignore[dict-item]
    assert next(examine()).found == "could not be checked: ZeroDivisionError: division by zero"


def test_packages_that_are_missing_or_out_of_range_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["numpy>=99", "no-such-package>=1", "ray[tune]>=2", "nothing; extra == 'x'"]
    monkeypatch.setattr(health.metadata, "requires", lambda name: asked)
    verdict, found, remedy = CHECKS["packages"]()
    assert verdict is Verdict.BAD and "no-such-package is missing" in found and "numpy " in found and "(not >=99)" in found
    assert remedy is not None and "no-such-package" in remedy
    monkeypatch.setattr(health.metadata, "requires", lambda name: ["numpy>=99"])
    assert CHECKS["packages"]()[0] is Verdict.NOTE


def test_little_room_few_files_and_a_gpu_that_torch_cannot_use_are_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(0, 0, 1 << 20))
    monkeypatch.setattr("resource.getrlimit", lambda which: (256, 1024))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(health, "detect", lambda: namedtuple("Machine", "cores memory_gib gpus")(8, 1.0, ("A GPU",)))
    monkeypatch.setattr(health, "_cpu_quota", lambda: 2.0)
    answers = {name: CHECKS[name]() for name in ("disk", "shared memory", "open files", "gpu", "memory", "threads")}
    assert {verdict for verdict, _, _ in answers.values()} == {Verdict.NOTE}
    assert "A GPU, but torch" in answers["gpu"][1] and "ulimit -n 4096" in str(answers["open files"][2])
    assert "--workers 2" in str(answers["threads"][2])
