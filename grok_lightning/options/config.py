"""What a command does: one resolved config, the checkpoint that it begins with, and the records that it writes."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from grok_lightning.errors import UserError
from grok_lightning.options.classes import Nested
from grok_lightning.options.merging import normalize
from grok_lightning.records.checkpoint import CONFIG_KEY, load, unpack_evaluations
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
    """

    path: Path
    step: int
    config: Nested
    weights: dict[str, Tensor]
    trains: bool = True
    evaluations: list[list[Row]] | None = None

    @classmethod
    def read(cls, path: Path) -> "SavedRun":
        """Reads a checkpoint.

        Raises:
            UserError: If there is no whole checkpoint of ours.
        """
        loaded = load(path)
        options = loaded[CONFIG_KEY] or {}
        if not loaded["state_dict"] or not {"data", "model", "trainer", "seed_everything"} <= options.keys():
            raise UserError(f"ckpt_path {str(path)!r} holds no run: weights or config are missing")
        seed = options["seed_everything"]  # of a stack, a list
        try:
            evaluations = unpack_evaluations(loaded, len(seed) if isinstance(seed, list) else 1)
        except ValueError as error:
            raise UserError(f"ckpt_path {str(path)!r}: {error}; use another checkpoint") from None
        return cls(
            path,
            int(loaded["global_step"]),
            normalize(options),
            loaded["state_dict"],
            "optimizer_states" in loaded,
            evaluations,
        )


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
        method: Options of the Trainer's method, such as ``verbose``. Not recorded.
        notes: What ``auto`` was resolved to, a line each.
        chosen: The same by option.
    """

    command: str
    options: Nested
    root: Path = Path()
    saved: SavedRun | None = None
    overwrite: bool = False
    numbered: bool = False
    method: Nested = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    chosen: Nested = field(default_factory=dict)


@dataclass(frozen=True)
class RecordedRun:
    """A run whose record is written.

    Attributes:
        config: Its resolved options.
        hash: Of the options that change results.
        logs: The directory of its record.
        checkpoints: The directory of its checkpoints.
    """

    config: Nested
    hash: str
    logs: Path
    checkpoints: Path


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
