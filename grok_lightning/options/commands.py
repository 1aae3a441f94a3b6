"""Command lines of commands that are not the Trainer's: their options, with errors that suggest the right one."""

from collections.abc import Collection

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from grok_lightning.errors import UserError
from grok_lightning.options.classes import suggestion


def command_parser(command: str, description: str) -> ArgumentParser:
    """A parser for ``parsed``."""
    return ArgumentParser(prog=f"grok-lightning {command}", exit_on_error=False, description=description)


def parsed(parser: ArgumentParser, arguments: list[str], command: str, flags: Collection[str] = ()) -> Namespace:
    """Parses a command line; ``-`` and ``_`` in an option's name are the same.

    Args:
        parser: From ``command_parser``, with the command's options.
        arguments: What follows the command.
        command: Its name.
        flags: Options that need no value.

    Raises:
        UserError: An option that does not exist, or a value that it cannot have.
    """
    known = {action.dest for action in parser._actions if action.option_strings} - {"help"}
    spelled = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        key = name[2:].replace("-", "_")
        if name in ("-h", "--help") or not name.startswith("--"):
            spelled.append(argument)
        elif key not in known:
            raise UserError(f"{name} is no option of {command}{suggestion(key, known, '--')}")
        elif key in flags and not equals:
            spelled.append(f"--{key}=true")
        else:
            spelled.append(f"--{key}{equals}{value}")
    try:
        return parser.parse_args(spelled)
    except ArgumentError as error:
        raise UserError(f"{command}: {' '.join(str(error).split())[:200]}") from None
