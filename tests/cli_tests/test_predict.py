"""``nas predict``: any number of images, in any of the ways to name them, in order; what cannot be read does not stop the others."""

import csv
import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.image_trees import CLASSES, picture
from typer.testing import CliRunner, Result

import nas
from nas.api.predicting import predictor
from nas.cli.main import app
from nas.data.inputs import named_images
from nas.errors import ConfigError, DataError, UserError
from nas.networks.architecture import choose_architecture
from nas.networks.description import NetworkDescription
from nas.networks.weights.described import write_described
from nas.training.prediction import Impression, Predictor
from search_spaces.reference import load_reference


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights (untrained) of a network of three classes, and photos in folders."""
    folder = tmp_path_factory.mktemp("predict")
    sizes = {"cells": 1, "filters": 2, "classes": 3, "channels": 3, "image_size": 16}
    architecture = choose_architecture(load_reference("nasnet-a"), "nasnet-cifar", **sizes)  # type: ignore[arg-type]
    torch.manual_seed(0)
    network = architecture.build()
    write_described(folder / "net.safetensors", network.state_dict(), NetworkDescription(architecture, (0.5,) * 3, (0.2,) * 3, CLASSES))
    for number in (2, 1, 10):
        (folder / "photos" / "deep").mkdir(parents=True, exist_ok=True)
        picture(number % 3, number).save(folder / "photos" / f"{number}.png")
    picture(0, 5).save(folder / "photos" / "deep" / "5.JPG", format="jpeg")
    picture(0, 6).save(folder / "photos" / ".hidden.png")
    (folder / "photos" / "notes.txt").write_text("no image")
    (folder / "bad.png").write_text("no image either")
    return folder


def run(place: Path, *arguments: str, given: str | None = None, columns: int = 80) -> Result:
    here = Path.cwd()
    os.chdir(place)
    try:
        return CliRunner().invoke(app, ["predict", "net.safetensors", *arguments], input=given, env={"COLUMNS": str(columns)})
    finally:
        os.chdir(here)


ALL = ["photos/1.png", "photos/10.png", "photos/2.png", "photos/deep/5.JPG"]


def rows(done: Result) -> list[dict[str, str]]:
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_files_folders_globs_and_lists_name_images_in_order(place: Path) -> None:
    assert [row["file"] for row in rows(run(place, "photos", "--format", "csv"))] == ALL
    assert [row["file"] for row in rows(run(place, "photos/*.png", "photos/1.png", "--format", "csv"))] == [*ALL[:3], ALL[0]]
    assert [row["file"] for row in rows(run(place, "-", "--format", "csv", given="photos/2.png\n\nphotos/deep\n"))] == ALL[2:]
    assert [row["file"] for row in rows(run(place, "photos/**/*.JPG", "--format", "csv", "--batch-size", "1"))] == ALL[3:]


def test_forms_agree_with_each_other_and_with_python(place: Path) -> None:
    found = nas.predict(place / "net.safetensors", place / "photos", batch_size=3)
    assert [Path(file).name for file in found.files] == [Path(file).name for file in ALL]
    table = run(place, "photos")
    assert table.exit_code == 0 and "runner-up" in table.stdout and max(map(len, table.stdout.splitlines())) <= 80
    objects = json.loads(run(place, "photos", "--json", "--top", "3").stdout)
    for one, row, thing, line in zip(
        found, rows(run(place, "photos", "--format", "csv")), objects, table.stdout.splitlines()[1:], strict=True
    ):
        assert row["class"] == thing["class"] == one.label and f"{one.label}  " in line
        assert float(row["probability"]) == pytest.approx(one.probability, abs=1e-6)
        assert f"{100 * one.probability:.1f} %" in line
        assert [entry["class"] for entry in thing["likeliest"]] == [name for name, _ in one.likeliest]
        assert sum(entry["probability"] for entry in thing["likeliest"]) == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_read_is_said_in_its_row(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    listed = "none.png\n*.gif\n"
    done = run(place, "bad.png", "photos/1.png", "-", str(tmp_path / "empty"), "--batch-size", "2", given=listed)
    assert done.exit_code == 3 and "4 of 5 images cannot be read" in done.stderr
    reasons = {line.split()[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if "cannot" in line}
    assert "no known image format" in reasons["bad.png"] and "No such file" in reasons["none.png"] and "no file matches" in reasons["*.gif"]
    assert sum("no images in this folder" in reason for reason in reasons.values()) == 1
    assert [entry.get("problem") for entry in json.loads(run(place, "bad.png", "photos/1.png", "--json").stdout)][1] is None
    assert run(place, "bad.png").exit_code == 2


def test_a_name_that_leads_nowhere_is_refused_before_anything_is_loaded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.api.predicting.predictor", lambda *given, **options: pytest.fail("a network is loaded"))
    for names, said in (
        (["photos/1.png", "nowhere/"], "nowhere/: there is no such file or folder"),
        (["photo"], "photo: there is no such file or folder (did you mean 'photos'?)"),
        (["nowhere/1.png"], "nowhere/1.png: there is no such file or folder"),
        (["photos/*.gif"], "photos/*.gif: no file matches"),
    ):
        done = run(place, *names)
        assert isinstance(done.exception, DataError) and str(done.exception) == said, done.output
    with pytest.raises(DataError, match="no such file"):
        nas.predict(place / "net.safetensors", [np.zeros((8, 8), np.uint8), place / "none.png"])


def test_a_file_is_whole_or_absent(place: Path, tmp_path: Path) -> None:
    done = run(place, "photos", "-o", str(tmp_path / "found.csv"))
    assert done.exit_code == 0 and done.stdout == "" and "4 images" in done.stderr
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 5
    assert isinstance(run(place, "photos", "-o", str(tmp_path / "none" / "found.csv")).exception, UserError)
    assert [path.name for path in tmp_path.iterdir()] == ["found.csv"]


def test_names_that_are_long_wide_or_strange_keep_the_table_in_shape(place: Path, tmp_path: Path) -> None:
    for name in ("x" * 120 + ".png", "写真" * 20 + ".png", "line\nbreak.png"):
        picture(0, 1).save(tmp_path / name)
    lines = run(place, str(tmp_path)).stdout.splitlines()
    assert len(lines) == 4
    from rich.cells import cell_len

    assert all(cell_len(line) <= 80 for line in lines) and any("line\\nbreak.png" in line for line in lines)


def test_the_mirror_image_is_looked_at_too(place: Path) -> None:
    network = nas.load_network(place / "net.safetensors")
    image = picture(1, 3, 16).resize((16, 16))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    both = nas.predict(network, [image, mirrored]).probabilities.mean(axis=0)
    flipped = nas.predict(network, [image, mirrored], flip=True).probabilities
    np.testing.assert_allclose(flipped, [both, both], atol=1e-6)
    assert not np.allclose(nas.predict(network, image).probabilities[0], both, atol=1e-4)


def test_the_folded_network_sees_the_same(place: Path) -> None:
    network, image = nas.load_network(place / "net.safetensors"), picture(1, 3, 16)
    expected = nas.predict(network, image).probabilities
    np.testing.assert_allclose(nas.predict(network, image, folded=True).probabilities, expected, atol=1e-5)
    assert np.array_equal(nas.predict(network, image).probabilities, expected)
    as_it_is, folded = (rows(run(place, "photos", "--format", "csv", *flags)) for flags in ((), ("--folded",)))
    assert [row["class"] for row in folded] == [row["class"] for row in as_it_is]


def test_any_number_of_images_takes_the_memory_of_a_few(place: Path) -> None:
    network = nas.load_network(place / "net.safetensors")
    looking = Predictor(network, network.description)  # type: ignore[arg-type]
    made = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal made
        while True:
            made += 1
            yield picture(made % 3, made, 16)

    answers = looking.see(endless(), batch_size=4)
    tracemalloc.start()
    for _ in range(40):
        assert next(answers).probabilities is not None
    assert made <= 40 + 2 * 4, "no more is asked for than two batches"
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    answers.close()  # type: ignore[attr-defined]


def test_generators_and_bad_requests_from_python(place: Path) -> None:
    file = place / "photos" / "1.png"
    assert len(nas.predict(place / "net.safetensors", (file for _ in range(3)))) == 3
    with pytest.raises(ConfigError, match="batch_size"):
        nas.predict(place / "net.safetensors", file, batch_size=0)
    with pytest.raises(UserError, match="one or several, but got int"):
        nas.predict(place / "net.safetensors", 3)


def test_links_in_circles_end(tmp_path: Path) -> None:
    picture(0, 1).save(tmp_path / "1.png")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [named.path.name for named in named_images([tmp_path])] == ["1.png"]


DIGITS, PHOTOGRAPHS = ((0.31,), (0.38,)), ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


@pytest.mark.parametrize(
    ("known", "pixels", "said"),
    [
        (DIGITS, np.full((2, 8, 8, 1), 80), ""),
        (DIGITS, np.full((2, 8, 8, 1), 180), "as if dark and light were exchanged (mean 0.71 of 1, where the training images have 0.31)"),
        (PHOTOGRAPHS, np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)), ""),
        (PHOTOGRAPHS, np.full((2, 8, 8, 3), (6, 5, 4)), "much darker"),
        (PHOTOGRAPHS, np.full((2, 8, 8, 3), 120), "are grey"),
        (((0.5,) * 3, (0.5,) * 3), np.full((2, 8, 8, 3), 120), ""),  # nothing is known of the training images
    ],
)
def test_images_unlike_those_of_the_training_are_said_to_be(known: tuple[tuple[float, ...], ...], pixels: np.ndarray, said: str) -> None:
    impression = Impression(*known)
    assert impression.unlike() == ""
    for half in np.split(pixels.astype(np.uint8), 2):
        impression.take(half)
    assert said in impression.unlike() and bool(said) == bool(impression.unlike())


def test_a_note_says_that_light_and_dark_are_exchanged(place: Path) -> None:
    description = nas.load_network(place / "net.safetensors").description
    side, channels = description.architecture.image_size, description.architecture.channels
    looking = predictor(place / "net.safetensors")
    looking.impression = Impression((0.1,) * channels, (0.3,) * channels)
    list(looking.see([np.full((side, side, 3), 250, dtype=np.uint8)]))
    assert "exchanged" in looking.impression.unlike()
