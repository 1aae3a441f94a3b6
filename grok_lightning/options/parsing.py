"""The command line as one resolved config: what GrokCLI is built from."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from grok_lightning.callbacks.checkpoints import Checkpoints
from grok_lightning.callbacks.detection import GrokDetection
from grok_lightning.callbacks.schedule import EvaluationSchedule
from grok_lightning.errors import UserError
from grok_lightning.files import refuse_unwritable
from grok_lightning.hardware.products import FULL, HALF
from grok_lightning.measures.base import Measure
from grok_lightning.module import GrokModule
from grok_lightning.options.arguments import given_options
from grok_lightning.options.choices import (
    AUTO,
    COMPILE,
    PRECISION,
    THREADS,
    choose_compile,
    choose_precision,
    choose_threads,
    compiles_unasked,
    is_auto,
    slowness_of_half,
)
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    LIST_OPTIONS,
    Nested,
    class_names,
    class_path,
    lookup,
    place_of,
)
from grok_lightning.options.linking import LINKED, link_task
from grok_lightning.options.merging import NO_VALUE, check_names, complete, expand, merge, normalize, plain
from grok_lightning.options.refusals import (
    refuse_at_once,
    refuse_changed_schedule,
    refuse_changes,
    refuse_float64_on_mps,
    refuse_spent_budget,
    refuse_trainer_options,
)
from grok_lightning.options.wording import in_one_line, refuse_null
from grok_lightning.records.checkpoint import CONFIG_KEY, load
from grok_lightning.records.defaults import frozen_defaults
from grok_lightning.records.record import flatten
from grok_lightning.records.runs import check_name, fresh_number, last_checkpoint

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
MEASURED = ("fit", "validate")
FLAGS = {"overwrite", "model.compile"}
RUN_FROM_PARENT = "GROK_LIGHTNING_RUN"
CHOSEN_BY_PARENT = "GROK_LIGHTNING_CHOSEN"  # what auto came to, for the other processes of a fit


class ResolvedOptions(LightningCLI):
    """Reads a command line: which class each option names, what a checkpoint says, what was given, what is refused.

    Args:
        arguments: The command line after the program's name.

    Raises:
        UserError: If what was asked for cannot be done; nothing has been written then.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.given: Nested = {}
        self.checkpoint: Path | None = None
        self.said: list[str] = []  # what auto came to, a line each, printed when the fit begins
        self.chosen: Nested = {}  # the same by option
        # only the parser that is needed: each costs a tenth of a second
        self.subcommands = {arguments[0]: LightningCLI.subcommands()[arguments[0]]}.copy  # type: ignore[method-assign]
        super().__init__(
            GrokModule,
            LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={name: {"exit_on_error": False} for name in self.subcommands()} | {"exit_on_error": False},
            args=arguments,
        )

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.add_argument("--experiment", type=str, help="Name; default: the config's, else `default`.")
        parser.add_argument("--run", type=str, help="Name; default: a fresh number.")
        for group, owner, skip in (
            ("evaluation", EvaluationSchedule, set()),
            ("evaluation", GrokDetection, {"directories", "schedule", "checkpoints"}),
            ("checkpoint", Checkpoints, {"directories", "configs", "stack"}),
        ):
            parser.add_class_arguments(owner, group, as_group=False, skip=skip)
        if subcommand in MEASURED:
            parser.add_argument("--measures", type=list[Measure], default=[], help="What to measure at evaluations.")
        if subcommand == "fit":
            parser.add_argument("--init_from", type=str | None, help="Checkpoint whose weights the run starts from.")
            parser.add_argument(
                "--threads",
                type=int | Literal["auto"],
                default=AUTO,
                help="CPU threads; auto: as many as pay, measured.",
            )
            parser.add_argument("--overwrite", type=bool, default=False, help="Replace the run if it exists.")
        if subcommand == "predict":
            parser.add_argument(
                "--split", type=Literal["train", "val", "test", "all"], default="all", help="Which rows."
            )
            parser.add_argument("--output", type=str, default="predictions.csv", help="The CSV file to write.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        link_task(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        subcommand, *rest = args
        if any(re.fullmatch(r"-h|--help|--[\w.]+\.help(=.*)?", argument) for argument in rest):
            self._help(parser, args)
        print_config = "--print_config" in rest
        rest = [argument for argument in rest if argument != "--print_config"]
        self.given, configs = given_options(rest, FLAGS)  # enough to find the checkpoint
        base = self._base(subcommand, configs)
        self.given, _ = given_options(rest, FLAGS, {**base})
        self._type(subcommand, base)
        self.overwrite = self.resolved.pop("overwrite", False)  # a permission for once, no part of the record
        if subcommand == "fit":
            self._choose()
        if print_config:
            print(yaml.safe_dump(self.resolved, sort_keys=False), end="")
            sys.exit(0)
        refuse_trainer_options(self.given.get("trainer") or {}, self.resolved["trainer"], subcommand)
        refuse_float64_on_mps(self.resolved)
        if self.checkpoint is not None:
            if self.given.get("overwrite") in (True, "true"):
                raise UserError("--overwrite is true, but --ckpt_path continues a run; give one of the two")
            refuse_changes(subcommand, self.checkpoint, self.checkpoint_config, flatten(self.resolved))
            if subcommand == "fit":
                refuse_changed_schedule(self.checkpoint, self.checkpoint_config, flatten(self.resolved))
                refuse_spent_budget(self.checkpoint, self.checkpoint_step, self.resolved["trainer"]["max_steps"])

    def _type(self, subcommand: str, base: Nested) -> None:
        """Lays the given options over others, checks names, nulls and types, and keeps all of them, resolved."""
        of_subcommand = self._subcommand_parsers[subcommand]
        known = {action.dest for action in of_subcommand._actions} - {"config", "help", "print_config"}
        known -= {f"model.{name}" for name in LINKED}
        known_leaves = {name for name in known if not any(other.startswith(f"{name}.") for other in known)}
        known_leaves |= {name for name in known if f"{name}.help" in known} | {n for n in known if n.endswith(".help")}
        check_names(merge(_skeleton(base), self.given), known_leaves)
        refuse_null(self.given, merge(_skeleton(base), self.given), of_subcommand)
        wanted = complete(merge(base, self.given))
        refuse_at_once(wanted)
        self.auto_precision = self._wants_auto_precision(wanted)
        if is_auto(wanted, PRECISION):
            wanted["trainer"]["precision"] = FULL if self.auto_precision else self.checkpoint_config[PRECISION]
        wanted = {key: value for key, value in wanted.items() if key != "ckpt_path" and self._is_known(subcommand, key)}
        self.config = self._typed(self.parser, subcommand, wanted)
        self.subcommand_name = subcommand
        self.resolved = self._resolved(self.config[subcommand])

    def _wants_auto_precision(self, wanted: Nested) -> bool:
        """Whether the precision is to be chosen; for a checkpoint, auto means the precision that it was trained in."""
        return self.checkpoint is None and is_auto(wanted, PRECISION)

    def _choose(self) -> None:
        """Puts what ``auto`` comes to into the resolved config, before anything is built."""
        chosen = json.loads(os.environ.get(CHOSEN_BY_PARENT, "{}"))
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        if self.auto_precision:
            if PRECISION not in chosen:
                if several:
                    raise UserError(
                        f"--{PRECISION} is {AUTO}; several processes need one to agree on: write {FULL} or {HALF}"
                    )
                precision = choose_precision(self.resolved)
                chosen[PRECISION] = precision.name
                self.said.append(f"precision: {precision}")
            self._set(PRECISION, chosen[PRECISION])
        elif lookup(self.given, PRECISION) == HALF and int(os.environ.get("LOCAL_RANK", "0")) == 0:
            slow = slowness_of_half(self.resolved)
            if slow is not None:
                print(f"grok-lightning: {slow}", file=sys.stderr)
        if is_auto(self.resolved, THREADS):
            threads, speed = choose_threads(self.resolved)
            self._set(THREADS, threads)
            if speed > 1:
                self.said.append(f"threads: {threads} (auto: {speed:.1f} times as fast as 1 here)")
        unasked = self.checkpoint is None and lookup(self.given, COMPILE) is None and compiles_unasked(self.resolved)
        if unasked or is_auto(self.resolved, COMPILE):
            steps = int(self.resolved["trainer"]["max_steps"]) - (self.checkpoint_step if self.checkpoint else 0)
            if COMPILE not in chosen:
                chosen[COMPILE] = not several and choose_compile(self.resolved, steps)
                self.said += ["compile: true (auto: it pays within the steps to come)"] if chosen[COMPILE] else []
            self._set(COMPILE, chosen[COMPILE])
        self.chosen = chosen

    def _set(self, option: str, value: Any) -> None:
        """Sets an option of the resolved config, and of what is built from it."""
        place, last = place_of(self.resolved, option)
        place[last] = value
        self.config[self.subcommand_name][option] = value

    def _is_known(self, subcommand: str, key: str) -> bool:
        """Whether a subcommand takes an option that a checkpoint's config may hold for another."""
        return not (key == "measures" and subcommand not in MEASURED) and not (
            key in ("init_from", THREADS) and subcommand != "fit"
        )

    def _help(self, parser: LightningArgumentParser, arguments: list[str]) -> None:
        """Prints the help asked for, whatever stands beside it, and ends the program."""
        place = next(i for i, argument in enumerate(arguments) if re.match(r"-h$|--help$|--[\w.]+\.help", argument))
        asked = arguments[place : place + (2 if arguments[place].endswith(".help") else 1)]
        option, _, name = arguments[place].removeprefix("--").partition(".help")
        name = name.removeprefix("=") or (asked[1] if len(asked) == 2 else "")
        if option in (*CLASS_OPTIONS, *LIST_OPTIONS):
            if not name:
                print(f"--{option}.help CLASS, where CLASS is one of: {', '.join(class_names(option))}")
                sys.exit(0)
            asked = [f"--{option}.help", class_path(option, name)]
        try:
            parser.parse_args([arguments[0], *asked])
        except (ArgumentError, ValueError) as error:
            raise UserError(f"{asked[0]}: {' '.join(str(error).split())[:200]}") from None
        sys.exit(0)

    def _base(self, subcommand: str, configs: list[Path]) -> Nested:
        """What the given options are laid over: the checkpoint's config where there is one, and the run's names."""
        trainer = self.given.get("trainer") or {}
        self.root = Path(str(trainer.get("default_root_dir") or "."))
        refuse_unwritable("trainer.default_root_dir", self.root)
        names = {key: str(self.given[key]) for key in ("experiment", "run") if self.given.get(key) is not None}
        for key, name in names.items():
            check_name(key, name)
        experiment = names.get("experiment", configs[-1].stem if configs else "default")
        path = self.given.get("ckpt_path")
        if path == NO_VALUE:
            raise UserError("--ckpt_path needs a value: a checkpoint file, or last")
        if path is None:
            if subcommand != "fit":
                raise UserError(f"{subcommand} needs --ckpt_path: a checkpoint file, or last")
            run = names.get("run") or os.environ.get(RUN_FROM_PARENT) or self._fresh_run(experiment)
            return {"experiment": experiment, "run": run}
        if str(path) == "last":
            path = last_checkpoint(self.root, experiment, names.get("run"))
        self.checkpoint = Path(str(path))
        loaded = load(self.checkpoint)
        if subcommand == "fit" and "optimizer_states" not in loaded:
            raise UserError(
                f"--ckpt_path {str(self.checkpoint)!r} holds weights only, from which no run can go on; "
                "start one from them with --init_from"
            )
        self.checkpoint_step = int(loaded["global_step"])
        self.saved_weights = loaded["state_dict"]
        config: Nested = normalize(loaded[CONFIG_KEY])
        self.checkpoint_config = flatten(config)
        if subcommand != "fit":  # a checkpoint is evaluated wherever one likes, on one device
            config["trainer"] = {"precision": config["trainer"]["precision"]}
        return {key: value for key, value in config.items() if key not in ("overwrite", "split", "output")}

    def _fresh_run(self, experiment: str) -> str:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("--run is not given; several processes need one name to agree on")
        return fresh_number(self.root, experiment)

    def _typed(self, parser: LightningArgumentParser, subcommand: str, wanted: Nested) -> Namespace:
        try:
            return parser.parse_object({"subcommand": subcommand, subcommand: expand(wanted)})
        except (ArgumentError, TypeError, ValueError, KeyError) as error:
            raise in_one_line(error, subcommand, wanted, self._subcommand_parsers[subcommand]) from None

    def _resolved(self, config: Namespace) -> Nested:
        """The config as written in records, checkpoints and config.yaml."""
        whole = plain(config.as_dict())
        for key in ("config", "ckpt_path", "weights_only", "verbose", "return_predictions", "dataloaders"):
            whole.pop(key, None)
        whole = normalize(whole)
        whole["data"].pop("seeds", None)
        for key in LINKED:
            whole["model"].pop(key, None)
        return whole

    def _defaults(self) -> Nested:
        """The config that the same classes would have had without any other option, by the defaults of hashes."""
        classes: Nested = {}
        for option in CLASS_OPTIONS:
            place, last = place_of(classes, option)
            place[last] = {"class_path": lookup(self.resolved, option)["class_path"]}
        subcommand = self.subcommand_name
        typed = self._typed(self.parser, subcommand, complete(classes))
        return frozen_defaults(self._resolved(typed[subcommand]))


class Resolver(ResolvedOptions):
    """Resolves the options of many fits with one parser; nothing is built.

    Args:
        precision: What ``trainer.precision`` is where nobody says or it is ``auto``; default: 32-true.
    """

    def __init__(self, precision: str = FULL) -> None:
        self.precision = precision
        super().__init__(["fit"])

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = Namespace(subcommand="fit")

    def _parse_ckpt_path(self) -> None:
        """Nothing: there is no checkpoint."""

    def _set_seed(self) -> None:
        """Nothing: nothing is run."""

    def instantiate_classes(self) -> None:
        """Nothing: that is for those who train."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""

    def _wants_auto_precision(self, wanted: Nested) -> bool:
        return lookup(wanted, PRECISION) in (None, AUTO)

    def resolve(self, given: Nested) -> tuple[Nested, Nested]:
        """The options of one fit.

        Args:
            given: Those that were given, in the short form.

        Returns:
            All of them, typed; and what they would be had only the classes been named. ``experiment`` and ``run`` are
            None unless given.

        Raises:
            UserError: If one does not exist or has the wrong type, or may not be chosen.
        """
        self.given = given
        self._type("fit", {})
        if self.auto_precision:
            self._set(PRECISION, self.precision)
        if is_auto(self.resolved, COMPILE):  # the sweep decides, when it knows how many runs there are
            self._set(COMPILE, False)
        for option in ("overwrite", THREADS):
            self.resolved.pop(option, None)
        refuse_trainer_options(given.get("trainer") or {}, self.resolved["trainer"], "fit")
        refuse_float64_on_mps(self.resolved)
        return self.resolved, self._defaults()


def _skeleton(base: Nested) -> Nested:
    """Only the classes of a config: enough to know which options exist."""
    found: Nested = {}
    for option in CLASS_OPTIONS:
        value = lookup(base, option)
        if value is not None:
            place, last = place_of(found, option)
            place[last] = {"class_path": value["class_path"]}
    return found
