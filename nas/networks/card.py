"""The model card of a described network: what it is, how good, at what cost, how to load it; as the Hugging Face hub reads it. No torch."""

import json
import re
from dataclasses import dataclass, replace
from datetime import date
from html import escape
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from nas.networks.architecture import Architecture
from nas.networks.description import NetworkDescription, readable_name
from nas.tools.files import write_atomically
from nas.tools.intervals import wilson
from nas.tools.words import TOP5_FROM, printable
from search_spaces.reference import load_reference, reference_names, reference_source

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

README = "README.md"
LICENSES = "https://huggingface.co/docs/hub/repositories-licenses"
TAGS = ("image-classification", "neural-architecture-search")
MANY = 30
"""Class names that are folded away in the card where there are more."""


@dataclass(frozen=True)
class Loading:
    """How what the card is of is loaded.

    Attributes:
        what: the file or folder that the card is of; a card says it, so that no other file's card is overwritten.
        library: as the hub calls the library that loads it.
        code: a few lines of Python that do so; empty where there is no such way.
    """

    what: str
    library: str
    code: str


def write_card(place: str | Path, description: NetworkDescription, loading: Loading) -> Path:
    """Write the card: of a folder as README.md in it, of a file as FILE.README.md beside it.

    A README.md in a folder that is not its card stays: the card then has the name that it would have beside a file.

    Args:
        place: the folder; or the file, there or not.
        description: of the network; its facts have the data set's and the accuracy's.
        loading: how it is loaded.

    Raises:
        OSError: it cannot be written.
        UserError: the genotype does not fit the skeleton.
    """
    folder = Path(place) if Path(place).is_dir() else None
    free = folder is not None and (is_card_of(folder / README, loading.what) or not (folder / README).exists())
    path = (folder or Path(place).parent) / (README if free else f"{loading.what}.{README}")
    write_atomically(path, model_card(description, loading))
    return path


def is_card_of(path: Path, what: str) -> bool:
    """Whether the file is a card that was written of that file or folder."""
    try:
        return _mark(what) in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _mark(what: str) -> str:
    return f"<!-- nas-engine's card of {escape(printable(what), quote=False)} -->"


def model_card(description: NetworkDescription, loading: Loading) -> str:
    """The text of the card. Raises UserError where the genotype does not fit the skeleton."""
    parts = [
        f"---\n# license: yours to choose, see {LICENSES}\n{_front_matter(description, loading)}\n---",
        _mark(loading.what),
        f"# {plain(_title(description))}",
        _summary(description),
        *_section("Accuracy", _accuracy(description)),
        *_section("Data", _data(description)),
        *_section("Classes", _classes(description)),
        *_section("Network", _network(description)),
        *_section("Input", _input(description)),
        *_section("How to load it", [fenced(loading.code, "python")] if loading.code else []),
        *_section("Where the cell comes from", [_origin(description.architecture)]),
        *_section("Limitations", [_limitations(description)]),
        f"Written by nas-engine {_version()} on {date.today().isoformat()}.",
    ]
    return "\n\n".join(parts) + "\n"


def _title(description: NetworkDescription) -> str:
    """The network's name with its size; a found cell's by what it was found for."""
    chosen, name = description.architecture, readable_name(description)
    return chosen.name if name == chosen.genotype.name else replace(chosen, genotype=replace(chosen.genotype, name=name)).name


def _section(title: str, paragraphs: list[str]) -> list[str]:
    return [f"## {title}", *paragraphs] if paragraphs else []


def _version() -> str:
    try:
        return metadata.version("nas-engine")
    except metadata.PackageNotFoundError:  # run from a copy of the sources
        return "(not installed)"


# ---------------------------------------------------------------------------------------------------- for the hub


def _front_matter(description: NetworkDescription, loading: Loading) -> str:
    return str(card_data(description, loading).to_yaml()).strip()


def card_data(description: NetworkDescription, loading: Loading) -> "ModelCardData":
    """What the hub reads. The data set is named by its address there where it is public, else by its name without odd letters."""
    from huggingface_hub import EvalResult, ModelCardData

    facts, public = description.facts, description.facts.get("hub_dataset")
    tested = "test_top1" in facts
    results = EvalResult(
        task_type="image-classification",
        dataset_type=str(public or re.sub(r"[^\w.-]+", "-", str(facts.get("data", ""))).strip("-.") or "images"),
        dataset_name=printable(str(facts.get("data", "images"))),
        dataset_split="test",
        metric_type="accuracy",
        metric_name="top-1 accuracy",
        metric_value=facts.get("test_top1"),
    )
    return ModelCardData(
        library_name=loading.library,
        pipeline_tag="image-classification",
        tags=list(TAGS),
        datasets=[str(public)] if public else None,
        metrics=["accuracy"] if tested else None,
        model_name=printable(_title(description)) if tested else None,
        eval_results=[results] if tested else None,
    )


# ---------------------------------------------------------------------------------------------------- for people


def _summary(description: NetworkDescription) -> str:
    chosen, facts = description.architecture, description.facts
    kind = f"A convolutional network that puts images into {chosen.classes:,} classes"
    if "weights" in facts:
        return f"{kind}, with {plain(str(facts['weights']))}, converted."
    if "data" not in facts:
        return f"{kind}. It is not trained, or nothing is known of how it was."
    recipe = f" by the recipe {inline(str(facts['recipe']))}" if "recipe" in facts else ""
    return f"{kind}, trained on {inline(str(facts['data']))}{recipe}."


def _accuracy(description: NetworkDescription) -> list[str]:
    lines, facts = [], description.facts
    top1, images = facts.get("test_top1"), facts.get("test_images")
    if isinstance(top1, float):
        found = f"**{_percent(top1)} %** of the test part's images are put into the right class (top-1)"
        if isinstance(images, int) and images > 0:
            low, high = wilson(top1, images)
            found = f"{found}: 95 % interval {_percent(low)} to {_percent(high)} % (Wilson), from {images:,} images"
        lines.append(f"- {found}. They were read once, after the training, and nothing was chosen by them.")
        if isinstance(facts.get("test_top5"), float) and description.architecture.classes >= TOP5_FROM:
            lines.append(f"- {_percent(float(facts['test_top5']))} % have it among the five likeliest (top-5).")
    if isinstance(facts.get("validation_top1"), float):
        epoch = f" of epoch {facts['epoch']}" if "epoch" in facts else ""
        share = _percent(float(facts["validation_top1"]))
        lines.append(f"- {share} % of the validation part, by which the weights{epoch} were chosen: somewhat too high for that.")
    return ["\n".join(lines)] if lines else []


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _data(description: NetworkDescription) -> list[str]:
    facts = description.facts
    if "data" not in facts:
        return []
    address = facts.get("hub_dataset")
    public = f" (on the hub: [{plain(str(address))}](https://huggingface.co/datasets/{quote(str(address))}))" if address else ""
    parts = {"train_images": "to train on", "validation_images": "to choose the weights by", "test_images": "to test once"}
    counts = [f"{facts[key]:,} {use}" for key, use in parts.items() if isinstance(facts.get(key), int)]
    return [f"The data set {inline(str(facts['data']))}{public}" + (f": images {', '.join(counts)}." if counts else ".")]


def _classes(description: NetworkDescription) -> list[str]:
    names = description.class_names
    if not names:
        return [f"{description.architecture.classes:,}, whose names are not known."]
    safe = all(name.isprintable() for name in names)
    block = fenced(json.dumps(names, ensure_ascii=not safe, indent=1), "json")
    folded = ["<details><summary>names</summary>", block, "</details>"] if len(names) > MANY else [block]
    return [f"{len(names):,}, in the order of the outputs, as JSON:", *folded]


def _network(description: NetworkDescription) -> list[str]:
    cost = description.architecture.cost()
    lines = [f"- {cost.parameters:,} parameters", f"- {cost.macs:,} multiply-accumulates for an image"]
    return ["\n".join([*lines, f"- skeleton {inline(description.architecture.skeleton_name)}"])]


def _input(description: NetworkDescription) -> list[str]:
    chosen = description.architecture
    side, channels = chosen.image_size, {1: "1 channel (grey)", 3: "3 channels (red, green, blue)"}.get(chosen.channels)
    resized = round(side / description.crop_fraction)
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (description.mean, description.std))
    resizing = "both sides are resized" if description.crop_mode == "squash" else "the shorter side is resized"
    cut = f", and the middle {side}×{side} is taken" if description.crop_mode == "center" or resized != side else ""
    lines = [
        f"- a batch of {chosen.channels}×{side}×{side}" + (f": {channels}" if channels else ""),
        f"- {resizing} to {resized} pixels ({description.interpolation}){cut}",
        f"- pixels are scaled to [0, 1]; then the mean ({mean}) is subtracted, and the result divided by ({std})",
    ]
    return ["\n".join(lines)]


def _origin(chosen: Architecture) -> str:
    genotype, origin = chosen.genotype, chosen.genotype.provenance
    space = f", in the search space {inline(genotype.space)}" if genotype.space else ""
    if origin is not None:
        believed = "" if origin.reward is None else f"a validation accuracy of {_percent(origin.reward)} %"
        reward = f", which believes its child network to have {believed}" if believed else ""
        controller = f" by the controller {inline(origin.controller)}" if origin.controller else ""
        return f"Found in the search {inline(origin.run)}{controller}{space}, trial {origin.trial:,}{reward}."
    name = next((name for name in reference_names() if load_reference(name) == genotype), None)
    if name is not None:
        linked = re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", reference_source(name))
        return f"The published genotype {inline(name)}: {linked}"
    return f"The genotype {inline(genotype.name or 'without a name')}{space}, of which nothing more is known."


def _limitations(description: NetworkDescription) -> str:
    if "data" not in description.facts:
        return "What the network is worth on any images was not measured here."
    return (
        "The accuracy holds for images drawn as those of the data set were, and is unknown for any others, which get one of the same "
        "classes all the same; the probabilities are not calibrated, and nothing was measured of single groups, fairness or attacks."
    )


# ---------------------------------------------------------------------------------------------------- Markdown


def plain(text: str) -> str:
    """A stranger's text as Markdown that shows it: one line, no marks, no HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$!])", r"\\\1", printable(" ".join(text.split())))


def inline(text: str) -> str:
    """A stranger's text as inline code of one line."""
    shown = printable(" ".join(text.split()))
    ticks = "`" * (1 + _longest(shown))
    return f"{ticks} {shown} {ticks}" if "`" in shown else f"{ticks}{shown}{ticks}"


def fenced(text: str, language: str) -> str:
    """Lines as a block of code that nothing in them can end."""
    ticks = "`" * max(3, 1 + _longest(text))
    return f"{ticks}{language}\n{text}\n{ticks}"


def _longest(text: str) -> int:
    """The longest row of backticks."""
    return max((len(found) for found in re.findall("`+", text)), default=0)
