"""From resolved options to a module and its data: the one builder, for commands, sweeps and Python."""

from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentError

from grok_lightning.data import SequenceDataModule
from grok_lightning.errors import UserError, user_error_in
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import Nested
from grok_lightning.options.merging import expand
from grok_lightning.options.parser import model_parser
from grok_lightning.options.wording import in_one_line


def seeds_of(options: Nested) -> list[int]:
    """The seeds of the runs that options describe: several for a stack."""
    seeds = options["seed_everything"]
    return list(seeds) if isinstance(seeds, list) else [seeds]


def build(options: Nested) -> tuple[GrokModule, SequenceDataModule]:
    """Builds the data and the module that trains on them.

    Args:
        options: Resolved options in the short form, those of a stack too. Only ``data``, ``model`` and
            ``seed_everything`` are read.

    Returns:
        The module, its weights as they are at step 0, and its data.

    Raises:
        UserError: If an option of a class has a value that the class refuses.
    """
    parser = model_parser()
    wanted = {"data": {**options["data"], "seeds": seeds_of(options)}, "model": options["model"]}
    try:
        typed = parser.parse_object(expand(wanted))
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise in_one_line(error, wanted, parser) from None
    built = refusing(lambda: parser.instantiate(typed))
    return built.model, built.data


def refusing(make: Callable[[], Any], where: str = "") -> Any:
    """Calls what builds objects of classes that options name, and tells mistakes in options from bugs.

    A class says that it does not accept a value by a UserError or, as Python and torch do, a ValueError. Anything else
    is a bug, in this package or in a class of the user's, and is raised as it is.

    Args:
        make: Builds the object.
        where: What the message begins with.

    Raises:
        UserError: If a class refuses a value, or there is not enough memory.
    """
    try:
        return make()
    except (UserError, ValueError, ArgumentError, MemoryError) as error:
        message = f"{where}{' '.join(str(error).split())[:300] or 'not enough memory'}"
        raise user_error_in(error) or UserError(message) from None
