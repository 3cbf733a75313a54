"""Does everything work on this machine's GPU, and how fast? One command of at most six minutes, without Ray and without network.

    python benchmarks/gpu_check.py --output OUT                # on a machine with a GPU
    python benchmarks/gpu_check.py --output OUT --device cpu   # the same, tiny, to try the check itself

Steps, in the order of what is most wanted: ``machine``, ``tests`` (``pytest -m gpu``) with ``exports`` and ``train`` (NASNet-A for two
epochs, stopped and resumed) beside it, as none of them is timed, ``training`` (a child's step: layouts, precisions, CUDA graph; the
engine's with and without graphs, and compiled), ``together`` (1–16 children at once), ``search`` (30 children in process by the `gpu`
preset's settings, one epoch each, eight at once, as many in all as the time allows), ``latency`` (``nas cost``). Each runs in a process of
its own with a time limit; what it has found is in OUT/gpu_check.json and OUT/gpu_check.md before the next one begins, also where it fails
or is stopped. OUT/gpu_check.log has all that was printed.
"""

import argparse
import faulthandler
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
NAS = (sys.executable, "-m", "nas")
Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What a step is told: the device, where it may write, the images, and how long it has.

    ``data`` are the arguments by which ``nas search`` and ``nas train`` find their images.
    """

    device: str
    scratch: Path
    data: tuple[str, ...]
    seconds: float = math.inf

    @property
    def gpu(self) -> bool:
        """Whether this is the real thing."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Step:
    """A step: what it yields, the seconds it may take, and the seconds that are kept for it when others are slow."""

    run: Callable[[Task], Iterator[Row]]
    limit: float
    reserved: float


# ---------------------------------------------------------------------------------------------------- the steps


def machine(task: Task) -> Iterator[Row]:
    """What this is, and its two ceilings: memory bandwidth and products of large matrices."""
    import torch

    yield {"python": sys.version.split()[0], "torch": torch.__version__, "cpus": os.cpu_count(), "cuda": torch.version.cuda}
    device = torch.device(task.device)
    if not task.gpu:
        return
    properties = torch.cuda.get_device_properties(device)
    yield {
        "gpu": properties.name,
        "memory_GiB": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "cudnn": torch.backends.cudnn.version(),
        "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
    }
    from gpu_children import time_steps

    source = torch.randn(1 << 28, device=device)
    target = torch.empty_like(source)
    seconds = min(time_steps(lambda: target.copy_(source), device, 0.3))
    yield {"copy_TB_per_second": round(2 * source.nbytes / seconds / 1e12, 2)}
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    yield {"bfloat16_TFLOP_per_second": round(2 * 8192**3 / min(time_steps(lambda: a @ b, device, 0.3)) / 1e12)}


def tests(task: Task) -> Iterator[Row]:
    """The tests marked ``gpu``: each as it ends, how they ended, and what the failures said."""
    report = task.scratch / "tests.xml"
    files = sorted(str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8"))
    several = task.gpu and importlib.util.find_spec("xdist") is not None
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", f"--junitxml={report}"]
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, *(["-n", str(TESTS_AT_ONCE)] if several else []), *files],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        ended = _TEST_ENDED.fullmatch(line.rstrip())
        outcome = ended and (ended["first"] or ended["last"])
        if ended and outcome:
            yield {"test": ended["test"], "outcome": outcome.lower(), "after_s": round(time.monotonic() - started, 1)}
    yield {"command": "pytest -m gpu", "exit_code": process.wait()}
    suite = ElementTree.parse(report).getroot().find("testsuite")  # noqa: S314 - written just now by pytest
    if suite is None:
        return
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    yield counts | {"seconds": float(suite.get("time", 0))}
    for case in suite.iter("testcase"):
        for problem in [*case.findall("failure"), *case.findall("error")]:
            yield {"test": case.get("name"), "error": (problem.get("message") or "")[:300]}


TESTS_AT_ONCE = 6
"""Processes that run tests, where pytest-xdist is installed: most of a test's time goes by before the GPU has anything to do."""
_TEST_ENDED = re.compile(r"(?:\[gw\d+\] \[ *\d+%\] (?P<first>[A-Z]+) )?\S+?::(?P<test>.+?)(?: (?P<last>[A-Z]+) +\[ *\d+%\])?")


def training(task: Task) -> Iterator[Row]:
    """A child's training step, one way and another."""
    import gpu_children
    import torch

    yield from gpu_children.training_rows(torch.device(task.device), gpu_children.FULL if task.gpu else gpu_children.TINY)


def together(task: Task) -> Iterator[Row]:
    """Several children at once."""
    import gpu_children
    import torch

    yield from gpu_children.together_rows(torch.device(task.device), gpu_children.FULL if task.gpu else gpu_children.TINY)


def search(task: Task) -> Iterator[Row]:
    """A search in this machine's one process by the `gpu` preset's settings, one epoch a child."""
    run = task.scratch / "run"
    tiny = {"fidelity.cells": 1, "fidelity.filters": 4, "fidelity.train_examples": 64, "fidelity.validation_examples": 50}
    tiny |= {"training.batch_size": 32, "runner.gpus_per_child": 0, "runner.threads_per_child": 1}
    real = {"fidelity.image_size": 32, "fidelity.train_examples": 10_000, "fidelity.validation_examples": 1000}
    settings = {"fidelity.epochs": 1, "ladder": "[]", **(real if task.gpu else tiny)}
    assigned = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    budget, workers = ("30", "8") if task.gpu else ("2", "1")
    command = ["search", "--preset", "gpu", "--runner", "local", "--budget", budget, "--workers", workers, *task.data, *assigned]
    enough = time.monotonic() + task.seconds - 15  # after which the children so far are what is reported
    yield run_nas([*command, "--run", str(run)], stop_when=lambda: time.monotonic() > enough, wanted=(0, 130))
    from nas.runs.folder import RunFolder

    trials = [trial for trial in RunFolder(run).state().trials.values() if trial.evaluation is not None]
    outcomes = [type(trial.evaluation.outcome).__name__ for trial in trials if trial.evaluation]
    rewards = [trial.reward for trial in trials if trial.reward is not None]
    measured = [trial.evaluation.metrics for trial in trials if trial.evaluation]
    seconds = sorted(metrics["train_seconds"] for metrics in measured if "train_seconds" in metrics)
    speeds = sorted(metrics["images_per_second"] for metrics in measured if "images_per_second" in metrics)
    first, last = min(trial.started or 0.0 for trial in trials), max(trial.ended or 0.0 for trial in trials)
    yield {
        "children": len(trials),
        "outcomes": {name: outcomes.count(name) for name in sorted(set(outcomes))},
        "rewards": [round(min(rewards), 4), round(sum(rewards) / len(rewards), 4), round(max(rewards), 4)] if rewards else None,
        "seconds_a_child": [round(seconds[0], 2), round(seconds[len(seconds) // 2], 2), round(seconds[-1], 2)] if seconds else None,
        "images_per_second": [round(speeds[0]), round(speeds[len(speeds) // 2]), round(speeds[-1])] if speeds else None,
        "replayed_share": sorted({round(metrics["replayed_share"], 2) for metrics in measured if "replayed_share" in metrics}),
        "children_at_once": round(sum(seconds) / max(1e-9, last - first), 3),
    }


def train(task: Task) -> Iterator[Row]:
    """NASNet-A for two short epochs: in one go, and stopped in the second epoch and resumed; how far the losses are apart."""
    sizes = ["--cells", "2", "--filters", "16", "--image-size", "32"]
    if not task.gpu:
        sizes = ["--cells", "1", "--filters", "2", "--batch-size", "32", "--threads", "1"]
    common = ["train", "nasnet-a", *task.data, "--epochs", "2", "--device", task.device, *sizes]
    whole, parts = task.scratch / "whole", task.scratch / "parts"
    yield run_nas([*common, "-o", str(whole)])
    yield run_nas([*common, "-o", str(parts)], stop_when=lambda: _epochs(parts) == 1, wanted=(130,)) | {"stopped": "after the first epoch"}
    yield run_nas(["train", "--resume", str(parts)])
    lines = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (whole, parts)]
    losses = [[line["train_loss"] for line in history] for history in lines]
    yield {
        "losses": losses,
        "largest_difference": max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True)),
        "images_per_second": [round(line["images_per_second"]) for line in lines[0]],
        "validation_top1": [line["validation_top1"] for line in lines[0]],
    }
    yield run_nas(["evaluate", str(whole), "--device", task.device])


def _epochs(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.is_file() else 0


def latency(task: Task) -> Iterator[Row]:
    """``nas cost --latency --memory`` in every precision."""
    networks = [["nasnet-a", "--skeleton", "nasnet-mobile"], ["convnext"], ["resnext-32x4d"]]
    conditions = [(64, "float32"), (64, "bfloat16"), (64, "float16"), (1, "float32"), (1, "bfloat16")]
    if not task.gpu:
        networks, conditions = [["nasnet-a", "--cells", "1", "--filters", "4", "--image-size", "8"]], conditions[:1]
    for network in networks:
        for batch, dtype in conditions:
            more = ["--memory"] if (batch, dtype) == (64, "float32") else []
            yield call_nas(["cost", *network, "--latency", *more, "--device", task.device, "--dtype", dtype, "--batch-size", str(batch)])


def exports(task: Task) -> Iterator[Row]:
    """Weights trained on the device, written in every format and read back; and the files themselves run on the device."""
    trained = task.scratch / "exported"
    tiny = ["--cells", "1", "--filters", "4", "--epochs", "1", "--batch-size", "128"]
    yield run_nas(["train", "nasnet-a", *task.data, *tiny, "--device", task.device, "-o", str(trained)])
    for name, file in FILES.items():
        row = call_nas(["export", str(trained), "--format", name, "-o", str(task.scratch / file)])
        yield row
        if "error" not in row and name in _LOADERS:
            yield _on_device(name, task.scratch / file, trained / "best.safetensors", task.device)


FILES = {"safetensors": "net.safetensors", "python": "net.py", "timm": "net_timm.py", "torch-export": "net.pt2", "onnx": "net.onnx"}


def _load_python(file: Path) -> Any:  # noqa: ANN401 - a module
    import importlib.util

    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module.load(file.with_suffix(".safetensors")).eval()


def _load_program(file: Path, device: str) -> Any:  # noqa: ANN401 - a module
    import torch
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(torch.export.load(file), device).module()


_LOADERS: dict[str, Callable[[Path, str], Any]] = {
    "python": lambda file, device: _load_python(file).to(device),
    "torch-export": _load_program,
}


def _on_device(name: str, file: Path, weights: Path, device: str) -> Row:
    """How far an exported file's logits on the device are from the network's on the CPU, as a share of the largest."""
    import torch

    from nas.networks.weights.described import load_described

    row: Row = {"what": f"{name} file on {device}"}
    torch.backends.cudnn.allow_tf32 = False
    try:
        network, description = load_described(weights)
        chosen = description.architecture
        images = torch.randn(4, chosen.channels, chosen.image_size, chosen.image_size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network.eval()(images)
        with torch.no_grad():
            found = _LOADERS[name](file, device)(images.to(device)).cpu()
        apart = float((found - expected).abs().max() / expected.abs().max())
        row["difference"] = apart
        return row if apart <= 1e-4 else row | {"error": "more than 1e-4"}
    except Exception as problem:
        return row | {"error": f"{type(problem).__name__}: {problem}"[:300]}


STEPS: dict[str, Step] = {
    "machine": Step(machine, 40, 0),
    "tests": Step(tests, 200, 60),
    "exports": Step(exports, 200, 60),
    "training": Step(training, 130, 85),
    "together": Step(together, 120, 90),
    "search": Step(search, 80, 50),
    "train": Step(train, 180, 60),
    "latency": Step(latency, 60, 30),
}
ORDER = "machine,tests+exports+train,training,together,search,latency"


# ---------------------------------------------------------------------------------------------------- commands


def run_nas(arguments: Sequence[str], stop_when: Callable[[], bool] | None = None, wanted: Sequence[int] = (0,)) -> Row:
    """Run ``nas`` in a process of its own, its output passed on line by line; with ``stop_when``, SIGTERM as soon as that is so."""
    started = time.monotonic()
    process = subprocess.Popen([*NAS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{time.monotonic() - started:6.1f}  {line}", end="", flush=True)
            lines.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    while stop_when is not None and process.poll() is None:
        if stop_when():
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.01)
    process.wait()
    reader.join()
    return _command_row(arguments, process.returncode, wanted, time.monotonic() - started, "".join(lines))


def call_nas(arguments: Sequence[str]) -> Row:
    """Run ``nas`` inside this process, which need not start torch anew."""
    from typer.testing import CliRunner

    from nas.cli.main import app

    started = time.monotonic()
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments))
    print(done.output, flush=True)
    output = done.output if done.exception is None or isinstance(done.exception, SystemExit) else f"{done.output}\n{done.exception!r}"
    return _command_row(arguments, done.exit_code, (0,), time.monotonic() - started, output)


TOLD = ("graphs:", "layout:", "time:", "latency:", "memory:", "read back", "test:", "accuracy:", "throughput:")
"""Beginnings of the lines of a command's output that are kept."""


def _command_row(arguments: Sequence[str], code: int, wanted: Sequence[int], seconds: float, output: str) -> Row:
    short = " ".join(Path(argument).name if argument.startswith("/") else argument for argument in arguments)
    row: Row = {"command": f"nas {short}", "exit_code": code, "seconds": round(seconds, 1)}
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(TOLD)]
    if told:
        row["output"] = told
    return row if code in wanted else row | {"error": " | ".join(lines[-3:])[-400:]}


# ---------------------------------------------------------------------------------------------------- the check


def perform(name: str, task: Task, rows_file: Path) -> int:
    """One step, in its own process: a JSON line for every row, as soon as it is known; returns the exit code."""
    if math.isfinite(task.seconds):
        faulthandler.dump_traceback_later(max(1.0, task.seconds - 2))  # into the log, so that it says where the time went
    with rows_file.open("a", encoding="utf-8") as file:
        try:
            for row in STEPS[name].run(task):
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(json.dumps(row), flush=True)
        except Exception as problem:
            file.write(json.dumps({"error": f"{type(problem).__name__}: {problem}"[:500]}) + "\n")
            traceback.print_exc()
            return 1
    return 0


def run_step(command: Sequence[str], limit: float, rows_file: Path, log: Path) -> Row:
    """Run a step's process for so many seconds at most, then end it and all that it started; returns how it went, with its rows."""
    started = time.monotonic()
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    rows = [json.loads(line) for line in rows_file.read_text(encoding="utf-8").split("\n")[:-1]] if rows_file.is_file() else []
    problems = sum("error" in row for row in rows)
    ending = f"stopped after {limit:.0f} s" if code is None else "done" if code == 0 else f"exit code {code}"
    return {"ending": ending, "seconds": round(time.monotonic() - started, 1), "problems": problems, "rows": rows}


def check(groups: Sequence[Sequence[str]], arguments: argparse.Namespace, scratch: Path) -> bool:
    """Run the groups one after the other, the steps of one at once, writing what is known after each; whether all went well."""
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * arguments.minutes
    found: dict[str, Row] = {}
    options = [f"--{name}={value}" for name in ("device", "data", "data-dir") if (value := getattr(arguments, name.replace("-", "_")))]

    def run(name: str, left: float) -> Row:
        limit = min(STEPS[name].limit, max(STEPS[name].reserved, left))
        given = [f"--step={name}", f"--output={scratch}", f"--seconds={limit}", *options]
        command = [sys.executable, str(Path(__file__).resolve()), *given]
        return run_step(command, limit, scratch / f"{name}.jsonl", output / "gpu_check.log")

    for number, group in enumerate(groups):
        left = deadline - time.monotonic() - sum(max(STEPS[name].reserved for name in later) for later in groups[number + 1 :])
        with ThreadPoolExecutor(len(group)) as pool:
            found |= zip(group, pool.map(run, group, [left] * len(group)), strict=True)
        for name in group:
            print(f"{name}: {found[name]['ending']}, {found[name]['seconds']} s, {found[name]['problems']} problems", flush=True)
        for file, text in (("gpu_check.json", json.dumps(found, indent=1)), ("gpu_check.md", markdown(found, arguments.device))):
            (output / file).write_text(text + "\n", encoding="utf-8")
    return all(step["ending"] == "done" and not step["problems"] for step in found.values())


def markdown(found: dict[str, Row], device: str) -> str:
    """What was found, a table for each kind of row."""
    lines = [f"# GPU check on {device}", "", "| step | ended | s | rows | problems |", "|---|---|---|---|---|"]
    for name, step in found.items():
        lines.append(f"| {name} | {step['ending']} | {step['seconds']} | {len(step['rows'])} | {step['problems']} |")
    for name, step in found.items():
        lines += ["", f"## {name}"]
        columns: list[str] = []
        for row in step["rows"]:
            if list(row) != columns and not set(row) <= set(columns):
                columns = list(row)
                lines += ["", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines.append("| " + " | ".join(_cell(row.get(column)) for column in columns) + " |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = (
        "; ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 0.01
        else str(value)
    )
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """The check, or one of its steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu_check.json, .md and .log")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu for a tiny trial of the check itself")
    parser.add_argument("--steps", default=ORDER, help="some of them, separated by commas, or by + where they are to run at once")
    parser.add_argument("--minutes", type=float, default=6, help="for all steps together")
    parser.add_argument("--data", help="cifar10, synthetic or a folder of images for the search and the training; default synthetic images")
    parser.add_argument("--data-dir", help="folder that holds CIFAR-10")
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=math.inf, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        images = arguments.data or ("synthetic" if arguments.device.startswith("cuda") else "digits")
        data = ("--data", images, *(("--data-dir", arguments.data_dir) if arguments.data_dir else ()))
        code = perform(
            arguments.step, Task(arguments.device, arguments.output, data, arguments.seconds), arguments.output / f"{arguments.step}.jsonl"
        )
        sys.stdout.flush()
        os._exit(code)  # what was found is written; a library that does not come to its end must not cost the limit
    groups = [group.split("+") for group in arguments.steps.split(",")]
    unknown = [name for group in groups for name in group if name not in STEPS]
    if unknown:
        parser.error(f"--steps must be some of {', '.join(STEPS)}, but got {', '.join(unknown)}")
    with tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as scratch:
        well = check(groups, arguments, Path(scratch))
    print((arguments.output / "gpu_check.md").read_text(encoding="utf-8")[-9000:])
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
