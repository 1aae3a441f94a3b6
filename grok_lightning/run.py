"""A trained run in Python: its network, data, record and figures."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grok_lightning.build import build
from grok_lightning.callbacks.states import SUSTAIN
from grok_lightning.data import SequenceDataModule, TableDataModule
from grok_lightning.data.equations import read_elements, read_numbers
from grok_lightning.errors import UserError, show
from grok_lightning.models.continuing import continue_rows
from grok_lightning.models.hooks import Function, check_functions, check_replacement
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import Nested, suggestion
from grok_lightning.options.config import SavedRun
from grok_lightning.options.merging import complete, merge, normalize
from grok_lightning.options.parser import LINKED
from grok_lightning.options.trust import find_names
from grok_lightning.records.after_grok import describe_record, tabulate
from grok_lightning.records.checkpoint import GROK, LAST
from grok_lightning.records.record import (
    METRICS,
    RESULT,
    Row,
    flatten,
    milestones,
    read_metrics,
    read_result,
    run_directories,
)
from grok_lightning.records.runs import find_steps
from grok_lightning.records.tasks import task_title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from grok_lightning.forecast import Forecast
    from grok_lightning.inspection.inspection import Inspection

CURVES = "curves"
SHOWN = ("train/acc", "val/acc", "train/loss", "val/loss")


@dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
        module: The GrokModule, in eval mode on the CPU.
        data: Its DataModule.
        step: The optimizer step at which the weights were taken.
        config: The resolved options, in the short form.
        logs: The directory of its record, or None if there is none.
        path: The checkpoint's file.
    """

    module: GrokModule = field(repr=False)
    data: SequenceDataModule = field(repr=False)
    step: int
    config: Nested = field(repr=False)
    logs: Path | None = None
    path: Path | None = field(default=None, repr=False)

    @property
    def model(self) -> Any:
        """The network, a stack of one run: from tokens (1, B, T) to logits (1, B, A, V) at the last A positions.

        A is the second argument, by default 1. ``model.activations(tokens)`` gives everything in between, by name.
        """
        return self.module.network

    def plain(self) -> "nn.Module":
        """The network as an ordinary module, a copy: from tokens (B, T) to logits (B, A, V), weights without R.

        Where the network is an ordinary module of the user's, it is one of that class; its logits are as that gives
        them.
        """
        from grok_lightning.models.ordinary import ModuleStack
        from grok_lightning.models.plain import PlainNetwork

        if isinstance(self.module.network, ModuleStack):
            return self.module.network.plain().eval()
        return PlainNetwork(self.module.network, 0, self.data.answer_length).eval()

    def activations(self, equations: Any = None, /, **operands: Any) -> dict[str, Tensor]:
        """What every named part of the network computes for some equations, at all T positions of their prompts.

        Args:
            equations: Element numbers (N, K), such as rows of ``operands_NK``; or a prompt as for ``generate``, such as
                ``"91/7="``, or a list of prompts.
            operands: Instead of them, each operand by its name, as it is written: ``x=3, y=[1, 2, 3]``, of permutations
                ``x="(0 1 2)"``. Arrays may have any shapes that broadcast.

        Returns:
            By name, without R, a row for each equation: ``layers.0.attention.pattern`` (N, H, T, T), ``logits``
            (N, T, V). The names are those of ``hooks``.

        Raises:
            UserError: If something is no operand of this run.
        """
        found = self.model.activations(self._prompts(equations, operands))
        return {name: part[0] for name, part in found.items()}

    @torch.no_grad()
    def predict(self, equations: Any = None, /, **operands: Any) -> list[str]:
        """The most probable answer to each of some equations, as it is written.

        Args:
            equations, operands: As for ``activations``.
        """
        answers: list[str] = []
        for tokens_RBT in self._prompts(equations, operands).split(4096, dim=1):
            found, _ = continue_rows(self.model, tokens_RBT, self.data.length + 1 - tokens_RBT.shape[-1])
            answers += map(self.data.decode, found[0].tolist())
        return answers

    def hooks(self, functions: Mapping[str, Function]) -> AbstractContextManager[None]:
        """Within it, functions see what parts of the network compute, and may replace it.

        They act in ``model(tokens)``, in ``activations`` and ``predict``, in networks of ``plain()`` (not where that is
        a module of the user's own class, a copy), and under ``torch.func`` and autograd.

        Args:
            functions: For each name of ``activations`` a function of that tensor, without R and at all T positions. It
                returns a tensor of the same shape and type, which takes its place in all that comes after, or None. A
                tensor that is changed in place is taken as changed.

        Raises:
            UserError: If the network computes nothing of a name, or a function returns something else.

        Example:
            >>> def without_head_2(pattern):
            ...     pattern[:, 2] = 0
            >>> with run.hooks({"layers.0.attention.pattern": without_head_2}):  # doctest: +SKIP
            ...     run.predict(x=3, y=[1, 2, 3])
        """
        device = next(self.module.parameters()).device
        names = self.model.part_names(torch.zeros(1, 1, self.data.length, dtype=torch.int64, device=device))
        for name in functions:
            check_functions({name: functions[name]}, names, suggestion(str(name), names) or "; see run.activations")
        whole: AbstractContextManager[None] = self.model.hooks(
            {name: partial(_act_without_runs, name, function) for name, function in functions.items()}
        )
        return whole

    def trajectory(self) -> Iterator["Run"]:
        """This run at each step that was saved as ``step=N.ckpt``, one after the other, by step.

        Raises:
            UserError: If there is no record, or no such checkpoint.
        """
        root = self._logs().parents[2]
        directory = run_directories(root, self.config["experiment"], self.config["run"])[1]
        paths = find_steps(directory)
        if not paths:
            raise UserError(f"{str(directory)!r} has no step=N.ckpt; train with --checkpoint.interval, say")
        return (load_run(path, root=root, named=find_names(self.config)) for path in paths)

    def inspect(self, checkpoints: int = 5) -> "Inspection":
        """Looks inside: answers, logits, embeddings, neurons, attention, ablations and singular values, as one page.

        Args:
            checkpoints: The most steps that are looked at, where ``step=N.ckpt`` of this run lie beside its checkpoint:
                this one, the first, the last and others evenly between them; 1 to 12.

        Returns:
            What a notebook shows as a page with a slider over the steps; ``arrays`` has what is drawn, ``save(path)``
            writes the page.

        Raises:
            UserError: If ``checkpoints`` is out of range, or one of them cannot be loaded or is of another run.
        """
        from grok_lightning.inspection.gather import gather_moments
        from grok_lightning.inspection.inspection import Inspection
        from grok_lightning.inspection.moments import choose_moments, describe_network, make_subject

        paths = find_steps(self.path.parent) if self.path is not None else []
        chosen = choose_moments({int(path.stem.removeprefix("step=")): path for path in paths}, self.step, checkpoints)
        runs = (self if step == self.step else self._load_moment(chosen[step]) for step in sorted(chosen, reverse=True))
        several = len(chosen) > 1
        gathered = gather_moments(make_subject(run.model, run.data, run.step, several) for run in runs)
        saved = "" if self.path is None else f"Made from {self.path.name} by grok-lightning inspect."
        facts = [describe_network(self.config["model"]["network"], self.model)]
        return Inspection(gathered, self.title, facts, self.step, saved)

    def _load_moment(self, path: Path | None) -> "Run":
        assert path is not None
        root = Path() if self.logs is None else self.logs.parents[2]
        run = load_run(path, root=root, named=find_names(self.config))
        for part in ("data", "seed_everything"):
            if run.config[part] != self.config[part]:
                raise UserError(f"{str(path)!r} is of another run than the checkpoint beside it: its {part} differs")
        if run.config["model"]["network"] != self.config["model"]["network"]:
            raise UserError(f"{str(path)!r} is of another run than the checkpoint beside it: its model.network differs")
        return run

    @property
    def operands_NK(self) -> Any:
        """The operands of all rows of the table as element numbers, an int64 array of shape (N, K)."""
        return self._table().operation.operands_NK

    @property
    def results_N(self) -> Any:
        """The results of all rows as element numbers, an int64 array of shape (N,)."""
        return self._table().operation.results_N

    @property
    def metrics(self) -> "pd.DataFrame":
        """All evaluations, oldest first: one row for each, columns as in ``metrics.csv``."""
        import pandas as pd

        return pd.DataFrame(read_metrics(self._logs()))

    @property
    def result(self) -> dict[str, Any]:
        """``result.json``; empty while the run is not over."""
        path = self._logs() / RESULT
        return read_result(str(path)) if path.exists() else {}

    @property
    def memorize_step(self) -> int | None:
        """The first evaluated step at which training accuracy is at the threshold; None if it never was."""
        return self._milestones()["memorize_step"]

    @property
    def grok_step(self) -> int | None:
        """The first evaluated step at which validation accuracy is at the threshold; None if it never was."""
        return self._milestones()["grok_step"]

    @property
    def after_grok(self) -> dict[str, Any]:
        """What became of the run after it had memorized and grokked so far, as ``after_grok`` in ``result.json``."""
        counts = {split: self.data.counts(split)[0] for split in ("train", "val")}
        if not self.data.is_validated():
            counts["val"] = 0
        known = {f"counts.{split}": count for split, count in counts.items()}
        result = {name: self.result.get(name) for name in ("status", "steps")}
        record = {**result, **known, "threshold": self.config["evaluation"]["threshold"]}
        return describe_record(record, tabulate(self._rows()))

    @property
    def title(self) -> str:
        """Task, share of the table and seed."""
        return title(self.config, self.data.title)

    def figure(self, name: str = CURVES) -> "Figure":
        """Draws a figure, which a notebook shows.

        Args:
            name: ``curves`` (accuracy and loss against steps), or one of the task and the model, such as ``split``,
                ``predictions`` or ``embedding``.

        Raises:
            UserError: If there is no figure of that name for this run; those there are are listed.
        """
        from grok_lightning.callbacks.pictures import pictures
        from grok_lightning.figures.curves import draw_curves
        from grok_lightning.figures.saving import png

        if name == CURVES:
            figure = draw_curves(self._rows(), self._milestones(), self.title)
        else:
            found = pictures(self.module, self.data, 0, self.title, self.step)
            if name not in found:
                names = [CURVES, *found]
                raise UserError(f"figure is {show(name)}{suggestion(name, names)}")
            figure = found[name][1]
        vars(figure)["_repr_png_"] = partial(png, figure, 100)  # IPython's own display of figures needs pyplot
        return figure

    def forecast(self, step: float = inf) -> "Forecast | None":
        """When the run will grok, from what was recorded up to a step; default: up to its last evaluation.

        Returns:
            The forecast, with ``median``, ``interval`` (80 %) and ``by(step)``; None before the run memorized and once
            it grokked.
        """
        from grok_lightning.forecast import history_of_rows, shipped_forecaster

        counts = {split: self.data.counts(split)[0] for split in ("train", "val")}
        threshold, budget = self.config["evaluation"]["threshold"], int(self.config["trainer"]["max_steps"])
        return shipped_forecaster()(
            history_of_rows(
                flatten(self.config), self._rows(), counts, threshold, budget,
                validated=bool(self.data.held_counts()["val"]),
            ),
            step,
        )  # fmt: skip

    def _milestones(self) -> dict[str, int | None]:
        evaluation = self.config["evaluation"]
        counts = {split: self.data.counts(split)[0] for split in ("train", "val")}
        sustain = evaluation["stop_after"] or SUSTAIN
        return milestones(self._rows(), counts, evaluation["threshold"], sustain, self.data.is_validated())

    def _rows(self) -> list[Row]:
        """The evaluations, with the columns that figures and milestones are made of.

        Raises:
            UserError: One is missing.
        """
        rows = read_metrics(self._logs())
        missing = [name for name in SHOWN if any(name not in row for row in rows)]
        if missing:
            raise UserError(f"{str(self._logs() / METRICS)!r}: it has no column {missing[0]}")
        return rows

    def _logs(self) -> Path:
        if self.logs is None:
            raise UserError("there is no record: the checkpoint does not lie in checkpoints/EXPERIMENT/RUN")
        return self.logs

    def _prompts(self, equations: Any, operands: Mapping[str, Any]) -> Tensor:
        """The prompts of equations, tokens (1, N, T) on the network's device."""
        if (equations is None) == (not operands):
            raise UserError("give equations, or operands by name; one of the two, as in run.activations(x=3, y=[1, 2])")
        prompts = [equations] if isinstance(equations, str) else equations
        if isinstance(prompts, list | tuple) and prompts and all(isinstance(text, str) for text in prompts):
            encoded = [torch.from_numpy(self.data.encode(text)) for text in prompts]
            if len({len(tokens) for tokens in encoded}) > 1:
                raise UserError("the prompts differ in length; give those of one length at a time")
            tokens = torch.stack(encoded)[None]
        else:
            operation = self._table().operation
            read = read_elements(operation, operands) if operands else read_numbers(operation, equations)
            if not len(read):
                raise UserError("there is no equation; at least one is expected")
            tokens = self._table().tokens(read)
        return tokens.to(next(self.module.parameters()).device)

    def _table(self) -> TableDataModule:
        if not isinstance(self.data, TableDataModule):
            name = self.data.name or type(self.data).__name__
            raise UserError(
                f"a run of {name} has no table of operands and results; "
                f"its prompts are such as {show(self.data.example)}"
            )
        return self.data


def title(options: Nested, algebra: str | None = None) -> str:
    """A run in one line: its task, its share of the table and its seed.

    Args:
        options: The run's config.
        algebra: Title of the algebra or the data; None: from the config.
    """
    data = options["data"]
    share = f"α = {data['train_fraction']}" if data.get("train_fraction") is not None else ""
    share = f"{data['train_rows']} rows" if data.get("train_rows") is not None else share
    share = f"splits {data['splits']}" if data.get("splits") is not None else share
    known = [task_title(data, algebra), share, f"seed {options['seed_everything']}"]
    return ", ".join(part for part in known if part)


def load_run(path: str | Path, trust: bool = False, *, root: Path = Path(), named: Collection[str] = ()) -> Run:
    """Loads model, data and table of a run.

    Args:
        path: A checkpoint, or a directory of checkpoints (``grok.ckpt`` is taken, else ``last.ckpt``).
        trust: Whether classes that it names are imported whatever they are. Without it, only those of this package and
            torch.optim, and those of a run in its own place beside its own record.
        root: The directory below which runs are.
        named: Names of further classes that may be imported.

    Returns:
        The run.

    Raises:
        UserError: If there is no whole checkpoint of ours, or it names a class that is not imported.

    Example:
        >>> run = load_run("checkpoints/addition/0/grok.ckpt")  # doctest: +SKIP
        >>> tokens = run.data.tokens(run.operands_NK[:5])  # doctest: +SKIP
        >>> run.model.activations(tokens)["layers.0.attention.pattern"].shape  # doctest: +SKIP
        torch.Size([1, 5, 4, 4, 4])
    """
    path = _find_file(Path(path))
    return _build_run(path, SavedRun.read(path, root, named, trust))


def load_module(
    path: str | Path,
    map_location: str | torch.device | None = None,
    strict: bool = True,
    trust: bool = False,
    options: Nested | None = None,
) -> GrokModule:
    """Loads the module of a run; see ``GrokModule.load_from_checkpoint``.

    Args:
        path, trust: As for ``load_run``.
        map_location: Its device.
        strict: Whether the names of weights must agree.
        options: Options of the module in place of the checkpoint's.
    """
    if not isinstance(path, str | Path):
        raise UserError(f"checkpoint_path is a {type(path).__name__}; the path of a file is expected")
    known = [name for name in inspect.signature(GrokModule).parameters if name not in LINKED]
    for name in options or {}:
        if name not in known:
            raise UserError(f"{name} is no option of a module{suggestion(name, known)}")
    path = _find_file(Path(path))
    module = _build_run(path, SavedRun.read(path, trust=trust), options, strict).module
    try:
        return module.to(map_location) if map_location is not None else module
    except (TypeError, RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"map_location is {show(map_location)}; a device is expected ({reason})") from None


def _find_file(path: Path) -> Path:
    """A checkpoint, where a directory of checkpoints may be named."""
    return path if not path.is_dir() else path / GROK if (path / GROK).exists() else path / LAST


def _build_run(path: Path, saved: SavedRun, options: Nested | None = None, strict: bool = True) -> Run:
    config = complete(merge(saved.config, normalize({"model": options}))) if options else saved.config
    try:
        module, data = build(config)
        for name, own in module.state_dict(keep_vars=True).items():
            if name in saved.weights:  # buffers may have other types than weights
                own.data = own.data.to(saved.weights[name].dtype)
        module.load_state_dict(saved.weights, strict)
    except (UserError, RuntimeError, LookupError) as error:  # options of another version, or weights of other shapes
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"ckpt_path {str(path)!r}: its config cannot be built here: {reason}") from None
    return Run(module.eval(), data, saved.step, config, _logs_beside(path, saved.config), path)


def _act_without_runs(name: str, function: Callable[[Tensor], Any], value_R: Tensor) -> Tensor:
    """Applies a function to what a stack of one run computes."""
    value = value_R[0]
    new = function(value)
    if new is None:
        return value[None]  # what the function has seen, so that a gradient reaches it
    check_replacement(name, new, value)
    replaced: Tensor = new[None]
    return replaced


def _logs_beside(path: Path, config: Nested) -> Path | None:
    """The directory of a checkpoint's record, if it lies where a fit puts it."""
    names = config.get("experiment"), config.get("run")
    folder = path.absolute().parent
    if None in names or len(folder.parents) < 3:
        return None
    logs, checkpoints = run_directories(folder.parents[2], *map(str, names))
    return logs if checkpoints == folder and (logs / METRICS).exists() else None
