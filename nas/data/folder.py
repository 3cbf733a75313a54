"""Folders of images as a data set: a sub-folder for every class, maybe under train/, val/ and test/ by any of their names. No torch."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nas.data.cifar import SPECS, find
from nas.data.listing import Listing, Member, class_folders, joined, refused
from nas.data.names import PARTS, SUFFIXES, SURE_ROLES, Role, class_name, part_of, part_within, printable, roles_of, some
from nas.data.walk import Folder, Walk
from nas.errors import DataError
from nas.tools.words import counted, quoted

TEXTS = frozenset({".csv", ".html", ".json", ".log", ".md", ".pdf", ".txt", ".xml", ".yaml", ".yml"})
"""Suffixes of what lies beside images in many sets and is never meant as one."""


@dataclass(frozen=True)
class Part:
    """A folder that is a part of the data set; its class folders are in ``source``, itself or one that it alone holds."""

    folder: Folder
    source: Folder
    meant: Role

    @property
    def name(self) -> str:
        """As a person sees it."""
        return printable(self.folder.name) + "/"


def look_through(folder: Folder, known: frozenset[str] = frozenset()) -> Folder:
    """The folder where the data begin: a folder is passed whose only sub-folder with images holds all of them in folders of its own.

    ``known`` are classes: one of them is not passed.
    """
    while not folder.images and not _roles(folder) and len(folder.holding) == 1:
        (inner,) = folder.holding
        if inner.images or class_name(inner.name) in known:
            break
        folder = inner
    return folder


def has_class_folders(start: Folder) -> bool:
    """Whether there are at least two sub-folders with images to be classes, in the part to train on where there are parts."""
    roles = _roles(start)
    source = look_through(roles["train"][0]) if "train" in roles else start
    return len(source.holding) > 1


def find_class_folders(walk: Walk, start: Folder, scoring: bool = False) -> Listing:
    """The images below ``start`` by the classes that its folders, or those of its parts, are named for.

    Where they are only scored (``scoring``), one class or a test part alone will do.

    Raises:
        DataError: fewer than two classes, two folders for one part, classes beside parts, a class of another part is unknown, or the
            folders may be read in two ways.
    """
    place = walk.base / start.path
    parts = _parts(place, start, scoring)
    source = parts["train"].source if parts else start
    names = _class_names(walk, source, 1 if scoring else 2)
    _refuse_two_readings(walk.base / source.path, source)
    notes = [f"{printable(start.path)}/ alone holds images: it is taken for the data set"] if start.path else []
    notes += _unused(place, start, parts, frozenset(names)) if parts else ()
    members: dict[Role, list[Member]] = {role: _members(walk, part.source, names) for role, part in parts.items()}
    notes += _without_classes(walk, parts, members)
    parts, members = roles_of(parts), roles_of(members or {"train": _members(walk, start, names)})
    notes += [*_strays(start, parts), *walk.notes()]
    display = {role: part.name for role, part in parts.items()}
    return Listing(walk.base, _name(walk.base), names, members, display, _layout(parts, len(names)), tuple(notes))


def _layout(parts: dict[Role, Part], classes: int) -> str:
    named = f"{joined([part.name for part in parts.values()])} with " if parts else ""
    if len(parts) < 2:
        return f"{named}{class_folders(classes)}; a fifth is held out as test part"
    chosen_by = f"; {parts['test'].name} is the test part" if parts["test"].meant == "validation" else ""
    return f"{named}{class_folders(classes)} each{chosen_by}"


def _name(base: Path) -> str:
    return printable(base.resolve().name)


# ---------------------------------------------------------------------------------------------------- parts


def _roles(folder: Folder) -> dict[Role, list[Folder]]:
    """The sub-folders that are parts, by what for: by their whole names, else by a word of names that are otherwise the same."""
    found: dict[Role, list[Folder]] = {}
    for inner in folder.folders:
        if role := part_of(inner.name):
            found.setdefault(role, []).append(inner)
    if found:
        return {} if _is_a_class(found, folder) else found
    named = [(within, inner) for inner in folder.folders if (within := part_within(inner.name)) is not None]
    rests = {rest for (role, rest), _ in named if role == "train"}
    for (role, rest), inner in named:
        if rest in rests:
            found.setdefault(role, []).append(inner)
    return found if "train" in found and len(found) > 1 else {}


def _is_a_class(found: dict[Role, list[Folder]], folder: Folder) -> bool:
    """Whether what is called train, alone, is a class (of vehicles): it holds nothing but images, as two others beside it do."""
    flat = [inner for inner in folder.holding if inner.images and not inner.holding]
    return set(found) == {"train"} and len(flat) > 2 and all(inner in flat for inner in found["train"])


def _parts(place: Path, start: Folder, scoring: bool) -> dict[Role, Part]:
    found = _roles(start)
    if "train" not in found:
        sure = [folder for folders in found.values() for folder in folders if folder.name.lower() in SURE_ROLES]
        if sure and not scoring:
            raise refused(place, f"has {printable(sure[0].name)}/ but no train/ folder beside it")
        found = {role: folders for role, folders in found.items() if folders[0] in sure}
    for folders in found.values():
        if len(folders) > 1:
            raise refused(place, f"has two folders for one part: {some(folder.name for folder in folders)}")
    known: frozenset[str] = frozenset()
    parts: dict[Role, Part] = {}
    for role in (role for role in PARTS if role in found):
        parts[role] = Part(found[role][0], look_through(found[role][0], known), role)
        known |= {class_name(folder.name) for folder in parts[role].source.folders}
    return parts if "train" in parts else roles_of(parts, scoring)


def _without_classes(walk: Walk, parts: dict[Role, Part], members: dict[Role, list[Member]]) -> Iterator[str]:
    """Take away parts that have no images in class folders where another remains to judge by. Raises DataError where none does."""
    lacking = [role for role in parts if role != "train" and not members[role]]
    if lacking and len(lacking) == len(parts) - 1:
        part, train = (printable(walk.base / parts[role].folder.path) for role in (lacking[-1], "train"))
        raise DataError(f"{part} must hold its images in one sub-folder for each class, like {train}, but none is left")
    for role in lacking:
        del members[role]
        yield f"{parts.pop(role).name} is not used: it holds no images in class folders"


def _unused(place: Path, start: Folder, parts: dict[Role, Part], names: frozenset[str]) -> Iterator[str]:
    """What lies beside the parts. Raises DataError where it may be classes."""
    beside = [folder for folder in start.holding if all(folder is not part.folder for part in parts.values())]
    classes = [folder.name for folder in beside if folder.images or class_name(folder.name) in names]
    if classes:
        raise refused(place, f"has folders of images beside its parts {joined([part.name for part in parts.values()])}: {some(classes)}")
    for folder in beside:
        yield f"{printable(folder.name)}/ ({folder.total:,} images) is not used: it is none of the parts"


# ---------------------------------------------------------------------------------------------------- classes


def _class_names(walk: Walk, source: Folder, least: int) -> tuple[str, ...]:
    place = walk.base / source.path
    names = tuple(sorted({class_name(folder.name) for folder in source.folders}))
    if len(names) < least:
        raise refused(
            place,
            f"must have one sub-folder of images for each of at least {least} classes, but it has {len(names)}{_what(source)}"
            f"{_published(place)}",
        )
    return names


def _published(place: Path) -> str:
    """That it is a data set with a name, as it is published, and how that is used."""
    for spec in SPECS.values():
        with suppress(DataError):  # a part of it is there
            if find(spec, [place]) is not None:
                return f"; it is {spec.title} as it is published: --data {spec.name} --data-dir {quoted(place)}"
    return ""


def _what(folder: Folder) -> str:
    """What there is instead of class folders."""
    kinds = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in folder.all_others())
    found = [f"{counted(len(folder.images), 'image')} directly in it"] if folder.images else []
    deeper, others = counted(folder.total - len(folder.images), "image"), counted(sum(kinds.values()), "other file")
    found += [f"{deeper} in {some(inner.name for inner in folder.holding)}"] if folder.holding else []
    found += [f"{others} ({', '.join(f'{count} {kind}' for kind, count in kinds.most_common(3))})"] if kinds else []
    return f" ({', '.join(found) or 'nothing is in it'})"


def _refuse_two_readings(place: Path, source: Folder) -> None:
    """Raise DataError where every class folder holds the same sub-folders and nothing else: which ones are the classes?"""
    inner = [{class_name(folder.name) for folder in outer.holding} for outer in source.holding]
    if len(inner) > 1 and len(inner[0]) > 1 and all(names == inner[0] for names in inner) and not any(f.images for f in source.holding):
        outer = some(folder.name for folder in source.holding)
        raise refused(
            place,
            f"can be read in two ways: {outer} all hold {some(sorted(inner[0]))}, and either may be the classes; name one of them in "
            "its place, call parts train/ and test/, or list the images in a CSV file",
        )


def _members(walk: Walk, source: Folder, names: tuple[str, ...]) -> list[Member]:
    """Every image file with its label, in a fixed order."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for folder in source.folders:
        name = class_name(folder.name)
        if name not in found:
            problem = f"class folder {name!r} has no counterpart among the training classes: {some(names, 20)}"
            raise DataError(f"{printable(walk.base / source.path)}: {problem}")
        found[name] += folder.all_images()
    return [(path, label) for label, name in enumerate(names) for path in sorted(found[name], key=lambda path: path.split("/"))]


def _strays(start: Folder, parts: dict[Role, Part]) -> Iterator[str]:
    """Files that may be meant as images and are not read."""
    sources = [start, *(part.source for part in parts.values())]
    loose = [image for folder in sources for image in folder.images]
    if loose:
        one, several = "image outside the class folders is not used", "images outside the class folders are not used"
        yield f"{counted(len(loose), one, several)}: {some(loose)}"
    suffixes = (PurePosixPath(name).suffix.lower() for source in sources[bool(parts) :] for f in source.folders for name in f.all_others())
    others = Counter(suffix or "no suffix" for suffix in suffixes if suffix not in TEXTS)
    if others:
        kinds = ", ".join(f"{count:,} {printable(kind)}" for kind, count in others.most_common(5))
        read = " ".join(sorted(SUFFIXES))
        one = "file in class folders does not end like an image and is not read"
        which = counted(others.total(), one, "files in class folders do not end like images and are not read")
        yield f"{which}: {kinds} (read are {read})"
