"""Reads the files of CIFAR's Python layout without unpickling: their instructions are data to a reader that calls nothing.

A pickle is a program for Python's unpickler. ``pickletools.genops`` only splits it into instructions; those that build plain
containers, text, numbers and uint8 arrays are carried out here, and any other ends the reading.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.errors import DataError

MAX_BYTES = 400 << 20
"""The largest official file (CIFAR-100's ``train``) has 155 MB."""

GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "type",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}
"""The names that such files mention, and what each means here. Nothing is imported for them."""


@dataclass(frozen=True)
class _Name:
    """A name that the file mentions."""

    role: str


@dataclass
class DType:
    """The code ('u1') of a stored ``numpy.dtype``."""

    code: object


@dataclass
class Array:
    """A stored ``numpy.ndarray``: its raw bytes, so that no numpy code sees a hostile state."""

    shape: tuple[int, ...] = ()
    code: object = None
    fortran: bool = False
    raw: bytes = b""


def load_plain_pickle(path: Path) -> object:
    """The plain data in a pickle file; numpy arrays come as ``Array``.

    Raises:
        DataError: the file cannot be read, is too large, is not a pickle, or asks for anything but plain data.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: must be at most {MAX_BYTES:,} bytes, but it has {size:,}")
        return _Machine().run(path.read_bytes())
    except DataError:
        raise
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as problem:
        raise DataError(f"{path}: not a data file of plain arrays: {str(problem) or type(problem).__name__}") from None


_MARK = object()


@dataclass
class _Machine:
    """The stack and the memo that the instructions work on."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, content: bytes) -> object:
        """Carry out the instructions. Raises ValueError at the first that plain data have no use for."""
        for opcode, argument, _ in pickletools.genops(content):
            name = opcode.name
            if name in _IGNORED:
                continue
            if name in _PUSHED:
                self.stack.append(_PUSHED[name](argument))
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name == "STOP":
                break
            else:
                raise ValueError(f"it uses the instruction {name}, which a data file has no use for")
        (result,) = self.stack
        return result

    def since_mark(self) -> list[Any]:
        """Take everything above the last mark from the stack."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                items = self.stack[place + 1 :]
                del self.stack[place:]
                return items
        raise ValueError("it takes more values than it has made")

    def take(self, count: int) -> list[Any]:
        """Take that many values from the stack."""
        if len(self.stack) < count:
            raise ValueError("it takes more values than it has made")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def tuple_of(self, count: int) -> None:
        """Make a tuple of the last values."""
        self.stack.append(tuple(self.take(count)))

    def mention(self, module: object, name: object) -> None:
        """Push what a name stands for here."""
        if (module, name) not in GLOBALS:
            raise ValueError(f"it asks for {module}.{name}, which a data file has no use for")
        self.stack.append(_Name(GLOBALS[module, name]))  # type: ignore[index]

    def extend(self, items: list[Any]) -> None:
        """Append to the list on the stack."""
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to what is not a list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        """Set items of the dictionary on the stack."""
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise ValueError("it sets items of what is not a dictionary")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def reduce(self) -> None:
        """What would be a call: makes an empty array, a dtype or bytes."""
        called, arguments = self.take(2)
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise ValueError("it calls what is not a name")
        match called.role, arguments:
            case "array", _:
                made: object = Array()
            case "dtype", (code, *_):
                made = DType(code.decode("latin1") if isinstance(code, bytes) else code)
            case "encode", (str(text),) | (str(text), "latin1" | b"latin1"):
                made = text.encode("latin1")
            case role, _:
                raise ValueError(f"it makes a {role} of unexpected arguments")
        self.stack.append(made)

    def build(self) -> None:
        """Fill the array on the stack with its state; a dtype's (byte order, flags) means nothing for one-byte pixels."""
        (state,) = self.take(1)
        made = self.stack[-1]
        if isinstance(made, DType):
            return
        match made, state:
            case Array(), (_, tuple(shape), DType(code), fortran, bytes(raw)):
                self.stack[-1].shape, self.stack[-1].code = shape, code
                self.stack[-1].fortran, self.stack[-1].raw = bool(fortran), raw
            case _:
                raise ValueError("an array has an unexpected state")


def _as_is(argument: Any) -> Any:  # noqa: ANN401 - whatever the instruction carries
    return argument


def _python_2_text(argument: str) -> bytes:
    return argument.encode("latin1")


_IGNORED = ("PROTO", "FRAME")
_PUSHED: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _as_is),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _as_is),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _python_2_text),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "MARK": lambda _: _MARK,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, place: machine.memo.__setitem__(int(place), machine.stack[-1])),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, place: machine.stack.append(machine.memo[int(place)])),
    "MEMOIZE": lambda machine, _: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "DICT": lambda machine, _: machine.stack.append(_dictionary(machine.since_mark())),
    "APPEND": lambda machine, _: machine.extend(machine.take(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "GLOBAL": lambda machine, names: machine.mention(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.mention(*machine.take(2)),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))
