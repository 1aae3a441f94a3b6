"""Errors caused by user input, as opposed to bugs."""

import traceback
from collections.abc import Callable
from typing import Any


class UserError(Exception):
    """A mistake in what the user asked for.

    Its message is one line that names the option, the value given and what would be accepted.
    The command prints it on stderr without a traceback and exits with status 2; a notebook shows that line alone.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of the traceback."""
        return [f"{type(self).__name__}: {self}"]


def user_error_in(error: BaseException) -> UserError | None:
    """The UserError that an exception is or was raised from: jsonargparse wraps what a constructor raises."""
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, UserError):
        chain = chain.__cause__ or chain.__context__
    return chain


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
    chain: BaseException | None = error
    while chain is not None:
        chain.__suppress_context__ = False
        chain = chain.__cause__ or chain.__context__
    return "".join(traceback.format_exception(error))
