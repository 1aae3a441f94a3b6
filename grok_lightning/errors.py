"""Errors caused by user input, as opposed to bugs."""

import errno
import os
import re
import traceback
from collections.abc import Callable
from typing import Any

MOST_SHOWN = 60  # characters of a value in a message
MOST_UNBROKEN, MOST_OF_MESSAGE = 300, 2000  # characters without a space, such as a path; and in all
_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_UNBROKEN = re.compile(rf"[^\s]{{{MOST_UNBROKEN},}}")


class UserError(Exception):
    """A mistake in what the user asked for.

    Its message is one line that names the option, the value given and what would be accepted. It is one line also where
    what it quotes is not (see ``in_one_line``).
    The command prints it on stderr without a traceback and exits with status 2; a notebook shows that line alone.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(in_one_line(message))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of the traceback."""
        return [f"{type(self).__name__}: {self}"]


def show(value: Any, most: int = MOST_SHOWN) -> str:
    """A user's value in a message: quoted, in one line, without characters that a terminal acts on or does not show.

    Args:
        value: Text, or a value of YAML.
        most: Characters from which on it is shortened; its length is stated then.
    """
    text = "null" if value is None else repr(value[:MOST_OF_MESSAGE] if isinstance(value, str) else value)
    if len(text) <= most + 2:
        return text
    count = len(value) if isinstance(value, str) else len(text)
    end = text[-1] if isinstance(value, str) else ""
    return f"{text[:most]}...{end} ({count:,} characters)"


def in_one_line(text: str) -> str:
    """A message in one line of bounded length, with control characters, surrogates and marks of direction escaped."""
    text = _UNBROKEN.sub(lambda found: f"{found[0][:MOST_SHOWN]}... ({len(found[0]):,} characters)", text)
    text = _BREAKS.sub(" ", text.strip())
    text = escape_unprintable(text)
    return text if len(text) <= MOST_OF_MESSAGE else f"{text[:MOST_OF_MESSAGE]}... ({len(text):,} characters)"


def escape_unprintable(text: str, kept: str = "") -> str:
    """Control characters, surrogates and marks of direction as Python writes them, save those in ``kept``."""
    return "".join(each if each.isprintable() or each in kept else ascii(each)[1:-1] for each in text)


def count_from_environment(name: str, default: int) -> int:
    """A whole number that an environment variable holds.

    Raises:
        UserError: It holds anything else.
    """
    text = os.environ.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UserError(f"the environment variable {name} is {show(text)}; a whole number is expected")
    return int(text)


def user_error_in(error: BaseException) -> UserError | None:
    """The UserError that an exception is or was raised from: jsonargparse wraps what a constructor raises."""
    return next((each for each in trace_causes(error) if isinstance(each, UserError)), None)


def trace_causes(error: BaseException) -> list[BaseException]:
    """An exception and those that it was raised from, each once, for one that is raised again may be among them."""
    chain, following = [error], error.__cause__ or error.__context__
    while following is not None and not any(following is each for each in chain):
        chain.append(following)
        following = following.__cause__ or following.__context__
    return chain


_NO_MEMORY = ("allocate memory", "out of memory", "bad_alloc", "start new thread", "launch worker thread")


def find_shortage(error: BaseException) -> str | None:
    """Memory, threads or disk space, where an exception is due to a lack of that on this machine; else None."""
    for each in trace_causes(error):
        if isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT):
            return "disk space"
        text = str(each)
        if isinstance(each, MemoryError) or (isinstance(each, Exception) and any(map(text.__contains__, _NO_MEMORY))):
            return "threads" if "thread" in text else "memory"
    return None


def refusing(
    make: Callable[[], Any], where: str = "", also: tuple[type[Exception], ...] = (), within: str | None = None
) -> Any:
    """Calls what builds objects of classes that options name, and tells mistakes in options from bugs.

    A class says that it does not accept a value by a UserError or, as Python and torch do, by a ValueError. Anything
    else is a bug, in this package or in a class of the user's, and is raised as it is.

    Args:
        make: Builds the object.
        where: What the message begins with.
        also: Further exceptions that stand for a value that is not accepted.
        within: A package all of whose exceptions do, such as torch.optim.

    Raises:
        UserError: If a class does not accept a value, or there is not enough memory.
    """
    mistakes: tuple[type[Exception], ...] = (UserError, ValueError, MemoryError, *also)
    try:
        return make()
    except Exception as wrapped:
        error = _as_raised(wrapped)
        if not isinstance(error, mistakes) and not (within and _raised_in(error).startswith(within)):
            raise error from None
        message = f"{where}{' '.join(str(error).split())[:300] or 'not enough memory'}"
        raise user_error_in(error) or UserError(message) from error


def _as_raised(error: Exception) -> Exception:
    """What a class raised, where jsonargparse has wrapped it."""
    while isinstance(error.__cause__, Exception) and _raised_in(error).startswith("jsonargparse"):
        error = error.__cause__
    return error


def _raised_in(error: Exception) -> str:
    """The module whose code raised an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))


def whole_traceback(error: BaseException) -> str:
    """The traceback of an exception with all those that it was raised from, also where they are usually hidden."""
    for each in trace_causes(error):
        each.__suppress_context__ = False
    return "".join(traceback.format_exception(error))
