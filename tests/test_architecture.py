"""The import arrow nas → controllers → search_spaces, and help that loads neither torch nor ray."""

import ast
import sys
from pathlib import Path

import pytest
from support.fresh import run_fresh
from support.paths import ROOT

PACKAGES = ("search_spaces", "controllers", "nas")
FORBIDDEN = {
    "search_spaces": {"controllers", "nas", "tests", "benchmarks"},
    "controllers": {"nas", "tests", "benchmarks"},
    "nas": {"tests", "benchmarks"},
}
# What each package may import from outside, beside the standard library (design: one direction, few dependencies).
THIRD_PARTY = {
    "search_spaces": {"torch", "networkx", "numpy", "yaml"},
    "controllers": {"torch", "numpy", "sklearn", "scipy"},
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_never_point_back(package: str) -> None:
    assert files(package)
    for path in files(package):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & FORBIDDEN[package], f"{path.relative_to(ROOT)} imports {roots & FORBIDDEN[package]}"


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_lower_packages_need_little(package: str) -> None:
    for path in files(package):
        roots = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names) - set(PACKAGES)
        assert roots <= THIRD_PARTY[package], f"{path.relative_to(ROOT)} imports {roots - THIRD_PARTY[package]}"


def test_ray_is_imported_in_few_files() -> None:
    users = {str(path.relative_to(ROOT)) for path in files("nas") if any(n.split(".")[0] == "ray" for n in imported(path))}
    runners = ("ray_pool", "ray_start", "distributed", "side_by_side")
    assert users == {"nas/ray_tune.py", *(f"nas/runners/{name}.py" for name in runners)}


def test_only_the_command_line_talks_to_a_person() -> None:
    for path in files("nas"):
        name = str(path.relative_to(ROOT))
        if name.startswith("nas/cli/") or name in ("nas/__main__.py", "nas/exports/standalone.py"):  # the last is copied into a script
            continue
        roots = {module.split(".")[0] for module in imported(path)}
        assert not roots & {"rich", "typer"} and not any(module.startswith("nas.cli") for module in imported(path)), name
        prints = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name) and node.id == "print"]
        assert not prints, f"{name}:{prints} prints"


def test_no_command_imports_another_command() -> None:
    commands = {path.stem for path in (ROOT / "nas" / "cli").glob("*.py")} - {"__init__", "main", "options"}
    for name in commands:
        others = {f"nas.cli.{other}" for other in commands - {name}}
        assert not imported(ROOT / "nas" / "cli" / f"{name}.py") & others


def test_help_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys\nimport nas.cli.main\n"
        "try:\n    nas.cli.main.app(['search', '--help'])\nexcept SystemExit:\n    pass\n"
        "print('HEAVY', sorted({'torch', 'ray', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    assert run_fresh(code).endswith("HEAVY []")


def test_torch_free_modules_load_no_torch() -> None:
    modules = ["genotype", "space", "nasnet", "canonical", "registry", "reference", "skeletons", "vocabulary", "notations", "plugins"]
    code = (
        "import sys\n"
        + "\n".join(f"import search_spaces.{m}" for m in modules)
        + "\nimport controllers.controller, nas.runs.config, nas.runs.ledger, nas.runs.loop, nas.runs.plan"
        + "\nimport nas.data.prepared, nas.training.config, nas.evaluators.registry"
    )
    assert run_fresh(code + "\nprint('torch' in sys.modules)") == "False"


def test_no_module_is_in_an_import_cycle() -> None:
    import networkx

    graph = networkx.DiGraph()
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for package in PACKAGES for path in files(package)}
    for name, path in names.items():
        top_level = {
            getattr(node, "module", None) or alias.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        graph.add_edges_from((name, other) for other in top_level if other in names)
    assert networkx.is_directed_acyclic_graph(graph), list(networkx.simple_cycles(graph))


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    for path in files(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 80, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
