"""Interventions: what changes in a run's training at a step, or once it has memorized or grokked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from grok_lightning.errors import UserError, show
from grok_lightning.models.ordinary import ModuleStack
from grok_lightning.optim.base import StackOptimizer
from grok_lightning.training.norms import AT_MOST, WholeNorm, weight_norm
from grok_lightning.training.separate import RunOptimizers

Entry = Mapping[str, Any]
MOMENTS = ("memorized", "grokked")
ALL = "all"
FREE = 0.0  # a kept norm that stands for none
_OPTION = "model.interventions"
_KEYS = ("at", "set", "freeze", "weight_norm", "filters")
_OPTIMIZER = "model.optimizer."
_SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class Intervention:
    """What changes, and when.

    Attributes:
        at: The step before whose update it is made, or the moment: memorized or grokked.
        settings: New values of the optimizer's options, by their own names.
        frozen: Names of the parts that no longer change from then on; None where that stays as it is.
        norm: The norm of all weights: kept as it is then, free, or kept at a number; None where that stays as it is.
        capped: Whether that is its largest value.
        filters: Whether the gradient filters act; None where that stays as it is.
    """

    at: int | str
    settings: Mapping[str, float]
    frozen: tuple[str, ...] | None = None
    norm: str | float | None = None
    capped: bool = False
    filters: bool | None = None


def read_interventions(entries: Sequence[Entry] | None) -> list[Intervention]:
    """Reads and checks the option ``model.interventions``.

    Raises:
        UserError: If an entry is no intervention; it names the entry and what would do.
    """
    found = [_read(entry, f"{_OPTION}[{place}]") for place, entry in enumerate(entries or ())]
    return found


def _read(entry: Any, where: str) -> Intervention:
    if not isinstance(entry, Mapping):
        wanted = "a mapping such as {at: memorized, set: {lr: 0.0001}} is expected"
        raise UserError(f"{where} is {show(entry)}; {wanted}")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise UserError(f"{where} has the key {show(unknown[0])}; there are {', '.join(_KEYS)}")
    at = entry.get("at")
    if at not in MOMENTS and not (type(at) is int and at >= 0):
        raise UserError(f"{where}.at is {show(at)}; it must be a step from 0 on, {' or '.join(MOMENTS)}")
    if all(entry.get(key) in (None, {}) for key in _KEYS[1:]):
        raise UserError(f"{where} changes nothing; give it one of {', '.join(_KEYS[1:])}")
    return Intervention(
        at, _read_settings(entry.get("set"), where), _read_frozen(entry.get("freeze"), where),
        *_read_norm(entry.get("weight_norm"), where), _read_switch(entry.get("filters"), where),
    )  # fmt: skip


def _read_settings(settings: Any, where: str) -> dict[str, float]:
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise UserError(f"{where}.set is {show(settings)}; a mapping such as {{weight_decay: 0}} is expected")
    found = {}
    for option, value in settings.items():
        name = str(option).removeprefix("model.").removeprefix("optimizer.")
        if "." in name:
            raise UserError(f"{where}.set has {show(option)}; only options of model.optimizer can be set, such as lr")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < inf:
            raise UserError(f"{where}.set.{option} is {show(value)}; it must be a number of at least 0")
        found[name] = float(value)
    return found


def _read_frozen(parts: Any, where: str) -> tuple[str, ...] | None:
    if parts is None or (isinstance(parts, list) and all(isinstance(part, str) for part in parts)):
        return None if parts is None else tuple(parts)
    if not isinstance(parts, str):
        raise UserError(f"{where}.freeze is {show(parts)}; it must be a part such as embeddings, a list of them, or []")
    return (parts,)


def _read_norm(norm: Any, where: str) -> tuple[str | float | None, bool]:
    capped = isinstance(norm, Mapping) and set(norm) == {AT_MOST}
    value = norm[AT_MOST] if capped else norm
    if value == "keep" or (not capped and (value is None or value == "free")):
        return value, capped
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
        known = "keep, free or a number above 0, or {at_most: NUMBER} or {at_most: keep}"
        raise UserError(f"{where}.weight_norm is {show(norm)}; it must be {known}")
    return float(value), capped


def _read_switch(switch: Any, where: str) -> bool | None:
    if switch is None or isinstance(switch, bool):
        return switch
    if not isinstance(switch, str) or switch not in _SWITCH:
        raise UserError(f"{where}.filters is {show(switch)}; it must be on or off")
    return _SWITCH[switch]


class Interventions:
    """The interventions in a stack of runs: each is made in each run by itself, when that run is there.

    Args:
        entries: The option ``model.interventions``.
        network: The stack, R runs.
        runs: R.
        filters: Whether it has gradient filters.
        kept: Whether the norm of its weights is kept from the start.

    Attributes:
        steps: For each run, the steps at which its interventions were made; -1 for those that were not.
        norms: The norm that each run keeps from an intervention on, 0 for none; empty while there is none.
        filtered_R: Whether the filters act in each run, or None where they act in all.

    Raises:
        UserError: If an entry is no intervention, or does not fit the model.
    """

    def __init__(
        self, entries: Sequence[Entry] | None, network: nn.Module, runs: int, filters: bool = False, kept: bool = False
    ) -> None:
        self.list = read_interventions(entries)
        self.steps = [[-1] * len(self.list) for _ in range(runs)]
        self.norms: list[float] = []
        switches = [each.filters for each in self.list if each.filters is not None]
        self._filtered = [not (switches and switches[0])] * runs
        self._parts: list[tuple[str, ...]] = [()] * runs
        self._frozen: list[tuple[Tensor, Tensor]] = []  # a run's part of a parameter, and the values that it keeps
        self._network = network
        self._check(network, filters, kept)

    def __bool__(self) -> bool:
        return bool(self.list)

    @property
    def settings(self) -> set[str]:
        """Names of the optimizer's options that any of them sets."""
        return {name for each in self.list for name in each.settings}

    @property
    def keeps_norms(self) -> bool:
        """Whether any of them keeps or frees the norm of the weights."""
        return any(each.norm is not None for each in self.list)

    @property
    def filtered_R(self) -> Tensor | None:
        if all(self._filtered):
            return None
        return torch.tensor(self._filtered, device=next(self._network.parameters()).device)

    def next_step(self, step: int) -> float:
        """The first step after ``step`` before whose update one is to be made; infinity if there is none."""
        return min((each.at for each in self.list if isinstance(each.at, int) and each.at > step), default=inf)

    def find_due(self, run: int, step: int, reached: Sequence[str]) -> list[int]:
        """Finds those that are to be made now.

        Args:
            run: The run.
            step: The step whose update comes next.
            reached: What it has reached: memorized, grokked.
        """
        return [
            place
            for place, each in enumerate(self.list)
            if self.steps[run][place] < 0 and (each.at <= step if isinstance(each.at, int) else each.at in reached)
        ]

    def make(self, run: int, place: int, step: int, optimizer: Optimizer, whole: WholeNorm) -> None:
        """Makes one.

        Args:
            run: The run.
            place: Its place in the list.
            step: The step whose update comes next.
            optimizer: The optimizer of the stack.
            whole: The constraint on the norm of all weights, which has a norm for each run; changed in place.

        Raises:
            UserError: If the optimizer has no such option, or refuses the value.
        """
        each = self.list[place]
        self.steps[run][place] = step
        self._set(run, each, optimizer, whole)
        if each.norm is not None:
            current = weight_norm(self._network, trained=True)[run].item
            whole.norms[run] = FREE if each.norm == "free" else current() if isinstance(each.norm, str) else each.norm

    def restore(self, optimizer: Optimizer, whole: WholeNorm) -> None:
        """Makes again what had been made when a checkpoint was saved that has been loaded; it holds the norms."""
        for run, steps in enumerate(self.steps):
            for step, place in sorted(zip(steps, range(len(steps)), strict=True)):
                if step >= 0:
                    self._set(run, self.list[place], optimizer, whole, again=True)

    def _set(self, run: int, each: Intervention, optimizer: Optimizer, whole: WholeNorm, again: bool = False) -> None:
        """Sets what follows from the intervention alone."""
        for name, value in each.settings.items():
            set_hyperparameter(optimizer, run, name, value, again)
        if each.norm is not None:
            whole.capped[run] = each.capped
        if each.filters is not None:
            self._filtered[run] = each.filters
        if each.frozen is not None:
            self._parts[run] = each.frozen
            buffers = dict(self._network.named_buffers()) if isinstance(self._network, ModuleStack) else {}
            self._frozen = [
                (weight.detach()[own], weight.detach()[own].clone())
                for own, parts in enumerate(self._parts)
                for name, weight in [*self._network.named_parameters(), *buffers.items()]
                if _is_in(name, parts)
            ]

    @torch.no_grad()
    def hold_frozen(self) -> None:
        """Brings what is frozen back to its values, after an update: weights, and buffers such as running means."""
        if self._frozen:
            torch._foreach_copy_([part for part, _ in self._frozen], [values for _, values in self._frozen])

    def check_optimizer(self, optimizer: Optimizer) -> None:
        """Makes all settings in an optimizer that is not used afterwards.

        Raises:
            UserError: If it has no such option, or refuses a value.
        """
        for each in self.list:
            for name, value in each.settings.items():
                set_hyperparameter(optimizer, 0, name, value)

    def _check(self, network: nn.Module, filters: bool, kept: bool) -> None:
        names = [name for name, _ in network.named_parameters()]
        for place, each in enumerate(self.list):
            where = f"{_OPTION}[{place}]"
            for part in each.frozen or ():
                if not any(_is_in(name, (part,)) for name in names):
                    known = sorted({word for name in names for word in name.split(".")[:-1] if not word.isdigit()})
                    raise UserError(
                        f"{where}.freeze names {show(part)}, which is no part of this network; there are {ALL}, "
                        f"{', '.join(known[:12])}"
                    )
            if each.filters is not None and not filters:
                raise UserError(f"{where} switches the filters, but there are none; give model.filters")
        freezing = any(each.frozen for each in self.list)
        norms = [each.norm for each in self.list if each.norm not in (None, "free")]
        if freezing and (norms or kept):
            raise UserError(
                f"{_OPTION} freezes weights where the norm of all is kept (weight_norm), which rescales them; "
                "use one of the two"
            )


def set_hyperparameter(optimizer: Optimizer, run: int, name: str, value: float, again: bool = False) -> None:
    """Sets an option of a stack's optimizer for one run, maybe again: in the state of a run that is resumed.

    The schedule's factor still applies to learning rates.

    Raises:
        UserError: If the optimizer has no such number, or refuses the value.
    """
    if isinstance(optimizer, RunOptimizers):
        optimizer.set_hyperparameter(run, name, value, again)
    else:
        assert isinstance(optimizer, StackOptimizer)
        optimizer.set_hyperparameter(run, name, value)  # of which its state holds nothing


def _is_in(name: str, parts: Sequence[str]) -> bool:
    """Whether a parameter belongs to one of some parts: a word of its dotted name, several in a row, or all."""
    return any(part == ALL or f".{part}." in f".{name}." for part in parts)
