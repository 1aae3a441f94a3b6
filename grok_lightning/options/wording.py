"""How things are put in words: an error of jsonargparse in one line, a run in a title."""

import re

from jsonargparse import ArgumentParser

from grok_lightning.errors import UserError
from grok_lightning.options.classes import LIST_OPTIONS, Nested, expected, item_mistake, lookup
from grok_lightning.records.record import flatten
from grok_lightning.records.tasks import algebra_title


def in_one_line(error: Exception, wanted: Nested, parser: ArgumentParser) -> UserError:
    """What jsonargparse found wrong, as the option, its value and what would do.

    Args:
        error: What it raised.
        wanted: The options as they were handed over, in the short form.
        parser: The command's parser, which knows the types.
    """
    text = " ".join(str(error).split())
    keys = re.findall(r'[Kk]ey "([^"]+)"', text)
    option = ".".join(keys[:1]).replace(".init_args", "")
    inner = next((key for key in re.findall(r"--?([\w.]+)|Parser key \"([\w.]+)\"", text) if key), None)
    flat = flatten(wanted)
    for name in LIST_OPTIONS:
        mistake = item_mistake(name, lookup(wanted, name) or [])
        if mistake is not None:
            return UserError(mistake)
    candidates = [key for key in flat if key == option or key.startswith(f"{option}.")]
    wrong = [key for key in candidates if re.search(rf'"{re.escape(key.rsplit(".", 1)[-1])}"', text)] or candidates
    if option and wrong and len(wrong) == 1:
        return UserError(f"--{wrong[0]} is {flat[wrong[0]]!r}; expected: {expected(wrong[0], wanted, parser)}")
    return UserError(f"{option or inner or 'options'}: {text[:300]}")


def refuse_null(given: Nested, named: Nested, parser: ArgumentParser) -> None:
    """Refuses null where it means nothing: jsonargparse lets it through for every option.

    Args:
        given: What was given, in the short form.
        named: The same over the classes of a checkpoint, so that options of a class are found.
        parser: The subcommand's parser.

    Raises:
        UserError: For the first such option.
    """
    for option, value in flatten(given).items():
        if value is None:
            words = expected(option, named, parser)
            if "null" not in words and words != "another kind of value":
                raise UserError(f"--{option} is null; expected: {words}")
    for group in ("trainer", "evaluation", "checkpoint", "data", "model"):
        if group in given and not isinstance(given[group], dict):
            raise UserError(f"--{group} is {given[group]!r}; a mapping of options is expected")


def title(resolved: Nested) -> str:
    """A run in one line: its task, its share of the table and its seed."""
    data = resolved["data"]
    if "strings" in data:
        return f"text, seed {resolved['seed_everything']}"
    share = f"α = {data.get('train_fraction')}" if data.get("train_rows") is None else f"{data['train_rows']} rows"
    return f"{data.get('formula')} {algebra_title(data)}, {share}, seed {resolved['seed_everything']}"
