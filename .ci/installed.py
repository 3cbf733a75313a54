"""Asks an installed package whether it is all there: `python installed.py ENVIRONMENT "kernels|no kernels"`, from anywhere."""

import sys
from importlib import metadata, resources
from pathlib import Path

import controllers
import nas
import search_spaces
from search_spaces.networks.native import library

environment, wanted = Path(sys.argv[1]).resolve(), sys.argv[2]
for package in (nas, controllers, search_spaces):
    home = resources.files(package)
    assert environment in Path(str(home)).resolve().parents, f"{package.__name__} comes from {home}"
    assert home.joinpath("py.typed").is_file(), f"{package.__name__} has no py.typed"
for package, folder in ((nas, "presets"), (nas, "recipes"), (search_spaces, "genotypes")):
    assert any(file.name.endswith(".yaml") for file in resources.files(package).joinpath(folder).iterdir()), folder
told = metadata.metadata("nas-engine")
text = told.get_payload() or told["Description"]
assert "# NAS engine" in text and "](docs/" not in text and "<!--" not in text, "the README is not as it is read elsewhere"
assert (library.load() is not None) == (wanted == "kernels"), f"wanted {wanted}, but got {library.describe()}"
print(f"the wheel runs from another folder; kernels: {library.describe()}")
