"""Whatever ends a command ends it with one line and an exit code. Nothing heavy."""

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nas.cli.options import console, errors, say_marked
from nas.cli.shell.command import ClosedPipeError
from nas.errors import UserError

REMEDIES = {
    errno.ENOSPC: "make room, and the same command or `nas resume` goes on; nothing recorded is lost",
    errno.EDQUOT: "make room, and the same command or `nas resume` goes on; nothing recorded is lost",
    errno.EACCES: "it belongs to somebody else or is protected: name another place, or change its permissions",
    errno.EPERM: "it belongs to somebody else or is protected: name another place, or change its permissions",
    errno.EROFS: "name a place that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "too many files are open at once: raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "there is not enough memory",
}
"""What to do about faults of the operating system; others say it themselves."""


def any_terminal() -> None:
    """Make the streams print whatever a name may hold, in any encoding; one that was closed (``>&-``) takes it to nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="nas.plainly")


def guarded(work: Callable[[], object]) -> int:
    """Do the work of a command; the code to exit with. What ends it otherwise than in order is one line on the error stream."""
    try:
        code = _code_of(work)
        sys.stdout.flush()  # here, where it can be said that this failed
    except ClosedPipeError as error:
        _forget(sys.stdout)
        return error.exit_code
    except UserError as error:
        return _say(str(error), error.exit_code)
    except BrokenPipeError:
        _forget(sys.stdout)
        return ClosedPipeError.exit_code
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO):
            _forget(sys.stdout)
        return _say(explain(error), 2)
    except RuntimeError as error:
        loop = error.__context__  # pathlib, before Python 3.13, makes one of a link that leads to itself
        if not (isinstance(loop, OSError) and loop.errno == errno.ELOOP):
            raise
        return _say(explain(loop), 2)
    except UnicodeEncodeError as error:
        return _say(f"{error.object[:80]!r} cannot be a name here: this system's encoding is {error.encoding}; set LC_ALL=C.UTF-8", 2)
    except KeyboardInterrupt:
        return _say("interrupted: stopped at once", 130)
    return code


def _code_of(work: Callable[[], object]) -> int:
    try:
        work()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def explain(error: OSError) -> str:
    """A fault of the operating system as one line: which file, what is wrong, what to do."""
    place = next((f"{name}: " for name in (error.filename, error.filename2) if name is not None), "")
    what = error.strerror or str(error) or type(error).__name__
    remedy = REMEDIES.get(error.errno or 0)
    return f"{place}{what}" + (f"; {remedy}" if remedy else "")


def _say(message: str, code: int) -> int:
    with suppress(OSError):  # nobody to say it to
        say_marked("error:", "bold red", message, errors)
        sys.stderr.flush()
    return code


def _forget(stream: object) -> None:
    """Let what is still to be written to a stream go nowhere: the interpreter would complain of it when it ends."""
    console.forget()
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)
