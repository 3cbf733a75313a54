"""The command line as a person uses it: plans, tables, exports, one clear message and exit code 2 for bad input."""

import json
from pathlib import Path

import pytest
from support.processes import Running, run_nas

from search_spaces.genotype import read_genotype

SYNTHETIC = ["--preset", "laptop", "--runner", "local", "--controller", "random", "--set", "evaluator=synthetic"]


def nas(arguments: list[str], cwd: Path, **environment: str) -> Running:
    return run_nas(arguments, cwd, **{"COLUMNS": "160", **environment})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    done = nas(["search", *SYNTHETIC, "--budget", "12", "--run", "found"], folder)
    assert done.returncode == 0, done.stderr
    return folder / "found"


def test_a_search_says_what_it_does_and_ends_with_a_table_and_next_commands(tmp_path: Path) -> None:
    done = nas(["search", *SYNTHETIC, "--budget", "12"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 children from space nasnet (50 decisions, 2.30e+37 action sequences)" in done.stdout
    assert "12/12 children" in done.stdout
    assert "Best 10 of 12 trained children" in done.stdout
    assert "next:" in done.stdout and "nas export runs/" in done.stdout
    assert len(list((tmp_path / "runs").glob("*/best/*.yaml"))) == 10


def test_a_real_search_trains_on_digits_and_hands_over_genotypes(tmp_path: Path) -> None:
    small = ["--epochs", "1", "--filters", "2", "--set", "fidelity.train_examples=128", "--set", "data.validation_examples=64"]
    small += ["--set", "ladder=[]", "--cards", "none"]
    done = nas(["search", "--preset", "laptop", "--runner", "local", "--budget", "2", "--run", "real", *small], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "s a child, from" in done.stdout
    assert "2 of 2 children trained" in done.stdout
    genotype = read_genotype(tmp_path / "real" / "best" / "1.yaml")
    assert genotype.provenance is not None and 0 < (genotype.provenance.reward or 0) <= 1


def test_show_and_list(run: Path) -> None:
    shown = nas(["show", str(run)], run.parent)
    assert shown.returncode == 0 and "Best 10 of 12" in shown.stdout and "schema: nas.genotype/1" in shown.stdout
    listed = nas(["list", "--root", "."], run.parent)
    assert listed.returncode == 0
    for word in ("found", "nasnet-paper", "laptop", "ppo", "12/12"):
        assert word in listed.stdout


def test_exports_read_back(run: Path, tmp_path: Path) -> None:
    assert nas(["export", str(run), "-o", str(tmp_path / "cell.yaml")], tmp_path).returncode == 0
    printed = nas(["export", str(run), "--format", "json", "--rank", "1"], tmp_path)
    assert json.loads(printed.stdout)["provenance"]["run"] == "found"
    (tmp_path / "cell.json").write_text(printed.stdout)
    assert read_genotype(tmp_path / "cell.json") == read_genotype(tmp_path / "cell.yaml") == read_genotype(run / "best" / "1.yaml")
    dot = nas(["export", str(tmp_path / "cell.yaml"), "--format", "dot"], tmp_path)
    assert dot.returncode == 0 and dot.stdout.startswith("digraph")


def test_the_bare_command_without_data_or_network_names_two_ways_out(tmp_path: Path) -> None:
    done = nas(
        ["search", "--space", "nasnet", "--budget", "500", "--preset", "cpu", "--filters", "4", "--set", "fidelity.train_examples=256"],
        tmp_path,
        HOME=str(tmp_path),
        NAS_DATA=str(tmp_path / "none"),
        https_proxy="http://127.0.0.1:1",
        HTTPS_PROXY="http://127.0.0.1:1",
    )
    assert done.returncode == 2
    assert "time:" not in done.stdout, "what is missing is said before anything is measured"
    assert "Traceback" not in done.stderr
    assert "cifar-10-binary.tar.gz" in done.stderr and "--data digits" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "--preset", "nope"], ["unknown preset 'nope'", "laptop"]),
        (["search", "--space", "nope"], ["unknown search space 'nope'", "nasnet-paper"]),
        (["search", "--preset", "laptop", "--controller", "nope"], ["unknown controller 'nope'", "ppo"]),
        (["search", "--preset", "laptop", "--set", "controller.options={nope: 1}"], ["nope", "entropy"]),
        (["search", "--data", "nope"], ["--data must be one of", "'nope'"]),
        (["search", "--preset", "laptop", "--budget", "0"], ["budget", "got 0"]),
        (["search", "--preset", "laptop", "--budget", "many"], ["--budget"]),
        (["search", "--preset", "laptop", "--resume", "x"], ["--resume"]),
        (["search", "--preset", "laptop", "--runner", "cloud"], ["runner.kind", "'ray' or 'local'"]),
        (["resume", "nowhere"], ["nowhere: no run folder"]),
        (["show", "nowhere"], ["nowhere: no run folder"]),
        (["export", "nowhere"], ["nowhere", "no run"]),
        (["export", "nasnet-a", "--format", "docx"], ["unknown export format 'docx'; choose one of yaml, json, dot"]),
        (["data", "imagenet"], ["PATH must be one of cifar10, cifar100, digits", "'imagenet'"]),
        (["draw", "nasnet-a", "--network", "--image-size", "9999999", "-o", "x.svg"], ["between 8 and 4,096, but got 9999999"]),
        (["cost", "nasnet-a", "--cells", "100000"], ["--cells must lie between 1 and 50, but got 100000"]),
        (["cost", "nasnet-a", "--filters", "0"], ["--filters must lie between 1 and 4,096, but got 0"]),
        (["search", "--preset", "laptop", "--filters", "999999"], ["fidelity.filters", "4096", "got 999999"]),
        (["frobnicate"], ["No such command"]),
    ],
)
def test_bad_input_gets_one_message_and_exit_code_2(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    done = nas(arguments, tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "runs").exists(), "nothing may be left behind"


def test_a_damaged_run_is_named_and_not_overwritten(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in ("config.yaml", "ledger.jsonl"):
        (copy / file).write_bytes((run / file).read_bytes())
    lines = (copy / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b"0", b"1", 1)
    (copy / "ledger.jsonl").write_bytes(b"".join(lines))
    for command in (["resume"], ["show"], ["search", "--budget", "20", "--resume"]):
        done = nas([*command, str(copy)], tmp_path)
        assert done.returncode == 2 and "line 6" in done.stderr and "Traceback" not in done.stderr
    assert (copy / "ledger.jsonl").read_bytes() == b"".join(lines)
    (copy / "config.yaml").write_text("space: [1, 2\n")
    assert nas(["resume", str(copy)], tmp_path).returncode == 2


def test_a_search_into_a_used_folder_is_refused(run: Path) -> None:
    done = nas(["search", *SYNTHETIC, "--run", str(run)], run.parent)
    assert done.returncode == 2 and "holds a run already" in done.stderr
