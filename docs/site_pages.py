"""What mkdocs is told beyond mkdocs.yml: documents outside docs/ become pages, links follow them, and docstrings become the reference.

mkdocs build --strict
"""

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BORROWED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/cluster/README.md": "cluster-examples.md",
    "examples/extend/README.md": "extend-example.md",
}
"""Documents of the repository outside docs/, and the pages that they become."""
FACE = (
    *("nas.search", "nas.new_run", "nas.open_run", "nas.resume", "nas.train", "nas.transfer", "nas.evaluate", "nas.compare", "nas.predict"),
    *("nas.load_network", "nas.cost", "nas.draw", "nas.export", "nas.available", "nas.check_data", "nas.report"),
    *("nas.api.run.Run", "nas.api.run.Asked", "nas.api.run.TrialRecord", "nas.api.training.Training", "nas.api.training.Accuracy"),
    *("nas.api.training.Comparison", "nas.api.predicting.Predictions", "nas.api.predicting.Prediction", "nas.api.networks.NetworkCost"),
    *("nas.api.networks.Drawing", "nas.api.networks.Exported", "nas.ray_tune"),
)
SPACES = (
    *("genotype", "reference", "space", "registry", "nasnet", "nasbench201", "notations", "canonical", "skeletons", "residual_skeletons"),
    *("plugins", "networks.build", "networks.network", "networks.cost"),
)
CONTROLLERS = ("controller", "function", "registry", "options", "random_search", "local_search", "evolution", "policy_gradient")
REFERENCE = {
    "reference/nas.md": ("nas", FACE),
    "reference/search_spaces.md": ("search_spaces", tuple(f"search_spaces.{name}" for name in SPACES)),
    "reference/controllers.md": ("controllers", tuple(f"controllers.{name}" for name in CONTROLLERS)),
}
"""Pages made from docstrings: the package that each is headed by, and what it has."""
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_COMMENT = re.compile(r"^<!--.*?-->\n?", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made: of documents elsewhere, of docstrings; and the pictures that documents show."""
    for source, page in BORROWED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for picture in sorted(ROOT.glob("benchmarks/*.png")):
        files.append(File.generated(config, f"benchmarks/{picture.name}", abs_src_path=str(picture)))
    for page, (package, names) in REFERENCE.items():
        parts = [f"# {package}\n", f"::: {package}\n    options:\n      members: []\n      show_root_heading: false\n"]
        files.append(File.generated(config, page, content="\n".join([*parts, *(f"::: {name}\n" for name in names)])))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page with its links turned, and without the marks by which tests know what a block is."""
    here = page.file.src_uri
    if here in REFERENCE:
        return markdown
    repository = config.repo_url or ""
    return turned(_COMMENT.sub("", markdown), here, lambda place: files.get_file_from_path(place) is not None, repository)


def source_of(page: str) -> str:
    """The document of the repository that a page is made of."""
    return next((source for source, made in BORROWED.items() if made == page), f"docs/{page}")


def turned(markdown: str, page: str, is_page: Callable[[str], bool], repository: str = "") -> str:
    """The links of a document as they lead from its page.

    What is no part of the site is linked where the repository is to be seen; where nobody knows one, its path stands in the text.
    """
    folder = PurePosixPath(source_of(page)).parent

    def link(found: re.Match[str]) -> str:
        target, _, heading = found["target"].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        path = os.path.normpath(folder / target)
        place = BORROWED.get(path, path.removeprefix("docs/"))
        if is_page(place):
            there = os.path.relpath(place, PurePosixPath(page).parent)
            return f"{found['image']}[{found['text']}]({there}{f'#{heading}' if heading else ''})"
        if repository:
            return f"{found['image']}[{found['text']}]({repository.rstrip('/')}/{path})"
        return f"`{path}`" if found["text"] in (path, target) else f"{found['text']} (`{path}`)"

    return _LINK.sub(link, markdown)
