"""`nas report`: what the pages say is what the folders have; nothing is loaded, nothing that a file says becomes code."""

import csv
import io
import json
import random
import re
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from support.commands import nas as command
from support.pages import Page, browse

import nas
from controllers.controller import Completed, Earlier, Failed, Proposal
from nas.comparisons.networks import Row
from nas.errors import ConfigError, RunError
from nas.evaluators.evaluator import Evaluation, Report
from nas.evaluators.settings import RungSettings
from nas.networks.description import skeleton_document
from nas.reports.charts import CHARTS
from nas.reports.children import children_of
from nas.reports.folders import environment_facts
from nas.reports.page import page
from nas.reports.progress import Reference
from nas.reports.search import search_report
from nas.reports.training import training_report
from nas.runs import records
from nas.runs.config import build_config
from nas.runs.folder import RunFolder, create
from nas.runs.ledger import Ledger
from nas.runs.noise import Yardstick
from nas.runs.trials import Size
from nas.training.config import TrainConfig
from nas.training.folder import TrainFolder
from nas.training.measured import Answers, Measured
from search_spaces.reference import load_reference
from search_spaces.registry import load_space
from search_spaces.skeletons import SKELETONS
from search_spaces.space import sample_actions

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SPACE = load_space("nasnet")
RUNG = RungSettings(children=3, epochs=4)


def a_run(path: Path, children: int = 12, rich: bool = True) -> RunFolder:
    """A run whose ledger was written by hand: three sizes of reward, a failure, a rung, a card; or one as the first versions wrote."""
    settings = ["controller.options={hidden: 8}", *(["cards=[nasnet-a]"] if rich else []), f"budget={children}"]
    folder, rng = create(path, build_config("laptop", settings)), random.Random(1)
    with Ledger(folder.ledger_file) as ledger, ledger.together():
        more = {"rungs": (), "data": "abc", "yardsticks": [Yardstick(400, 0.1)] * 2, "ladder": [RUNG]} if rich else {}
        ledger.append(records.opened(1000.0, children, **more))
        for number in range(children):
            actions = sample_actions(SPACE, rng)
            proposal = Proposal(number, actions, (-0.5,) * len(actions) if rich else (), number // 4)
            size = Size(8.0, {"macs": 1e6 + 1e4 * number, "params": 2e4}) if rich else None
            ledger.append(records.asked(proposal, size=size), records.started(number, 1, 1000.0 + 10 * number))
            if rich and number == 5:
                ledger.append(records.finished(number, Evaluation(Failed("diverged", HOSTILE)), 1009.0 + 10 * number))
                continue
            ledger.append(records.reported(number, 1, Report(1, 0.3)))
            outcome = Evaluation(Completed(0.3 + 0.02 * (number * 5 % 12)), {"train_seconds": 6.0})
            ledger.append(records.finished(number, outcome, 1009.0 + 10 * number))
            if rich and number % 4 == 3:
                ledger.append(records.updated(number, {"entropy_share": 1 - number / 50, "entropy": 2.0, "gradient_norm": 0.1}))
        if rich:
            _climb(ledger, children)
        ledger.append(records.closed("finished", 1000.0 + 20 * children))
    return folder


def _climb(ledger: Ledger, first: int) -> None:
    for i, origin in enumerate((7, 2, 9)):
        number, time = first + i, 1000.0 + 10 * (first + i)
        proposal = Proposal(number, ledger.state.trials[origin].proposal.actions, rung=1)
        ledger.append(records.raised(proposal, origin, 0), records.started(number, 1, time))
        ledger.append(records.finished(number, Evaluation(Completed(0.6 + 0.1 * i), {"train_seconds": 8.0}), time + 9))
    for number, rung in ((first + 3, 0), (first + 4, 1)):
        ledger.append(records.dealt(number, rung, 0, "nasnet-a", load_reference("nasnet-a")), records.started(number, 1, 1200.0))
        ledger.append(records.finished(number, Evaluation(Completed(0.45 + 0.3 * rung)), 1201.0))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return a_run(tmp_path_factory.mktemp("runs") / "a <b>run & more")


@pytest.fixture(scope="module")
def written(run: RunFolder) -> Path:
    return nas.report(run.path)


@pytest.fixture(scope="module")
def seen(written: Path) -> Page:
    return Page(written.read_text(encoding="utf-8"))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# ------------------------------------------------------------------------------------------------ searches


def test_a_report_lies_in_the_runs_folder_and_loads_nothing(written: Path, run: RunFolder, seen: Page) -> None:
    assert written == run.path / "report.html"
    assert seen.loaded == []
    policy = next(value for tag, name, value in seen.attributes if tag == "meta" and name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy and "http" not in policy


def test_what_a_file_says_never_becomes_an_element(seen: Page) -> None:
    assert seen.tags["script"] == 4  # charts, themes, library, ours
    assert not seen.tags["b"] and not seen.tags["img"] and not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert HOSTILE in seen.text and "Search a <b>run & more" in seen.text


def test_what_the_machine_was_is_said_as_a_person_types_it(tmp_path: Path) -> None:
    later = [{"command": ["nas", "resume", "a run"], "variables": {}, "time": "today"}, {"command": ["nas", "resume", "last"]}]
    file = tmp_path / "environment.json"
    file.write_text(json.dumps({"command": ["nas", "search", "--data", "my pictures"], "later": later, "packages": {"torch": "2"}}))
    facts = dict(environment_facts(file))
    assert facts["command"] == "nas search --data 'my pictures'" and facts["packages"] == "torch 2"
    assert facts["later"] == "command nas resume 'a run', time today; command nas resume last"


def test_hovering_over_a_cell_says_what_its_edges_are(written: Path, run: RunFolder) -> None:
    text = written.read_text(encoding="utf-8")
    best = nas.open_run(run.path).best
    operations = {edge.operation for _, cell in best.cells() for node in cell.nodes for edge in node.edges}
    titles = " ".join(re.findall(r"<title>([^<]*)</title>", text)).replace("_", " ").replace("×", "x")
    assert text.count("<title>") > 20 and all(operation.replace("_", " ") in titles for operation in operations)


def test_every_trial_is_in_the_page_as_csv(seen: Page, run: RunFolder) -> None:
    trials = rows(seen.files["every-trial-in-the-order-of-asking.csv"])
    state = run.state()
    assert len(trials) == len(state.trials) == 17
    assert [float(row["reward"]) if row["reward"] else None for row in trials] == [trial.reward for trial in state.trials.values()]
    assert trials[5]["reason"] == "diverged" and trials[12]["origin"] == "7" and trials[15]["card"] == "nasnet-a"


def test_every_figure_has_its_data_as_csv(seen: Page) -> None:
    charts = seen.charts
    assert len(charts) >= 14
    for chart in charts:
        values = chart["data"]["values"] if "values" in chart["data"] else chart["datasets"][chart["data"]["name"]]
        said = {json.dumps([str(value) for value in row.values()]) for row in values}
        files = [{json.dumps([value for value in row.values() if value]) for row in rows(text)} for text in seen.files.values()]
        assert any(said == file for file in files), chart


def test_the_incumbent_goes_by_children_time_and_cost(seen: Page) -> None:
    best = [row for row in rows(seen.files["the-incumbent-over-cost.csv"]) if row["series"] == "best so far"]
    rewards = [float(row["reward"]) for row in best]
    assert rewards == sorted(rewards) and rewards[-1] == max(0.3 + 0.02 * (n * 5 % 12) for n in range(12) if n != 5)
    seconds = [float(row["seconds of training, all workers together"]) for row in best]
    assert seconds[0] == pytest.approx(6) and seconds[-1] == pytest.approx(11 * 6 + 9), "hours would be none"
    names = {row["series"] for row in rows(seen.files["the-incumbent-over-children.csv"])}
    assert names == {"child", "best so far", "random, expected", "card nasnet-a", "chance"}


def test_the_random_reference_is_the_expected_best_of_so_many_draws() -> None:
    rewards = (0.2, 0.9, 0.4)
    drawn = Reference("", rewards)
    for count in (1, 2, 3):
        assert drawn.expected(count) == pytest.approx(fmean(max(draw) for draw in product(rewards, repeat=count)))


def test_another_search_gives_the_random_reference(run: RunFolder, tmp_path: Path) -> None:
    other = a_run(tmp_path / "other", 20, rich=False)
    figure = search_report(run, other).sections[1].figures[0]
    assert "other (ppo, 20 children)" in search_report(run, other).sections[1].notes[0]
    drawn = [row[0] for row in figure.table.rows if row[2] == "random, expected"]
    assert drawn[0] == 1 and drawn[-1] == 12  # no more than this search has trained


def ledger_of(path: Path, *settings: str, versions: int = 100, warm: int = 0, **opened: object) -> RunFolder:
    """A run of ten children, one after another, rewarded 0.10, 0.11, …; the first ``warm`` were a person's."""
    folder, rng = create(path, build_config("laptop", ["budget=10", *settings])), random.Random(1)
    policy = folder.config().controller.name not in ("random", "evolution")
    with Ledger(folder.ledger_file) as ledger, ledger.together():
        ledger.append(records.opened(1000.0, 10, **opened))  # type: ignore[arg-type]
        for number in range(10):
            actions = sample_actions(SPACE, rng)
            proposal = Proposal(number, actions, (-0.5,) * len(actions) if policy else (), number // versions)
            ledger.append(records.asked(proposal, warm=f"own-{number}" if number < warm else None))
            ledger.append(records.started(number, 1, 1000.0), records.finished(number, Evaluation(Completed(0.1 + number / 100)), 1001.0))
    return folder


def reference_of(folder: RunFolder) -> tuple[int, str]:
    """How many cells drawn at random a report draws a line of, and what it says of them."""
    section = search_report(folder).sections[1]
    return sum(row[2] == "random, expected" for row in section.figures[0].table.rows), section.notes[0]


def test_the_random_reference_is_of_cells_drawn_at_random_only(tmp_path: Path) -> None:
    """What a surrogate chose, of earlier searches or of the first outcomes, is not random; nor is what a person began with."""
    actions = sample_actions(SPACE, random.Random(2))
    learnt = ledger_of(tmp_path / "learnt", earlier=[Earlier("cifar100", ((actions, 0.5),) * 3)])
    count, said = reference_of(learnt)
    assert count == 0 and "learnt from cifar100 (3 cells)" in said and "--against RUN" in said and "Random reference" not in said
    assert all("drawn at random" not in figure.said for figure in search_report(learnt).sections[1].figures)
    start = "controller.options.screen_start=6"
    assert reference_of(ledger_of(tmp_path / "screened", start))[0] == 6
    assert reference_of(ledger_of(tmp_path / "batch", start, versions=4))[0] == 4, "then the policy has learnt"
    assert reference_of(ledger_of(tmp_path / "warm", start, warm=2))[0] == 4, "the surrogate learns of what a person gave, too"
    assert reference_of(ledger_of(tmp_path / "policy", "controller.options.screen=false"))[0] == 10
    evolution = ledger_of(tmp_path / "evolution", "controller.name=evolution", "controller.options.population=5", warm=2)
    assert reference_of(evolution)[0] == 3
    assert reference_of(ledger_of(tmp_path / "usual", "controller.name=evolution"))[0] == 10, "its population is 30 unless said"
    assert reference_of(ledger_of(tmp_path / "random", "controller.name=random", warm=2))[0] == 8
    section = search_report(learnt, evolution).sections[1]
    assert "evolution (evolution, 8 children), which were not all drawn at random" in section.notes[0]
    assert section.figures[0].said.endswith("Dashed: the expected best of as many children of evolution.")


def test_proxy_rungs_cards_failures_and_costs_are_those_of_the_ledger(seen: Page) -> None:
    proxy = rows(seen.files["proxy-against-rung-1.csv"])
    assert {row["trial"]: float(row["reward at rung 1"]) for row in proxy} == pytest.approx({"7": 0.6, "2": 0.7, "9": 0.8})
    cards = rows(seen.files["control-cards.csv"])
    assert [(row["rung"], float(row["reward"])) for row in cards] == [("search", 0.45), ("rung 1", 0.75)]
    assert rows(seen.files["failures-by-reason.csv"]) == [{"reason": "diverged", "count": "1", "series": "failed"}]
    costs = rows(seen.files["accuracy-against-macs.csv"])
    on = sorted((row for row in costs if row["front"] == "True"), key=lambda row: float(row["MACs"]))
    front = [float(row["accuracy"]) for row in on]
    assert len(costs) == 11 and front == sorted(front) and front[-1] == max(float(row["accuracy"]) for row in costs)
    assert "accuracy-against-latency-ms.csv" not in seen.files  # not measured by this search


def test_choices_over_time_add_up_to_one(seen: Page) -> None:
    shares: dict[tuple[str, str], float] = {}
    for row in rows(seen.files["what-each-decision-chose-over-time.csv"]):
        shares[row["decision"], row["trials"]] = shares.get((row["decision"], row["trials"]), 0.0) + float(row["share"])
    assert len(shares) == len(SPACE.decisions) * 12 and set(np.round(list(shares.values()), 9)) == {1.0}
    sure = rows(seen.files["how-sure-the-policy-was-of-each-decision.csv"])
    assert {round(float(row["probability"]), 6) for row in sure} == {round(float(np.exp(-0.5)), 6)}


def test_a_pause_between_sessions_takes_no_time(tmp_path: Path) -> None:
    folder = create(tmp_path / "paused", build_config("laptop", ["budget=2"]))
    with Ledger(folder.ledger_file) as ledger:
        for number, start in enumerate((100.0, 9000.0)):
            proposal = Proposal(number, sample_actions(SPACE, random.Random(number)))
            ledger.append(records.opened(start, 2), records.asked(proposal), records.started(number, 1, start + 1))
            ledger.append(records.finished(number, Evaluation(Completed(0.5)), start + 10))
    first, second = children_of(folder.state())
    assert (first.started, first.ended, second.started, second.ended) == (1.0, 10.0, 11.0, 20.0)


def test_a_ledger_of_an_early_version_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "old", 12, rich=False)
    (folder.path / "environment.json").write_text("{damaged")
    seen = Page(page(search_report(folder)))
    assert "No update of a policy is in the ledger" in seen.text and "No child of this search was drawn at random" in seen.text
    assert "the-incumbent-over-time.csv" in seen.files and not {"failures-by-reason.csv", "accuracy-against-macs.csv"} & set(seen.files)


def test_a_run_in_which_nothing_has_ended_has_a_report(tmp_path: Path) -> None:
    folder = create(tmp_path / "new", build_config("laptop", ["budget=2"]))
    with Ledger(folder.ledger_file) as ledger:
        ledger.append(records.opened(1.0, 2))
    assert "none yet" in Page(page(search_report(folder))).text


def test_every_kind_of_chart_is_one_that_vega_lite_takes(seen: Page, tmp_path: Path) -> None:
    import vl_convert

    assert {
        name for name in CHARTS if name in ("progress", "lanes", "heat", "against", "strips", "scatter", "bars", "lines", "chosen line")
    } == set(CHARTS)
    for chart in seen.charts:
        vl_convert.vegalite_to_vega(chart, vl_version="6_4")


# ------------------------------------------------------------------------------------------------ trainings and comparisons


def a_training(path: Path, names: tuple[str, ...] = ("cat", HOSTILE)) -> tuple[TrainFolder, Measured]:
    place, skeleton = TrainFolder(path), SKELETONS["nasnet-cifar"]
    place.write_new(load_reference("darts-v2"), TrainConfig(skeleton=skeleton_document(skeleton, "nasnet-cifar")))
    epoch = {
        "train_loss": 1.0,
        "validation_loss": 1.1,
        "validation_top5": 0.9,
        "learning_rate": 0.1,
        "seconds": 1.0,
        "images_per_second": 5.0,
    }
    place.write_metrics([{"epoch": i, **epoch, "validation_top1": 0.4 + 0.1 * i} for i in (1, 2)])
    test = {"top1": 0.55, "top5": 0.9, "loss": 1.0, "images": 200, "seconds": 1.0}
    result = {
        "ending": "finished",
        "classes": 2,
        "epochs": 2,
        "best_epoch": 2,
        "parameters": 1000,
        "macs": 2000,
        "seconds": 3.0,
        "test": test,
    }
    place.result_file.write_text(json.dumps(result))
    from nas.training.scoring import Scores

    answers = Answers(names, np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    scores = Scores(0.75, 1.0, 0.5, 4, 0.1)
    given = {"name": "n", "weights": place.best_file, "data": "d", "part": "test", "said": "4 images", "notes": (), "classes_said": ""}
    more = {
        "side": 8,
        "flip": False,
        "folded": False,
        "device": "cpu",
        "threads": 1,
        "scores": scores,
        "with_reading": 0.2,
        "answers": answers,
    }
    return place, Measured(**given, **more)


def test_a_training_is_shown_by_its_curves_its_test_and_its_classes(tmp_path: Path) -> None:
    place, measured = a_training(tmp_path / "net")
    seen = Page(page(training_report(place, measured)))
    accuracies = [row for row in rows(seen.files["accuracy-on-the-validation-part.csv"]) if row["series"] == "top-1"]
    assert [float(row["accuracy"]) for row in accuracies] == pytest.approx([0.5, 0.6]) and "55.00%" in seen.text
    confusion = {(row["is"], row["taken for"]): row["images"] for row in rows(seen.files["confusion.csv"])}
    assert confusion == {("cat", "cat"): "2", ("cat", HOSTILE): "1", (HOSTILE, "cat"): "0", (HOSTILE, HOSTILE): "1"}
    assert seen.tags["script"] == 4 and not seen.tags["img"] and HOSTILE in seen.text
    assert "--evaluate" in Page(page(training_report(place))).text


def a_comparison(path: Path) -> Path:
    path.mkdir()
    members = [Row("darts-v2", "net", 10, 20, 0.0, (0.5, 0.7), (0.5, 0.6), 3.0, 9.0, on_front=True), Row("broken", "net", reason=HOSTILE)]
    document = {"schema": "nas.compare/1", "target": {"quantity": "macs", "value": 5_000_000}, "seeds": 2, "training": {}}
    listed = [{**asdict(row), "latency_ms": None if row.latency_ms != row.latency_ms else row.latency_ms} for row in members]
    (path / "compare.json").write_text(json.dumps({**document, "rows": listed}))
    a_training(path / "darts-v2-seed0")
    return path


def test_a_comparison_of_networks_is_shown_with_its_trainings(tmp_path: Path) -> None:
    written = nas.report(a_comparison(tmp_path / "compared"), tmp_path / "there.html")
    seen = Page(written.read_text(encoding="utf-8"))
    assert [float(row["test accuracy"]) for row in rows(seen.files["test-accuracy.csv"])] == [0.5, 0.7]
    assert {row["series"] for row in rows(seen.files["loss.csv"])} == {"darts-v2-seed0, training", "darts-v2-seed0, validation"}
    assert HOSTILE in seen.text and seen.tags["script"] == 4


def test_results_of_a_bench_are_shown_as_means_over_runs(tmp_path: Path) -> None:
    ran = {"trained": 4, "distinct": 4, "simulated_seconds": None, "controller_seconds": 0.1}
    both = [{**ran, "changes": [[1, 0.2], [3, 0.6]]}, {**ran, "changes": [[1, 0.4]]}]
    one = {"label": "ppo", "controller": "ppo", "options": {}, "repeats": "free", "in_flight": 1, "runs": both}
    file = tmp_path / "bench.json"
    file.write_text(json.dumps({"schema": "nas.bench/1", "terms": {"budget": 4}, "optimum": 1.0, "results": [one]}))
    seen = Page(nas.report(file).read_text(encoding="utf-8"))
    curve = {row["trainings"]: float(row["reported of the incumbent"]) for row in rows(seen.files["the-incumbent.csv"])}
    assert curve == pytest.approx({"1": 0.3, "2": 0.3, "3": 0.5, "4": 0.5})


# ------------------------------------------------------------------------------------------------ the command, a browser


def test_the_command_says_where_it_wrote_and_how_to_open_it(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = command(["report", run.path, "-o", "mine.html"], tmp_path, monkeypatch)
    assert "wrote mine.html" in said and "--open" in said and (tmp_path / "mine.html").stat().st_size < 3e6


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"source": "nothing-here"}, "nothing-here"),
        ({"output": "report.pdf"}, "must name a file that ends in .html"),
        ({"output": "no/such/report.html"}, "a folder that exists"),
        ({"evaluate": True}, "--evaluate goes with the report of a training"),
        ({"against": "nothing-here"}, "nothing-here"),
    ],
)
def test_what_cannot_be_reported_is_said(given: dict[str, object], wanted: str, run: RunFolder) -> None:
    with pytest.raises((ConfigError, RunError), match=wanted):
        nas.report(**{"source": run.path, **given})  # type: ignore[arg-type]


WRONG = '{"schema": "nas.compare/1", "training": {}, "rows": [{"label": "a", "network": "b", "parameters": "many"}]}'


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": "nas.compare/1", "training": {}, "rows": [{"label": 3}]}', '{"schema": "x", "rows": []}', WRONG]
)
def test_a_damaged_comparison_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(RunError, match=r"compare.json"):
        nas.report(tmp_path)


@pytest.mark.browser
def test_a_browser_draws_every_chart_without_a_complaint(written: Path, seen: Page) -> None:
    for width in (400, 1280):
        drawn, console = browse(written, width)
        assert console == [] and f'data-drawn="{len(seen.charts)}"' in drawn
        assert Page(drawn).tags["svg"] >= len(seen.charts)
