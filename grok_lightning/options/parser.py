"""The parsers of the commands' options, and of data and model alone."""

from functools import cache
from typing import Literal

from jsonargparse import ActionConfigFile, ArgumentParser
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.callbacks.states import RunStates
from grok_lightning.hardware.products import FULL
from grok_lightning.measures.base import Measure
from grok_lightning.module import GrokModule
from grok_lightning.options.choices import AUTO
from grok_lightning.options.classes import Nested
from grok_lightning.options.commands import TRUST

BUDGET = 100_000
TRAINER_DEFAULTS: Nested = {
    "max_steps": BUDGET,
    "max_epochs": -1,
    "num_sanity_val_steps": -1,
    "check_val_every_n_epoch": None,
    "val_check_interval": 1,
    "enable_model_summary": False,
    "enable_checkpointing": True,
    "enable_autolog_hparams": False,
    "use_distributed_sampler": False,
    "precision": FULL,
    "logger": True,
    "devices": 1,
}
DATA = "data"  # the command that writes splits: it takes the options of a fit
MEASURED = ("fit", "validate")
LINKED = {  # options of the model that the data decide: model's name, data's name
    "vocabulary": "vocabulary_size",
    "length": "length",
    "answer_length": "answer_length",
    "seeds": "seeds",
    "padded": "padded",
    "classes": "classes",
}
METHOD_OPTIONS = ("weights_only", "verbose", "return_predictions")  # of Trainer.fit, validate, test and predict


@cache
def command_parser(command: str) -> LightningArgumentParser:
    """The parser of all options of ``fit``, ``validate``, ``test``, ``predict`` or ``data``."""
    method = getattr(Trainer, command, None)
    description = str(command_parser.__doc__ if method is None else method.__doc__).strip().splitlines()[0]
    parser = LightningArgumentParser(prog=f"grok-lightning {command}", description=description, exit_on_error=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="A YAML file, or the name of a shipped config.")
    parser.add_argument("--seed_everything", type=int, default=0, help="Seed of the run.")
    add_trainer(parser)
    _add_model_and_data(parser)
    parser.add_argument("--experiment", type=str, help="Name of the experiment; default: the config's.")
    parser.add_argument("--run", type=str, help="Name of the run; default: a new number.")
    for group, owner, skip in (
        ("evaluation", EvaluationSchedule, set[str | int]()),
        ("evaluation", RunStates, {"directories", "counts", "validated"}),
        ("checkpoint", Checkpoints, {"states", "directories", "configs", "stack"}),
    ):
        parser.add_class_arguments(owner, group, as_group=False, skip=skip)
    if command in (*MEASURED, DATA):
        parser.add_argument("--measures", type=list[Measure], default=[], help="Measures taken at each evaluation.")
    if command in ("fit", DATA):
        parser.add_argument("--init_from", type=str | None, help="Checkpoint whose weights a new run starts from.")
        parser.add_argument(
            "--init_parts", type=list[str] | str | None, help="Parts taken of it, by name; default: all."
        )
        parser.add_argument(
            "--threads",
            type=int | Literal["auto"],
            default=AUTO,
            help="CPU threads. auto: measured, as many as make a step faster.",
        )
        replaced = "files that are there" if command == DATA else "a run of the same name"
        parser.add_argument("--overwrite", type=bool, default=False, help=f"Replace {replaced}.")
    parser.add_argument("--trust", type=bool, default=False, help=TRUST)
    if command == "predict":
        parser.add_argument(
            "--split", type=Literal["train", "val", "test", "all"], default="all", help="Rows to predict."
        )
        parser.add_argument("--output", type=str, default="predictions.csv", help="CSV file to write.")
    if command == DATA:
        parser.add_argument("--output", type=str, default="splits", help="Folder to write train, val and test.csv to.")
    else:
        parser.add_method_arguments(Trainer, command, skip={*LightningCLI.subcommands()[command]})
    return parser


@cache
def model_parser() -> ArgumentParser:
    """The parser of the options of data and model."""
    parser = LightningArgumentParser(exit_on_error=False)
    _add_model_and_data(parser)
    return parser


@cache
def data_parser() -> ArgumentParser:
    """The parser of the options of the data alone."""
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    return parser


def add_trainer(parser: LightningArgumentParser) -> None:
    """Adds the Trainer's options, with the defaults of this workbench."""
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})


def _add_model_and_data(parser: LightningArgumentParser) -> None:
    """Adds the options of data and model, and tells the model what the data look like."""
    parser.add_lightning_class_args(GrokModule, "model")
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    for model, data in LINKED.items():
        parser.link_arguments(f"data.{data}", f"model.{model}", apply_on="instantiate")
