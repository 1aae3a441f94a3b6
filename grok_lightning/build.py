"""From resolved options to a module and its data: the one builder, for commands, sweeps and Python."""

from inspect import signature

from jsonargparse import ArgumentError

from grok_lightning.data import SequenceDataModule
from grok_lightning.errors import refusing
from grok_lightning.hardware.default_type import float32_by_default
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import Nested, find_object, is_ordinary_data
from grok_lightning.options.parser import data_parser, model_parser
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
    wanted = {"data": _with_seeds(options["data"], seeds_of(options)), "model": options["model"]}
    typed = parse_values(parser, wanted)
    with float32_by_default():
        built = refusing(lambda: parser.instantiate(typed), also=(ArgumentError,))
    return built.model, built.data


def build_data(options: Nested, seeds: list[int]) -> SequenceDataModule:
    """Builds the data alone.

    Args:
        options: The resolved options of the data.
        seeds: One seed for each run.

    Raises:
        UserError: If an option has a value that the class refuses.
    """
    parser = data_parser()
    typed = parse_values(parser, {"data": _with_seeds(options, seeds)})
    data: SequenceDataModule = refusing(lambda: parser.instantiate(typed), also=(ArgumentError,)).data
    return data


def _with_seeds(data: Nested, seeds: list[int]) -> Nested:
    """The options of the DataModule with the runs' seeds; an ordinary one is wrapped, one for each run."""
    name = data["class_path"]
    if not is_ordinary_data(name):
        return {**data, "seeds": seeds}
    own = {key: value for key, value in data.items() if key != "class_path"}
    takes = signature(find_object("data", name)).parameters
    supplied = [key for key in ("seed", "seeds") if key in takes and own.get(key) is None]

    def fill(seed: int) -> Nested:
        filled = {key: [seed] if key == "seeds" else seed for key in supplied}
        return {"class_path": name, "init_args": own | filled}

    modules = [fill(seed) for seed in seeds]
    wrapped = {"modules": modules, "reference": fill(0), "seeds": seeds, "seeded": bool(supplied)}
    return {"class_path": "grok_lightning.data.ordinary._OrdinaryDataModule", **wrapped}
