"""A trained run loaded back into Python, and a run that starts from another one's weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

from grok_lightning.data import SequenceDataModule, TableDataModule
from grok_lightning.errors import UserError, user_error_in
from grok_lightning.module import GrokModule
from grok_lightning.options.classes import Nested
from grok_lightning.options.linking import link_task
from grok_lightning.options.merging import expand
from grok_lightning.records.checkpoint import CONFIG_KEY, GROK, LAST, load


@dataclass(frozen=True)
class Run:
    """A trained run, ready to be looked into.

    Attributes:
        model: The network, a stack of one, in eval mode on the CPU.
        module: The GrokModule around it.
        data: Its DataModule.
        operands_NK, results_N: The table as element numbers, int64 arrays.
        step: The optimizer step that the checkpoint stands at.
        config: The resolved config.
    """

    module: GrokModule
    data: SequenceDataModule
    step: int
    config: Nested

    @property
    def model(self) -> Any:
        return self.module.network

    @property
    def operands_NK(self) -> Any:
        return self._table().operation.operands_NK

    @property
    def results_N(self) -> Any:
        return self._table().operation.results_N

    def _table(self) -> TableDataModule:
        if not isinstance(self.data, TableDataModule):
            raise UserError(f"a run of {type(self.data).__name__} has no table of operands and results")
        return self.data


def load_run(path: str | Path) -> Run:
    """Loads model, data and table of a run.

    Args:
        path: A checkpoint, or a directory of checkpoints (``grok.ckpt`` is taken, else ``last.ckpt``).

    Returns:
        The run.

    Raises:
        UserError: If there is no whole checkpoint of ours.

    Example:
        >>> run = load_run("checkpoints/addition/0/grok.ckpt")  # doctest: +SKIP
        >>> tokens = run.data.tokens(run.operands_NK[:5])  # doctest: +SKIP
        >>> run.model.activations(tokens)["layers.0.attention.pattern"].shape  # doctest: +SKIP
        torch.Size([1, 5, 4, 4, 4])
    """
    path = Path(path)
    if path.is_dir():
        path = path / GROK if (path / GROK).exists() else path / LAST
    checkpoint = load(path)
    config, weights = checkpoint[CONFIG_KEY], checkpoint["state_dict"]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--seed_everything", type=int)
    parser.add_subclass_arguments(LightningDataModule, "data")
    parser.add_class_arguments(GrokModule, "model")
    link_task(parser)
    try:
        wanted = expand({key: config[key] for key in ("seed_everything", "data", "model")})
        built = parser.instantiate(parser.parse_object(wanted))
        module = built.model.to(next(iter(weights.values())).dtype)
        module.load_state_dict(weights)
    except Exception as error:
        reason = user_error_in(error) or " ".join(str(error).split())[:200]
        raise UserError(f"ckpt_path {str(path)!r}: its config cannot be built here: {reason}") from None
    return Run(module.eval(), built.data, int(checkpoint["global_step"]), config)


def start_from(path: Path, module: GrokModule, data: SequenceDataModule) -> None:
    """Gives a module the weights of another run, whose tokens must be the same ones.

    Args:
        path: The other run's checkpoint, or a directory of checkpoints.
        module: Whose network takes the weights.
        data: The data that it will be trained on.

    Raises:
        UserError: If the vocabularies, the lengths or the weights do not fit; it says how they differ.
    """
    where = f"--init_from {str(path)!r}"
    try:
        other = load_run(path)
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
            f"{where}: token {different} of its vocabulary is {theirs[different]!r}, of this run's {ours[different]!r}"
        )
    weights, wanted = other.model.state_dict(), module.network.state_dict()
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name, weight in wanted.items():
        if shapes.get(name) != tuple(weight.shape):
            found = f"has shape {shapes[name]}" if name in shapes else "is missing"
            raise UserError(f"{where}: its weight {name!r} {found}, this run's has shape {tuple(weight.shape)}")
    surplus = sorted(shapes.keys() - wanted.keys())
    if surplus:
        raise UserError(f"{where}: it has a weight {surplus[0]!r}, which this run's model has not")
    module.network.load_state_dict(weights)


def _tokens(data: SequenceDataModule) -> list[str]:
    """The vocabulary; the operator's own token is the same, however a formula shows it."""
    operator = data.operator_place
    return ["operator" if place == operator else token for place, token in enumerate(data.vocabulary)]
