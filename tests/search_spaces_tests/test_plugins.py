"""The open registry: built-in rows, installed packages' entry points, and module:attr under the rule of trust."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from search_spaces import plugins
from search_spaces.errors import SpaceError
from search_spaces.plugins import PluginError, Registry, forget_installed, instance_of, trust


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plugins, "_trusted", set())
    monkeypatch.delenv("NAS_TRUST", raising=False)
    before = set(sys.modules)
    forget_installed()
    yield
    forget_installed()
    for name in set(sys.modules) - before:
        if name.startswith("sample_"):
            del sys.modules[name]


def registry(**built_in: int) -> Registry[int]:
    return Registry("number", "nas.sample_numbers", built_in or {"one": 1, "two": 2}, instance_of(int), SpaceError, "or a file")


def install(folder: Path, package: str, content: str, **points: str) -> None:
    """What ``pip install --target folder`` leaves behind, as far as it matters here."""
    (folder / f"{package}.py").write_text(content)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[nas.sample_numbers]\n{lines}")


def test_built_in_rows_stand_in_order_with_their_origin() -> None:
    numbers = registry()
    assert list(numbers) == ["one", "two"] and numbers["two"] == 2
    assert "one" in numbers and numbers.origin("one") == "built-in"


def test_an_unknown_name_is_told_with_the_nearest_and_the_valid_ones() -> None:
    with pytest.raises(SpaceError, match=r"unknown number 'tow' \(did you mean 'two'\?\); choose one of one, two, or a file"):
        registry()["tow"]
    with pytest.raises(SpaceError, match="unknown number"):
        registry().check("zzz")


def test_an_installed_package_adds_rows_and_is_imported_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sample_three", "VALUE = 3\n", three="sample_three:VALUE")
    monkeypatch.syspath_prepend(tmp_path)
    numbers = registry()
    assert list(numbers) == ["one", "two", "three"] and "three" in numbers
    assert numbers.origin("three") == "package sample_three (sample_three:VALUE)"
    assert "sample_three" not in sys.modules
    assert numbers["three"] == 3


def test_a_built_in_name_is_never_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sample_taker", "raise AssertionError('imported')\n", one="sample_taker:VALUE")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry()["one"] == 1 and list(registry()) == ["one", "two"]


def test_a_name_that_two_packages_offer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sample_a", "VALUE = 3\n", three="sample_a:VALUE")
    install(tmp_path, "sample_b", "VALUE = 4\n", three="sample_b:VALUE")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"offered more than once.*sample_a.*sample_b"):
        registry()["three"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import no_such_module_at_all\n", "cannot be imported: ModuleNotFoundError"),
        ("1 / 0\n", "cannot be imported: ZeroDivisionError"),
        ("VALUES = 3\n", r"has no 'VALUE' \(did you mean 'VALUES'"),
        ("VALUE = 'three'\n", "must be an instance of builtins.int, but got 'three'"),
    ],
)
def test_a_broken_package_is_one_message(content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "sample_broken", content, three="sample_broken:VALUE")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=message):
        registry()["three"]


def test_code_is_imported_from_the_working_directory_if_the_user_named_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample_mine.py").write_text("class A:\n    VALUE = 7\n")
    monkeypatch.chdir(tmp_path)
    numbers, paths = registry(), list(sys.path)
    trust(["sample_mine:A.VALUE", "one", None, 3])
    assert numbers["sample_mine:A.VALUE"] == 7
    assert numbers.origin("sample_mine:A.VALUE") == "sample_mine:A.VALUE"
    assert sys.path == paths


def test_code_that_only_a_file_names_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample_evil.py").write_text("raise AssertionError('imported')\n")
    (tmp_path / "sample_good.py").write_text("VALUE = 5\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match="comes from a file; if you know it and trust it: NAS_TRUST=sample_evil"):
        registry()["sample_evil:VALUE"]
    monkeypatch.setenv("NAS_TRUST", "other, sample_good")
    assert registry()["sample_good:VALUE"] == 5


@pytest.mark.parametrize("name", ["a:b:c", ":x", "x:", "a b:c", "/etc/passwd:x", "C:\\folder", "../x:y", "x:y()"])
def test_what_is_no_module_and_attribute_is_an_unknown_name(name: str) -> None:
    trust([name])
    with pytest.raises(SpaceError, match="unknown number"):
        registry()[name]
