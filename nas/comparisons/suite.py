"""Comparisons as data: problems, controllers and terms from a suite file or the flags of `nas bench`, checked. No torch, no ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from controllers.options import ControllerError, OptionValue
from controllers.registry import check_options
from nas.comparisons.controllers import Arm, Task, Terms, on_synthetic, on_table
from nas.errors import ConfigError
from nas.evaluators.table import Columns, read_table
from nas.settings.base import Float, Settings
from search_spaces.registry import load_space
from search_spaces.strict_yaml import load_document, parse_document

SCHEMA = "nas.suite/1"
CHECKPOINTS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
"""Where a comparison reports unless it says so itself; the budget is always one."""
REPEATS = ("canonical", "actions", "paid")
CROWNS = ("reward", "posterior")


class ProblemSettings(Settings):
    """What is searched: a table of trained architectures, or the synthetic objective."""

    objective: Literal["table", "synthetic"] = "table"
    space: str = Field("", description="default: nasbench201 for tables, nasnet for the synthetic objective")
    files: list[str] = Field(default_factory=list, description="CSV files with the same rows, looked for in the folder of tables")
    architecture: str = Field("arch", description="the column with the architecture")
    rewards: list[str] = Field(default_factory=list, description="columns with the validation accuracies of one or more trainings")
    report: str | None = Field(None, description="column reported about the best by reward; default the mean reward")
    seconds: str | None = Field(None, description="column with the duration of a full training")
    seconds_factor: Float = Field(1.0, gt=0, description="by which the durations are multiplied")
    epochs: int | None = Field(None, ge=1, description="of a full training, to scale durations at a lower fidelity")
    fidelities: dict[int, str] = Field(default_factory=dict, description="epochs: column with the validation accuracy after them")
    noise: Float = Field(0.02, ge=0, le=1, description="standard deviation of the synthetic reward where it is noisy")

    @model_validator(mode="after")
    def _check(self) -> "ProblemSettings":
        if self.objective == "table" and not (self.files and self.rewards):
            raise ValueError("a table needs at least one file and one reward column")
        if self.objective == "synthetic" and (self.files or self.rewards or self.fidelities):
            raise ValueError("the synthetic objective has no files and no columns")
        return self

    @property
    def space_name(self) -> str:
        """The search space."""
        return self.space or ("nasbench201" if self.objective == "table" else "nasnet")

    def task(self, folder: Path) -> Task:
        """Read what there is to read. Raises UserError for a missing file or column, or a wrong value."""
        space = load_space(self.space_name)
        if self.objective == "synthetic":
            return on_synthetic(space, self.noise)
        columns = Columns(self.architecture, tuple(self.rewards), self.report, self.seconds, self.fidelities)
        table = read_table([folder / file for file in self.files], space, columns, self.seconds_factor)
        return on_table(table, self.epochs)


class ComparisonSettings(Settings):
    """Which controllers compete on which problem, and on what terms."""

    problem: str
    controllers: list[str] = Field(min_length=1)
    budget: int = Field(200, ge=1, le=100_000, description="trainings of a run")
    checkpoints: list[int] = Field(default_factory=list, description="trainings after which the table has a column")
    seeds: int = Field(200, ge=1, le=100_000, description="runs of every controller")
    first_seed: int = Field(0, ge=0)
    in_flight: list[int] = Field([1], min_length=1, description="children trained at once; each number gives a row of the table")
    noisy: bool = Field(False, description="the reward is one training, drawn once a run, instead of the mean")
    search_fidelity: int | None = Field(None, ge=1, description="search on the reward after so many epochs")
    promote: int = Field(0, ge=0, description="in the end the best so many are trained fully and the best of them counts")

    failures: Float = Field(0.0, ge=0, le=0.9, description="share of the trainings that fail")
    false_highs: Float = Field(0.0, ge=0, le=0.9, description="share of the trainings that claim a reward of 1")

    @model_validator(mode="after")
    def _check(self) -> "ComparisonSettings":
        for what, values, most in (("in_flight", self.in_flight, 10_000), ("checkpoints", self.checkpoints, self.budget)):
            wrong = [value for value in values if not 1 <= value <= most]
            if wrong:
                raise ValueError(f"{what} must lie between 1 and {most:,}, but got {wrong[0]}")
        if self.failures + self.false_highs > 1:
            raise ValueError(f"failures and false_highs must be at most 1 together, but got {self.failures:g} and {self.false_highs:g}")
        if self.promote > self.budget:
            raise ValueError(f"promote must be at most the budget of {self.budget}, but got {self.promote}")
        return self


class SuiteSettings(Settings):
    """A suite file: problems and controllers by name, and the comparisons made of them."""

    schema_: Literal["nas.suite/1"] = Field(alias="schema")
    problems: dict[str, ProblemSettings]
    controllers: dict[str, str]
    comparisons: dict[str, ComparisonSettings] = Field(min_length=1)


@dataclass(frozen=True)
class Comparison:
    """One comparison, complete and checked."""

    name: str
    problem: ProblemSettings
    arms: tuple[Arm, ...]
    terms: tuple[Terms, ...]
    """The same but for the number in flight."""
    seeds: range
    checkpoints: tuple[int, ...]

    def title(self) -> str:
        """What is compared, in a line."""
        terms, problem = self.terms[0], self.problem
        where = "the synthetic objective" if problem.objective == "synthetic" else problem.report or ", ".join(problem.rewards)
        reward = "one training's reward" if terms.noisy else "mean reward"
        if terms.fidelity is not None:
            reward = f"reward after {terms.fidelity} epochs"
        injected = (("failed", terms.failures), ("falsely high", terms.false_highs))
        reward += "".join(f", {share:.3g} {what}" for what, share in injected if share)
        flying = ", ".join(str(one.in_flight) for one in self.terms)
        return (
            f"{self.name}: {where} on {problem.space_name}, {reward}, {terms.budget} trainings, {len(self.seeds)} seeds, {flying} in flight"
        )


def parse_arm(text: str, label: str | None = None) -> Arm:
    """Read ``[LABEL=]NAME[:OPTION=VALUE,…]``, such as ``tuned=evolution:population=30,sample=10``; values are YAML.

    Two options are the comparison's own: ``repeats`` is canonical (no cell twice, the default), actions (no action sequence twice) or
    paid; ``crown`` is reward (the best reward told is the incumbent's, the default) or posterior (see ``Arm``).

    Raises:
        ControllerError: the text is not of this form, or a name or an option breaks a rule.
    """
    head, _, tail = text.partition(":")
    before, _, name = head.rpartition("=")
    options: dict[str, OptionValue] = {}
    for part in filter(None, (part.strip() for part in tail.split(","))):
        option, equals, value = part.partition("=")
        if not equals or option.strip() in options:
            raise ControllerError(f"a controller is given as NAME:OPTION=VALUE,OPTION=VALUE with each option once, but got {text!r}")
        options[option.strip()] = _scalar(value.strip(), text)
    repeats = options.pop("repeats", "canonical")
    if repeats not in REPEATS:
        raise ControllerError(f"repeats must be one of {', '.join(REPEATS)}, but got {repeats!r} in {text!r}")
    crown = options.pop("crown", "reward")
    if crown not in CROWNS:
        raise ControllerError(f"crown must be one of {', '.join(CROWNS)}, but got {crown!r} in {text!r}")
    check_options(name.strip(), options)
    return Arm(label or before.strip() or text.strip(), name.strip(), options, repeats, crown)  # type: ignore[arg-type]


def _scalar(text: str, whole: str) -> OptionValue:
    value = parse_document(text, ControllerError, f"controller {whole!r}")
    if value is not None and not isinstance(value, int | float | str | bool):
        raise ControllerError(f"an option's value must be a number, a word, true or false, but got {text!r} in {whole!r}")
    try:
        return float(value) if isinstance(value, str) else value  # YAML 1.1 reads 1e-5 as text
    except ValueError:
        return value


def read_suite(path: str | Path) -> object:
    """The document of a suite file. Raises ConfigError."""
    return load_document(path, ConfigError)


def comparisons(document: object, source: str, only: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> list[Comparison]:
    """The comparisons of a suite's document.

    Args:
        document: what YAML holds; see ``SuiteSettings``.
        source: names it in messages.
        only: names of the comparisons wanted; empty for all.
        changes: settings of a comparison that replace what the document says, such as a smaller number of seeds.

    Raises:
        UserError: a name, a setting, a controller or an option breaks a rule.
    """
    try:
        suite = SuiteSettings.model_validate(document)
        chosen = {name: _changed(entry, changes or {}) for name, entry in suite.comparisons.items()}
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {_explain(problem)}" for problem in error.errors())) from None
    for name in only:
        if name not in chosen:
            raise ConfigError(f"{source}: no comparison {name!r}; comparisons: {', '.join(chosen)}")
    return [_resolve(suite, name, entry, source) for name, entry in chosen.items() if not only or name in only]


def _changed(entry: ComparisonSettings, changes: Mapping[str, Any]) -> ComparisonSettings:
    document = {**entry.model_dump(), **changes}
    if "checkpoints" not in changes:  # a smaller budget leaves out those that it does not reach
        document["checkpoints"] = [mark for mark in entry.checkpoints if mark <= document["budget"]]
    return ComparisonSettings.model_validate(document)


def _resolve(suite: SuiteSettings, name: str, entry: ComparisonSettings, source: str) -> Comparison:
    where = f"{source}, comparison {name!r}"
    if not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_."):
        raise ConfigError(f"{where}: a name may have small letters, digits, '-', '_' and '.', because files are named after it")
    if entry.problem not in suite.problems:
        raise ConfigError(f"{where}: unknown problem {entry.problem!r}; problems: {', '.join(suite.problems)}")
    problem = suite.problems[entry.problem]
    unknown = [label for label in entry.controllers if label not in suite.controllers]
    if unknown:
        raise ConfigError(f"{where}: unknown controller {unknown[0]!r}; controllers: {', '.join(suite.controllers)}")
    if len(set(entry.controllers)) < len(entry.controllers):
        raise ConfigError(f"{where}: every controller may be named once, but got {', '.join(entry.controllers)}")
    if entry.search_fidelity is not None and entry.search_fidelity not in problem.fidelities:
        known = ", ".join(map(str, problem.fidelities)) or "none"
        raise ConfigError(f"{where}: the search fidelity must be one the problem has (epochs: {known}), but got {entry.search_fidelity}")
    if entry.search_fidelity is not None and problem.seconds is not None and problem.epochs is None:
        raise ConfigError(f"{where}: durations at a lower fidelity need the epochs of a full training (`epochs`)")
    if entry.promote and entry.search_fidelity is None:
        raise ConfigError(f"{where}: promotion is from a lower fidelity, so it needs a search fidelity")
    if entry.noisy and problem.objective == "table" and len(problem.rewards) < 2:
        raise ConfigError(f"{where}: a noisy reward is one of several trainings, but the problem has one reward column")
    marks = entry.checkpoints or [mark for mark in CHECKPOINTS if mark < entry.budget]
    try:
        arms = tuple(parse_arm(suite.controllers[label], label) for label in entry.controllers)
    except ControllerError as problem_with_arm:
        raise ControllerError(f"{where}: {problem_with_arm}") from None
    return Comparison(
        name=name,
        problem=problem,
        arms=arms,
        terms=tuple(
            Terms(entry.budget, number, entry.noisy, entry.search_fidelity, entry.promote, entry.failures, entry.false_highs)
            for number in dict.fromkeys(entry.in_flight)
        ),
        seeds=range(entry.first_seed, entry.first_seed + entry.seeds),
        checkpoints=tuple(sorted({*marks, entry.budget})),
    )


def _explain(problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {name!r}"
    message = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
    value = "" if isinstance(problem["input"], dict) else f", but got {problem['input']!r}"
    return f"{name}: {message}{value}" if name else f"{message}{value}"
