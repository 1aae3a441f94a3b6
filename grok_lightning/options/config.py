"""What a command does: one resolved config, the checkpoint that it begins with, and the records that it writes."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from grok_lightning.callbacks.loggers import Loggers, LoggerStates
from grok_lightning.errors import UserError
from grok_lightning.options.classes import Nested, lookup
from grok_lightning.options.trust import refuse_types, take_config
from grok_lightning.records.checkpoint import CONFIG_KEY, ROWS_KEY, load, unpack_evaluations
from grok_lightning.records.checkpoint_form import AVERAGED_KEY
from grok_lightning.records.defaults import complete_listed
from grok_lightning.records.record import Row


@dataclass(frozen=True)
class SavedRun:
    """The checkpoint that a command begins with.

    Attributes:
        path: Its file.
        step: The optimizer step at which it was saved.
        config: The options it was trained with, in the short form.
        weights: The module's state dict.
        trains: Whether it holds the state of the optimizer, so that training can continue.
        evaluations: Those of each run up to its step, oldest first; None in checkpoints of earlier versions.
        loggers: Where the run's loggers stood.
        rows: A hash of each run's rows, where options do not decide them.
        averaged: Whether the weights are averages, and training goes on from others that it holds too.
    """

    path: Path
    step: int
    config: Nested
    weights: dict[str, Tensor]
    trains: bool = True
    evaluations: list[list[Row]] | None = None
    loggers: LoggerStates = field(default_factory=LoggerStates)
    rows: list[str] | None = None
    averaged: bool = False

    @classmethod
    def read(
        cls, path: Path, root: Path = Path(), named: Collection[str] = (), trust: bool = False, single: bool = True
    ) -> "SavedRun":
        """Reads a checkpoint, whose classes are imported only if they may be: see ``take_config``.

        Args:
            path: Its file.
            root: The directory below which runs are.
            named: Names of classes that the user has given.
            trust: Whether all classes that it names are imported.
            single: Whether it must be of one run.

        Raises:
            UserError: If there is no whole checkpoint of ours, or its config is not taken.
        """
        loaded = load(path)
        if not loaded["state_dict"]:
            raise UserError(f"ckpt_path {str(path)!r} holds no run: weights are missing")
        try:
            config = complete_listed(take_config(path, loaded[CONFIG_KEY], root, named, trust))
            if single:
                refuse_types(config)
                layers = lookup(config, "model.network.layers")
                own = str(lookup(config, "model.network.class_path")).startswith("grok_lightning.")
                if own and isinstance(layers, int) and layers > len(loaded["state_dict"]):  # hours to build
                    raise UserError(f"model.network.layers is {layers}, but there are fewer weights")
        except UserError as error:
            raise UserError(f"ckpt_path {str(path)!r}: its config is not taken: {error}") from None
        seed = config["seed_everything"]  # of a stack, a list
        try:
            evaluations = unpack_evaluations(loaded, len(seed) if isinstance(seed, list) else 1)
        except ValueError as error:
            raise UserError(f"ckpt_path {str(path)!r}: {error}; use another checkpoint") from None
        trains = "optimizer_states" in loaded
        loggers = LoggerStates(loaded.get("callbacks", {}).get(Loggers.__name__))
        known = evaluations, loggers, loaded.get(ROWS_KEY), AVERAGED_KEY in loaded
        return cls(path, loaded["global_step"], config, loaded["state_dict"], trains, *known)


@dataclass(frozen=True)
class Config:
    """What a command does, resolved: nothing in it is left to be chosen or looked up.

    Attributes:
        command: fit, validate, test or predict.
        options: Every option with its type, in the short form, as records, checkpoints and config.yaml hold it. For a
            stack of several runs ``seed_everything`` is a list of their seeds.
        root: The directory below which runs are.
        saved: The checkpoint that is evaluated, or that training continues from.
        numbered: Whether the run has no name but the next number, which another process may take first. Not recorded.
        overwrite: Whether an existing run of that name is replaced. Applies to this invocation only; not recorded.
        trust: Whether classes that a checkpoint names are imported whatever they are. Likewise.
        method: Options of the Trainer's method, such as ``verbose``. Not recorded.
        notes: What ``auto`` was resolved to, a line each; of an evaluation, which checkpoint is the last.
        chosen: The same by option.
        typed: What was written for each option that was written in short or by another word. Not recorded.
    """

    command: str
    options: Nested
    root: Path = Path()
    saved: SavedRun | None = None
    overwrite: bool = False
    numbered: bool = False
    trust: bool = False
    method: Nested = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    chosen: Nested = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedRun:
    """A run whose record is written.

    Attributes:
        config: Its resolved options.
        hash: Of the options that change results.
        logs: The directory of its record.
        checkpoints: The directory of its checkpoints.
        counted: The options that the hash counts, dotted; None if they are not at hand.
    """

    config: Nested
    hash: str
    logs: Path
    checkpoints: Path
    counted: Nested | None = None


@dataclass(frozen=True)
class Records:
    """What is recorded of a fit, and where.

    Attributes:
        runs: The runs of the stack.
        stack: The directory of the whole stack's checkpoint and the config it holds; None for a single run.
        events: Whether the runs get TensorBoard events and a figure.
        close_up: Whether the stack is made smaller when half of its runs are over.
        fresh: Whether the fit claims and locks the directories itself; a sweep has done so for its runs.
    """

    runs: list[RecordedRun] = field(default_factory=list)
    stack: tuple[Path, Nested] | None = None
    events: bool = True
    close_up: bool = False
    fresh: bool = False
