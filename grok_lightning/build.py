"""From resolved options to a module and its data: the one builder, for commands, sweeps and Python."""

from jsonargparse import ArgumentError

from grok_lightning.data import SequenceDataModule
from grok_lightning.errors import refusing
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import Nested
from grok_lightning.options.parser import model_parser
from grok_lightning.options.values import parse_values


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
    typed = parse_values(parser, wanted)
    built = refusing(lambda: parser.instantiate(typed), also=(ArgumentError,))
    return built.model, built.data
