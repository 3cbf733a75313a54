"""Hands a genotype, a network or a run's trials over for use elsewhere: one function per format, each of which reads its work back."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from nas.errors import ConfigError
from nas.exports import loading
from nas.exports.handover import ExportError, Handover
from nas.exports.loading import Loader
from nas.exports.trials import TrialTable, write_csv, write_parquet
from nas.networks.card import README, Loading, is_card_of, write_card
from nas.networks.description import to_metadata
from nas.networks.onnx_session import PACKAGES
from nas.tools.environment import absent
from nas.tools.words import first_line, lacking
from search_spaces.genotype import Genotype, from_document, to_document, to_json, to_yaml
from search_spaces.plugins import Registry, as_written, instance_of
from search_spaces.strict_yaml import parse_document

if TYPE_CHECKING:
    from torch import Tensor

    from search_spaces.networks.network import Network


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        takes: what is handed over: the genotype alone, a network with its weights (both in a ``Handover``), or a run's ``TrialTable``.
        suffix: what the file's name must end in; nothing for a format that is a folder.
        write: writes the file (and others beside it, of the same stem) or makes the folder, reads it back and says how well that went.
        text: whether it may also be printed.
        about: what it is, for help and messages.
        library: as the Hugging Face hub calls the library that loads it.
        load: lines of Python that do, for the model card of a network.
        needs: packages that writing it takes, of the extra ``export``.
    """

    takes: Literal["genotype", "network", "trials"]
    suffix: str
    write: Callable[[Any, Path], str]
    about: str
    text: bool = True
    library: str = "nas-engine"
    load: Loader = lambda handover, path: ""
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Those of the packages that are not installed."""
        return absent(self.needs)

    @property
    def example(self) -> str:
        """A name that an output of this format may have."""
        return f"{self.takes if self.takes == 'trials' else 'network'}{self.suffix}"


def format_named(name: str) -> Format:
    """The format that the user names. Raises UserError."""
    return FORMATS[as_written(name)]


def export_files(handover: Handover | TrialTable, format_: Format, output: str | Path) -> tuple[list[Path], str]:
    """Write a handover in a format; nothing appears under its name before it was read back and compared.

    A network comes with a model card: FILE.README.md beside a file, README.md in a folder.

    Returns:
        The files written, the one asked for first and the card last, and what reading back found.

    Raises:
        UserError: the name ends otherwise, a package is missing, the network does not fit the format, or the file cannot be written.
    """
    output = Path(output)
    if format_.suffix and output.suffix.lower() != format_.suffix:
        raise ConfigError(f"--output must end in {format_.suffix} for this format, but got {output.name!r}")
    _check_installed(format_)
    if output.name in ("", ".."):  # a folder's other name, such as "."
        output = output.resolve()
    if not format_.suffix:
        _check_folder(output)
    target = output.parent if format_.suffix else output
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            scratch = Path(folder) / output.name
            made = scratch.parent if format_.suffix else scratch
            found = format_.write(handover, scratch)
            names = sorted((path.name for path in made.iterdir() if path.is_file()), key=lambda name: (name != output.name, name))
            if isinstance(handover, Handover) and format_.takes == "network":
                how = Loading(output.name, format_.library, format_.load(handover, output))
                names.append(write_card(scratch, handover, how).name)
            _move(made, names, target)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from None
    return [target / name for name in names], found


def _check_installed(format_: Format) -> None:
    if missing := format_.missing:
        raise ExportError(f"this format needs {lacking(missing)}: pip install 'nas-engine[export]'")


def _check_folder(output: Path) -> None:
    """Raise ConfigError where something that is no earlier export would be mixed with a new one."""
    there = [path.name for path in output.iterdir()] if output.is_dir() else [output.name] if output.exists() else []
    others = [name for name in there if not name.startswith(".")]
    if others and not is_card_of(output / README, output.name):
        rule = "must be a new or an empty folder, or an earlier export of this format"
        raise ConfigError(f"--output {output} {rule}, but there is {others[0]}")


def _move(made: Path, names: list[str], target: Path) -> None:
    """Bring what was written to its place: a new folder at once, else file by file."""
    if not target.exists():
        made.rename(target)
        return
    for name in names:
        (made / name).replace(target / name)


def export_text(handover: Handover | TrialTable, format_: Format) -> str:
    """The same as text, for formats that are text. Raises UserError."""
    _check_installed(format_)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"export{format_.suffix}"
        format_.write(handover, path)
        return path.read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------- genotypes


def _yaml(handover: Handover, path: Path) -> str:
    return _genotype_text(to_yaml(handover.architecture.genotype), handover.architecture.genotype, path)


def _json(handover: Handover, path: Path) -> str:
    return _genotype_text(to_json(handover.architecture.genotype) + "\n", handover.architecture.genotype, path)


def _genotype_text(text: str, genotype: Genotype, path: Path) -> str:
    path.write_text(text, encoding="utf-8")
    if to_document(from_document(parse_document(path.read_text(encoding="utf-8"), ConfigError, "the export"))) != to_document(genotype):
        raise ExportError("the genotype, read back, is another one")
    return "read back: the same genotype, name, space and provenance"


def _dot(handover: Handover, path: Path) -> str:
    from nas.networks.drawing.dot import to_dot

    genotype = handover.architecture.genotype
    path.write_text(to_dot(genotype), encoding="utf-8")
    arrows = sum(len(node.edges) for _, cell in genotype.cells() for node in cell.nodes)
    drawn = path.read_text(encoding="utf-8").count("shape=ellipse")
    if drawn != arrows:
        raise ExportError(f"the graph has {drawn} operations, but the genotype has {arrows}")
    return f"read back: all {arrows} operations"


def _svg(handover: Handover, path: Path) -> str:
    from nas.networks.drawing.draw import draw_genotype

    genotype = handover.architecture.genotype
    draw_genotype(genotype, path)
    root = ElementTree.parse(path).getroot()  # noqa: S314 - written just now by ourselves
    if not root.tag.endswith("svg"):
        raise ExportError("the picture, read back, is no SVG")
    return "read back: well-formed SVG"


# ---------------------------------------------------------------------------------------------------- networks


def _safetensors(handover: Handover, path: Path) -> str:
    from nas.exports.handover import gather
    from nas.exports.verify import SAME_LIBRARY, compare, example_images, logits

    if handover.weights is None:
        raise _untrained("safetensors")
    write_weights_beside(handover, path)
    images = example_images(handover)
    again = gather(None, path, {})
    return compare(logits(handover.network(), images), logits(again.network(), images), SAME_LIBRARY, path.name)


def _named_weights(library: str, handover: Handover, path: Path) -> str:
    from nas.exports.handover import gather
    from nas.exports.published import load_published
    from nas.exports.verify import SAME_LIBRARY, compare, example_images, logits
    from nas.networks.weights.files import write_weights
    from nas.networks.weights.layouts import in_layout

    if handover.weights is None:
        raise _untrained(f"{library}-weights")
    network, images = handover.network(), example_images(handover)
    state = in_layout(network, handover.architecture.skeleton, library)
    write_weights(path, state, to_metadata(handover))
    expected = logits(network, images)
    sentence = compare(expected, logits(gather(None, path, {}).network(), images), SAME_LIBRARY, path.name)
    name, theirs = load_published(handover.architecture, library, state)
    if theirs is None:
        return f"{sentence}; {name}"
    return compare(expected, logits(theirs, images), SAME_LIBRARY, path.name) + f", and the same by {name}"


def _untrained(name: str) -> ConfigError:
    rule = "nothing trained was named: name a training (`nas train` makes one) or give --weights"
    return ConfigError(f"--format {name} hands weights over, and {rule}")


def write_weights_beside(handover: Handover, path: Path) -> Path:
    """Write the network's weights, described, into a .safetensors file of the same stem (random ones for an untrained network)."""
    from nas.exports.handover import TRAINING_ONLY
    from nas.networks.weights.files import write_weights

    state = {name: tensor for name, tensor in handover.network().state_dict().items() if not name.startswith(TRAINING_ONLY)}
    write_weights(path.with_suffix(".safetensors"), state, to_metadata(handover))
    return path.with_suffix(".safetensors")


def _python(handover: Handover, path: Path) -> str:
    from nas.exports.standalone import python_source
    from nas.exports.verify import SAME_LIBRARY, compare, example_images, logits, run_elsewhere

    path.write_text(python_source(handover), encoding="utf-8")
    weights = write_weights_beside(handover, path)
    images = example_images(handover)
    found = run_elsewhere("python_file", [path, weights], images, path.name)
    if handover.weights is None:
        weights.unlink()
    return compare(logits(handover.network(), images), found["logits"], SAME_LIBRARY, path.name) + ", in a process without this package"


def _timm(handover: Handover, path: Path) -> str:
    import torch

    from nas.exports.timm_file import model_name, timm_source
    from nas.exports.verify import SAME_LIBRARY, compare, example_images, logits, run_elsewhere

    if not path.stem.isidentifier():
        raise ConfigError(f"--output must be a name that Python can import for this format, but got {path.stem!r}")
    path.write_text(timm_source(handover), encoding="utf-8")
    weights = write_weights_beside(handover, path)
    images, network = example_images(handover), handover.network()
    found = run_elsewhere("timm_file", [path, model_name(handover), weights], images, path.name)
    if handover.weights is None:
        weights.unlink()
    with torch.inference_mode():
        maps = network.features(images)
    for i, expected in enumerate(maps):
        compare(expected, found[f"map_{i}"], SAME_LIBRARY, f"{path.name}, map {i}")
    compare(logits(network, images), found["head"], SAME_LIBRARY, f"{path.name}, forward_head")
    sentence = compare(logits(network, images), found["logits"], SAME_LIBRARY, path.name)
    return f"{sentence}, and {len(maps)} feature maps, in a process without this package; timm.create_model({model_name(handover)!r})"


def _torch_export(handover: Handover, path: Path) -> str:
    import torch

    from nas.exports.free_sides import free_shapes, traced_images
    from nas.exports.verify import SAME_LIBRARY, logits

    network = handover.network()

    def write(step: int | None) -> "Callable[[Tensor], Tensor]":
        program = torch.export.export(network, (traced_images(handover, step),), dynamic_shapes=(free_shapes(handover, step),))
        torch.export.save(program, path, extra_files={"network.json": handover.metadata_text()})
        again = torch.export.load(path).module()
        return lambda images: logits(again, images)

    return _freed(handover, network, write, SAME_LIBRARY, path.name) + "; load .pt2 files of people you trust only"


def _onnx(handover: Handover, path: Path) -> str:
    import torch

    from nas.exports.onnx_file import onnx_logits, write_onnx
    from nas.exports.verify import OTHER_LIBRARY

    network = handover.network()

    def write(step: int | None) -> "Callable[[Tensor], Tensor]":
        write_onnx(handover, network, path, step)
        return lambda images: torch.from_numpy(onnx_logits(path, images.numpy()))

    return _freed(handover, network, write, OTHER_LIBRARY, path.name) + ", by onnxruntime"


def _freed(
    handover: Handover, network: "Network", write: "Callable[[int | None], Callable[[Tensor], Tensor]]", tolerance: float, name: str
) -> str:
    """Write a program that takes batches, heights and widths as free as it can be, and say which, and how well that went.

    Args:
        handover: what is handed over.
        network: built of it.
        write: writes the program for a step of ``nas.exports.free_sides``, and returns what computes logits by the file.
        tolerance: of ``compare``.
        name: of the file.
    """
    from nas.exports.free_sides import checked_sides, side_step, sides_in_words
    from nas.exports.verify import compare, example_images, logits

    def tried(step: int | None) -> str:
        produced, sentence = write(step), ""
        for batch, *sides in checked_sides(handover, step):
            images = example_images(handover, batch, (sides[0], sides[1]))
            sentence = compare(logits(network, images), produced(images), tolerance, name)
        return f"{sentence}, for {sides_in_words(handover, step)}"

    try:
        return tried(side_step(network))
    except (RuntimeError, AssertionError, ExportError) as problem:  # whatever an exporter's tracing may end in, and a wrong result
        reason = first_line(problem)[:200]
        return f"{tried(None)} (its sides could not be freed: {reason})"


def _hf(handover: Handover, folder: Path) -> str:
    from nas.exports.hub_folder import write_hub_folder
    from nas.exports.verify import SAME_LIBRARY, compare, example_images, logits, run_elsewhere

    if handover.weights is None:
        raise _untrained("hf")
    module, images = write_hub_folder(handover, folder), example_images(handover)
    expected, found = logits(handover.network(), images), run_elsewhere("hub_folder", [folder, module or ""], images, folder.name)
    sentences = [compare(expected, produced, SAME_LIBRARY, f"{folder.name}, {way}") for way, produced in sorted(found.items())]
    way = f"after `import {module}`, and Network.from_pretrained" if module else "which has the network itself"
    return f"{sentences[-1]}, in a process without this package; timm.create_model('local-dir:{folder.name}'), {way}"


FORMATS: Registry[Format] = Registry(
    "export format",
    "nas.exports",
    {
        "yaml": Format("genotype", ".yaml", _yaml, "the genotype, as every command takes it"),
        "json": Format("genotype", ".json", _json, "the same as JSON"),
        "dot": Format("genotype", ".dot", _dot, "the cells as a graph for graphviz"),
        "svg": Format("genotype", ".svg", _svg, "a picture of the cells"),
        "csv": Format("trials", ".csv", write_csv, "a run's trials, a row each"),
        "parquet": Format("trials", ".parquet", write_parquet, "the same with types, for data frames; needs pyarrow", False),
        "safetensors": Format(
            "network",
            ".safetensors",
            _safetensors,
            "weights that say their network, input and classes",
            False,
            load=loading.by_this_package,
        ),
        **{
            f"{library}-weights": Format("network", ".safetensors", partial(_named_weights, library), about, False, library, load)
            for library, about, load in (
                ("timm", "weights by timm's own names, for timm's ResNet, ResNeXt, ConvNeXt, NASNet-A and PNASNet-5", loading.timm_weights),
                ("torchvision", "weights by torchvision's own names, for its ResNet, ResNeXt and ConvNeXt", loading.torchvision_weights),
                ("facebook", "weights by the names of the code released with ConvNeXt", loading.by_this_package),
            )
        },
        "torch-export": Format(
            "network",
            ".pt2",
            _torch_export,
            "a program of torch.export, any batch and, in steps, any size",
            False,
            "pytorch",
            loading.torch_program,
        ),
        "onnx": Format(
            "network", ".onnx", _onnx, "ONNX, any batch and, in steps, any size", False, "onnx", loading.onnx_model, PACKAGES
        ),
        "python": Format(
            "network", ".py", _python, "one readable PyTorch file, and its weights beside it", True, "pytorch", loading.python_module
        ),
        "timm": Format(
            "network",
            ".py",
            _timm,
            "a file that registers the network with timm, and its weights beside it",
            True,
            "timm",
            loading.timm_module,
            ("timm",),
        ),
        "hf": Format("network", "", _hf, "a folder for the Hugging Face hub, loaded by timm", False, "timm", loading.hub_folder, ("timm",)),
    },
    instance_of(Format),
    ConfigError,
)
"""Every export format by name."""
