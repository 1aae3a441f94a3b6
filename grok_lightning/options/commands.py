"""Command lines of ``sweep``, ``report`` and ``generate``: options, help and refusals."""

import re
import sys
import textwrap

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from grok_lightning.errors import UserError, show
from grok_lightning.options.classes import arguments_of, suggestion
from grok_lightning.options.lines import WIDTH, describe, help_text, line

TRUST = "Import any class that a checkpoint names."


def command_parser(command: str, description: str, example: str) -> ArgumentParser:
    """A parser for ``parse``.

    Args:
        command: The command's name.
        description: What it does.
        example: What may follow the name, for the help.
    """
    prog = f"grok-lightning {command}"
    return ArgumentParser(prog=prog, exit_on_error=False, description=description, epilog=example)


def parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parses a command line.

    ``-`` and ``_`` in an option's name are the same, flags need no value, and what follows ``--`` is no option. Other
    arguments may begin with ``-``, as prompts do.

    Args:
        parser: From ``command_parser``, with the command's options.
        arguments: What follows the command.

    Raises:
        UserError: An option that does not exist, or a value that it cannot have.
        SystemExit: With 0, if help was asked for; it has been printed then.
    """
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "-h" in before or "--help" in before:
        print(_help(parser))
        sys.exit(0)
    options, others = _split(parser, arguments)
    try:
        return parser.parse_args([*options, *(["--", *others] if others else [])])
    except ArgumentError as error:
        expected = f"grok-lightning {_usage(parser)}"
        message = f"{parser.prog.split()[-1]}: {' '.join(str(error).split())[:200]}; expected: {expected}"
        raise UserError(message) from None


def read_count(option: str, text: str, least: int = 1) -> int:
    """Reads a whole number of at most nine digits.

    Args:
        option: The option's name.
        text: Its value as typed.
        least: The smallest number that is accepted, 0 or 1.

    Raises:
        UserError: It is none.
    """
    if not re.fullmatch(r"[0-9]{1,20}", text) or not least <= int(text) < 10**9:
        raise UserError(f"--{option} is {show(text)}; a whole number of at least {least} is expected")
    return int(text)


def _split(parser: ArgumentParser, arguments: list[str]) -> tuple[list[str], list[str]]:
    """The options with their values, in the parser's spelling, and the other arguments."""
    known = {argument.name: argument for argument in arguments_of(parser) if not argument.positional}
    options: list[str] = []
    others: list[str] = []
    single = several = False  # whether the option before takes one value, or all up to the next option
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--":
            others += rest
        elif name.startswith("--") and name[2:3].isalpha():
            key = name[2:].replace("-", "_")
            if key not in known:
                command = parser.prog.split()[-1]
                raise UserError(f"{name} is no option of {command}{suggestion(key, known, '--')}")
            if single:
                break
            flag = known[key].hint is bool and not equals
            options.append(f"--{key}=true" if flag else f"--{key}{equals}{value}")
            several = known[key].many and not equals
            single = not (equals or flag or several)
        elif single:
            options[-1] += f"={argument}"
            single = False
        else:
            (options if several else others).append(argument)
    if single:
        raise UserError(f"{options[-1]} needs a value")
    return options, others


def _usage(parser: ArgumentParser) -> str:
    names = [describe(argument)[0] for argument in arguments_of(parser) if argument.positional]
    return " ".join([parser.prog.split()[-1], *names, "[--option value ...]"])


def _help(parser: ArgumentParser) -> str:
    listed = [argument for argument in arguments_of(parser) if argument.name != "help"]
    column = max(len(describe(argument)[0]) for argument in listed) + 4
    lines = {
        heading: [line(column, *describe(argument)) for argument in listed if argument.positional is positional]
        for heading, positional in (("Arguments", True), ("Options", False))
    }
    description = "\n".join(textwrap.wrap(str(parser.description), WIDTH))
    return help_text(_usage(parser), description, lines, f"{parser.prog.split()[-1]} {parser.epilog}")
