"""What is read outside the repository: the README of a package index, and the documentation's site (`.ci/wheel` tries the wheel)."""

import re
import runpy
from typing import Any

import pytest
import yaml
from support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_of_an_index_has_no_dead_link() -> None:
    readme = runpy.run_path(str(ROOT / "setup.py"))["readme"]
    alone, hosted = readme(README, ""), readme(README, "https://example.org/tree/")
    assert "<!--" not in alone and not re.findall(r"\]\((?!https?://)", alone) and "`docs/search.md`" in alone
    assert "[docs/search.md](https://example.org/tree/docs/search.md)" in hosted and not re.findall(r"\]\((?!https?://)", hosted)
    assert readme("[a](#b) [c](https://example.org) [d](e.md)", "") == "[a](#b) [c](https://example.org) d (`e.md`)"


@pytest.fixture(scope="module")
def site() -> dict[str, Any]:
    pytest.importorskip("mkdocs")
    return runpy.run_path(str(ROOT / "docs" / "site_pages.py"))


def test_links_follow_their_documents_onto_the_site(site: dict[str, Any]) -> None:
    pages = {"search.md", "benchmarks.md", "benchmarks/a.png", *site["BORROWED"].values()}

    def turned(text: str, page: str, repository: str = "") -> str:
        return str(site["turned"](text, page, pages.__contains__, repository))

    assert turned("[x](docs/search.md#a) [y](benchmarks/README.md)", "index.md") == "[x](search.md#a) [y](benchmarks.md)"
    assert turned("[x](../README.md) ![y](../benchmarks/a.png)", "search.md") == "[x](index.md) ![y](benchmarks/a.png)"
    assert turned("![y](a.png) [x](#here) [z](https://example.org/a.md)", "benchmarks.md") == (
        "![y](benchmarks/a.png) [x](#here) [z](https://example.org/a.md)"
    )
    assert turned("[the model](../nas/runs/posterior.py)", "search.md") == "the model (`nas/runs/posterior.py`)"
    assert turned("[the model](../nas/runs/posterior.py)", "search.md", "https://example.org/x") == (
        "[the model](https://example.org/x/nas/runs/posterior.py)"
    )


def test_the_reference_names_what_there_is(site: dict[str, Any]) -> None:
    import nas

    names = {name for _, listed in site["REFERENCE"].values() for name in listed}
    assert {f"nas.{name}" for name in nas.__all__ if name != "__version__"} <= names
    modules = [name for name in names if name.split(".")[0] in ("search_spaces", "controllers")]
    assert all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in modules)


def test_the_site_fetches_nothing_from_elsewhere() -> None:
    text = re.sub(r"!!python\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert yaml.safe_load(text)["theme"]["font"] is False
