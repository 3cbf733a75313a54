"""Writes docs/files.md: every module of the repository with the first line of its docstring.

python docs/make_files.py
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("search_spaces", "controllers", "nas", "tests", "benchmarks", "examples", "docs")
HEAD = """# Files

Every module with what it says of itself. Written by `python docs/make_files.py`: change the docstrings, not this file.
"""


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without its full stop; empty where there is none."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].removesuffix(".").replace("``", "`").replace("|", "\\|")


def modules(folder: Path) -> list[Path]:
    """The modules below a folder, those of a folder before those of its sub-folders, without what is not the repository's."""
    ours = [path for path in folder.rglob("*.py") if not any(part[0] == "." or part == "build" for part in path.relative_to(ROOT).parts)]
    return sorted(ours, key=lambda path: (path.parent.parts, path.name != "__init__.py", path.name))


def listing() -> str:
    """The text of docs/files.md."""
    parts = [HEAD]
    folder = None
    for path in (module for name in FOLDERS for module in modules(ROOT / name)):
        line = first_line(path)
        if path.name == "__init__.py" and not line:
            continue
        if path.parent != folder:
            folder = path.parent
            parts.append(f"\n## {folder.relative_to(ROOT).as_posix()}/\n\n| file | what it is |\n|---|---|\n")
        parts.append(f"| `{path.name}` | {line} |\n")
    return "".join(parts)


if __name__ == "__main__":
    (ROOT / "docs" / "files.md").write_text(listing(), encoding="utf-8")
