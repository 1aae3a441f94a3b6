"""A trained run in Python: its network, data, record and figures."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grok_lightning.build import build
from grok_lightning.callbacks.states import SUSTAIN
from grok_lightning.data import SequenceDataModule, TableDataModule
from grok_lightning.errors import UserError, show
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import Nested, suggestion
from grok_lightning.options.config import Config, SavedRun
from grok_lightning.options.trust import find_names
from grok_lightning.records.checkpoint import GROK, LAST
from grok_lightning.records.record import METRICS, RESULT, Row, milestones, read_metrics, read_result, run_directories
from grok_lightning.records.tasks import task_title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from grok_lightning.models.plain import PlainNetwork

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
    """

    module: GrokModule = field(repr=False)
    data: SequenceDataModule = field(repr=False)
    step: int
    config: Nested = field(repr=False)
    logs: Path | None = None

    @property
    def model(self) -> Any:
        """The network, a stack of one run: from tokens (1, B, T) to logits (1, B, A, V) at the last A positions.

        A is the second argument, by default 1. ``model.activations(tokens)`` gives everything in between, by name.
        """
        return self.module.network

    def plain(self) -> "PlainNetwork":
        """The network as an ordinary module, a copy: from tokens (B, T) to logits (B, A, V), weights without R."""
        from grok_lightning.models.plain import PlainNetwork

        return PlainNetwork(self.module.network, 0, self.data.answer_length).eval()

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
                raise UserError(f"figure is {show(name)}; expected: {', '.join(names)}{suggestion(name, names)}")
            figure = found[name][1]
        vars(figure)["_repr_png_"] = partial(png, figure, 100)  # IPython's own display of figures needs pyplot
        return figure

    def _milestones(self) -> dict[str, int | None]:
        evaluation = self.config["evaluation"]
        counts = {split: self.data.counts(split)[0] for split in ("train", "val")}
        return milestones(self._rows(), counts, evaluation["threshold"], evaluation["stop_after"] or SUSTAIN)

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

    def _table(self) -> TableDataModule:
        if not isinstance(self.data, TableDataModule):
            name = self.data.name or type(self.data).__name__
            raise UserError(f"a run of {name} has no table of operands and results")
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
    path = Path(path)
    if path.is_dir():
        path = path / GROK if (path / GROK).exists() else path / LAST
    saved = SavedRun.read(path, root, named, trust)
    try:
        module, data = build(saved.config)
        floats = [weight.dtype for weight in saved.weights.values() if weight.is_floating_point()]
        module.to(floats[0]).load_state_dict(saved.weights)
    except (UserError, RuntimeError, LookupError) as error:  # options of another version, or weights of other shapes
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"ckpt_path {str(path)!r}: its config cannot be built here: {reason}") from None
    return Run(module.eval(), data, saved.step, saved.config, _logs_beside(path, saved.config))


def _logs_beside(path: Path, config: Nested) -> Path | None:
    """The directory of a checkpoint's record, if it lies where a fit puts it."""
    names = config.get("experiment"), config.get("run")
    folder = path.absolute().parent
    if None in names or len(folder.parents) < 3:
        return None
    logs, checkpoints = run_directories(folder.parents[2], *map(str, names))
    return logs if checkpoints == folder and (logs / METRICS).exists() else None


def set_initial_weights(module: GrokModule, data: SequenceDataModule, config: Config) -> None:
    """Gives a module the precision of a config, and the weights of its checkpoint or of ``init_from``.

    Raises:
        UserError: If weights do not fit the module.
    """
    saved, init_from = config.saved, config.options.get("init_from")
    if config.options["trainer"]["precision"] == "64-true":
        module.double()  # Lightning loads a checkpoint before it converts: 64-bit weights would be rounded
    if saved is not None:
        own, theirs = (
            {name: (weight.shape, weight.is_floating_point()) for name, weight in weights.items()}
            for weights in (module.state_dict(), saved.weights)
        )
        if own != theirs:
            raise UserError(f"ckpt_path {str(saved.path)!r}: its weights are not those of its config's model")
        module.load_state_dict(saved.weights)  # of step 0 nothing more is needed than the weights
    elif init_from == "":
        raise UserError("--init_from is ''; a checkpoint file, or a directory of checkpoints, is expected")
    elif init_from is not None:
        _start_from(Path(init_from), module, data, config)


def _start_from(path: Path, module: GrokModule, data: SequenceDataModule, config: Config) -> None:
    """Gives a module the weights of another run, whose tokens must be the same ones.

    Args:
        path: The other run's checkpoint, or a directory of checkpoints.
        module: Whose network takes the weights.
        data: The data that it will be trained on.
        config: The new run's, whose own classes may be imported.

    Raises:
        UserError: If the vocabularies, the lengths or the weights do not fit; it says how they differ.
    """
    where = f"--init_from {str(path)!r}"
    try:
        other = load_run(path, config.trust, root=config.root, named=find_names(config.options))
    except UserError as error:
        raise UserError(str(error).replace("ckpt_path", "--init_from", 1)) from None
    if other.data.length != data.length:
        raise UserError(f"{where}: its equations have {other.data.length} input tokens, this run's have {data.length}")
    theirs, ours = _tokens(other.data), _tokens(data)
    if len(theirs) != len(ours):
        raise UserError(f"{where}: its vocabulary has {len(theirs)} tokens, this run's has {len(ours)}")
    different = next((place for place, token in enumerate(ours) if theirs[place] != token), None)
    if different is not None:
        raise UserError(
            f"{where}: token {different} of its vocabulary is {show(theirs[different])}, "
            f"of this run's {show(ours[different])}"
        )
    weights, wanted = other.model.state_dict(), module.network.state_dict()
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name, weight in wanted.items():
        if shapes.get(name) != tuple(weight.shape):
            found = f"has shape {shapes[name]}" if name in shapes else "is missing"
            raise UserError(f"{where}: its weight {show(name)} {found}, this run's has shape {tuple(weight.shape)}")
    surplus = sorted(shapes.keys() - wanted.keys())
    if surplus:
        raise UserError(f"{where}: it has a weight {show(surplus[0])}, which this run's model has not")
    module.network.load_state_dict(weights)


def _tokens(data: SequenceDataModule) -> list[str]:
    """The vocabulary; the operator's own token is the same, however a formula shows it."""
    operator = data.operator_place
    return ["operator" if place == operator else token for place, token in enumerate(data.vocabulary)]
