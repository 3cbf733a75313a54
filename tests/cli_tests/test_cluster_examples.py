"""The files in examples/cluster: right by Ray's own schema where there is one, closed by default, and jobs that stop and go on for real."""

import importlib.util
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from support.paths import ROOT
from typer.testing import CliRunner

from nas.cli.main import app
from nas.runs.ledger import read_records
from nas.runs.state import replay

FOLDER = ROOT / "examples" / "cluster"
LAUNCHER = ("aws.yaml", "on-premise.yaml")


def read(name: str) -> dict[str, Any]:
    document = yaml.safe_load((FOLDER / name).read_text())
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("name", LAUNCHER)
def test_launcher_files_fit_rays_own_schema(name: str) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(read(name), schema)
    broken = {**read(name), "provider": {"region": "nowhere"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


@pytest.mark.parametrize("name", LAUNCHER)
def test_launched_clusters_ask_for_a_token_and_keep_the_job_server_to_themselves(name: str) -> None:
    document = read(name)
    starts = [c for c in document["head_start_ray_commands"] + document["worker_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    for command in starts:
        assert "RAY_AUTH_MODE=token" in command and "RAY_USAGE_STATS_ENABLED=0" in command
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert any("chmod 600 ~/.ray/auth_token" in c for c in document["setup_commands"])


def test_aws_node_types_agree_with_each_other() -> None:
    document = read("aws.yaml")
    assert document["head_node_type"] in document["available_node_types"]
    workers = {name: node for name, node in document["available_node_types"].items() if name != document["head_node_type"]}
    assert all(node["max_workers"] <= document["max_workers"] for node in workers.values())


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse_and_say_how_they_are_used(script: Path, tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    done = subprocess.run(["bash", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode != 0 and "usage:" in done.stderr


def test_a_run_is_started_where_there_is_none_and_resumed_where_there_is_one(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\n')
    python.chmod(0o755)

    def words(*arguments: str) -> list[str]:
        command = ["bash", str(FOLDER / "search_or_resume.sh"), *arguments]
        environment = {**os.environ, "PYTHON": str(python)}
        return re.findall("<(.*)>", subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout)

    run = tmp_path / "a run"
    assert words(str(run), "--set", "a=b c") == ["-m", "nas", "search", "--run", str(run), "--set", "a=b c"]
    run.mkdir()
    (run / "ledger.jsonl").write_text("{}\n")
    assert words(str(run), "--set", "a=b c") == ["-m", "nas", "resume", str(run)]


def test_the_rayjob_manifest_has_what_the_operator_needs_and_commands_that_exist() -> None:
    document = read("rayjob.yaml")
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob") and document["metadata"]["name"]
    cluster = document["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert container["image"] and requests == {name: limits[name] for name in ("cpu", "memory")}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        environment = {entry["name"]: entry for entry in container["env"]}
        assert environment["RAY_AUTH_MODE"]["value"] == "token" and "secretKeyRef" in environment["RAY_AUTH_TOKEN"]["valueFrom"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    mount = groups[0]["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"]
    assert f"--run {mount}/" in document["spec"]["entrypoint"], "the run must outlive the cluster"
    for command, options in re.findall(r"nas (search|resume)([^;]*)", document["spec"]["entrypoint"]):
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
        assert all(option in shown for option in re.findall(r"--[a-z-]+", options))


# ---------------------------------------------------------------------------------------------------- a real cluster, real jobs

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
HAS_JOBS = all(importlib.util.find_spec(name) for name in ("aiohttp_cors", "opencensus", "virtualenv"))


def free_ports(count: int) -> list[int]:
    """Ports below those that systems hand out, which a cluster that another test starts meanwhile would be given."""
    found: list[int] = []
    for port in random.Random(os.getpid()).sample(range(20_000, 29_000), 200):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"{count} free ports were not found")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A head without CPUs and two worker nodes on this machine, with a token; the environment of a client."""
    head, dashboard, agent, client, metrics = free_ports(5)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",  # at Ray's 15 a busy machine would never let the children train
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY": str(tmp_path / "ray"),
        "PYTHON": sys.executable,
    }
    (tmp_path / "ray").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ray.scripts.scripts "$@"\n')
    (tmp_path / "ray").chmod(0o755)
    workers = "--min-worker-port=30000 --max-worker-port=30999"
    ports = f"--port={head} --dashboard-port={dashboard} --dashboard-agent-listen-port={agent} --ray-client-server-port={client}"
    short = f"/tmp/ray-{os.getpid()}"  # a socket's path must be short
    nodes = [
        f"start --head --block --num-cpus=0 --temp-dir={short} {ports} --metrics-export-port={metrics} {workers}",
        f"start --address=127.0.0.1:{head} --block --num-cpus=1 {workers.replace('30', '31')}",
        f"start --address=127.0.0.1:{head} --block --num-cpus=1 {workers.replace('30', '32')}",
    ]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, node in enumerate(nodes):
            start_node(node, environment, tmp_path / f"node{number}.log", processes)
        wait_for(lambda: reachable(dashboard), 90)
        yield environment
    finally:
        for process in reversed(processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def start_node(arguments: str, environment: dict[str, str], log: Path, processes: list[subprocess.Popen[bytes]]) -> None:
    """Start a node and wait until it is up; a busy machine may need more than the 30 s that Ray gives a node, so try again."""
    for _ in range(4):
        with log.open("w") as file:
            processes.append(
                subprocess.Popen([*RAY, *arguments.split()], env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
            )
        wait_for(lambda: "Ray runtime started" in log.read_text() or processes[-1].poll() is not None, 300)
        if processes[-1].poll() is None:
            return
    pytest.fail(log.read_text())


def reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_JOBS, reason="ray[default] is not installed: pip install -e '.[cluster]'")
def test_a_search_is_submitted_streamed_stopped_and_resumed_by_another_job(cluster: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    ledger = run / "ledger.jsonl"
    command = ["bash", str(FOLDER / "submit.sh"), str(run), "--preset", "laptop", "--controller", "evolution", "--budget", "40"]
    command += ["--set", "evaluator=synthetic", "--set", "synthetic.seconds=1", "--set", "fidelity.epochs=3"]
    with (tmp_path / "job1.log").open("w") as log:
        job = subprocess.Popen(command, env=cluster, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: ledger.is_file() and ledger.read_bytes().count(b'"finished"') >= 8, 240)
        streamed = (tmp_path / "job1.log").read_text()
        (number,) = set(re.findall(r"raysubmit_\w+", streamed))
        assert "40 children" in streamed, streamed  # the plan that the search prints: its log arrives while it runs
        stopped = subprocess.run([cluster["RAY"], "job", "stop", number], env=cluster, capture_output=True, text=True, check=False)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        job.wait(timeout=60)
    finally:
        job.kill()
    before = replay(read_records(ledger)[0], ledger)
    assert 8 <= before.spent < 40
    again = subprocess.run(command, env=cluster, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0 and "succeeded" in again.stdout, again.stdout + again.stderr
    after = replay(read_records(ledger)[0], ledger)
    assert after.spent == 40 and len(after.sessions) == 2 and after.closed == "finished"
    for trial in before.trials.values():
        if trial.evaluation is not None:
            assert after.trials[trial.number].evaluation == trial.evaluation, "a finished child was lost or trained again"
    print(streamed[-3000:], stopped.stdout, again.stdout[-3000:])
