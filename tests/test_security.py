"""Nothing that comes from a file is executed: no unpickling, no evaluation, no unsafe YAML, no shell, held over the syntax tree."""

import ast
from pathlib import Path

import pytest
from support.paths import ROOT

SOURCES = sorted(p for folder in ("search_spaces", "controllers", "nas", "examples", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
EXECUTING_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle", "imp", "runpy"}
EXECUTING_CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
UNSAFE_ATTRIBUTES = {"unsafe_load", "full_load", "read_pickle", "to_pickle", "Unpickler", "load_state_dict_from_url", "system", "popen"}


def dotted(node: ast.expr) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else "?"


def keyword(call: ast.Call, name: str) -> object:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


def offences(source: str) -> list[str]:
    """What in a module could execute something that a file says."""
    tree = ast.parse(source)
    found = []
    exceptions_of_pickle = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and dotted(n) == "pickle.UnpicklingError"]
    uses_of_pickle = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "pickle"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = {alias.name.split(".")[0] for alias in node.names if alias.asname or alias.name != "pickle"}
            found += sorted(modules & EXECUTING_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in EXECUTING_MODULES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.Attribute) and node.attr in UNSAFE_ATTRIBUTES:
            found.append(dotted(node))
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in EXECUTING_CALLS:
                found.append(name)
            if name == "torch.load" and keyword(node, "weights_only") != "True":
                found.append("torch.load without weights_only=True")
            if name in ("np.load", "numpy.load") and keyword(node, "allow_pickle") not in (None, "False"):
                found.append("np.load with allow_pickle")
            if name in ("yaml.load", "yaml.load_all") and keyword(node, "Loader") != "_StrictLoader":
                found.append("yaml.load without the strict loader")
            if keyword(node, "shell") not in (None, "False"):
                found.append("a shell")
    return found + ["pickle"] * (len(uses_of_pickle) - len(exceptions_of_pickle))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_from_a_file_is_executed(path: Path) -> None:
    assert offences(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(b)",
        "from pickle import loads",
        "import cloudpickle",
        "import torch\ntorch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f, Loader=yaml.Loader)",
        "yaml.unsafe_load(f)",
        "eval(text)",
        "exec(text)",
        "pd.read_pickle(f)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "class U(pickle.Unpickler): ...",
    ],
)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    assert offences(source)


def test_the_check_lets_safe_readers_pass() -> None:
    safe = "import pickle\ntry:\n    torch.load(f, weights_only=True)\nexcept pickle.UnpicklingError:\n    np.load(f)\n"
    assert offences(safe) == []
