"""Optimizers that know nothing of stacks: an instance for each run, over parameters of ordinary shapes."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from grok_lightning.errors import UserError
from grok_lightning.optim.base import StackOptimizer
from grok_lightning.optim.parts import part_of
from grok_lightning.randomness import derive_key

Named = list[tuple[str, Tensor]]
Build = Callable[[Iterable[Any]], Optimizer]

# torch's optimizers that treat each number by itself, so that a stack is to them as a run
ELEMENTWISE = (
    *(torch.optim.ASGD, torch.optim.Adadelta, torch.optim.Adagrad, torch.optim.Adam, torch.optim.AdamW),
    *(torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Rprop),
    torch.optim.SGD,
)
_OWN = frozenset(vars(torch.optim.SGD([torch.zeros(1)])))  # attributes that torch's base class has
_PLAIN = (bool, int, float, str, type(None))


def takes_stacks(kind: type) -> bool:
    """Whether a class of optimizers is given a whole stack: one of ours, or of torch's elementwise ones."""
    return issubclass(kind, StackOptimizer) or kind in ELEMENTWISE


def needs_closure(kind: type[Optimizer]) -> bool:
    """Whether a class of optimizers cannot take a step without evaluating the loss, maybe several times."""
    step = [*signature(kind.step).parameters.values()][1:]
    return bool(step) and step[0].default is Parameter.empty and step[0].kind is Parameter.POSITIONAL_OR_KEYWORD


def build_optimizer(
    build: Build,
    named: Named,
    seeds: Sequence[int],
    maps: Collection[str] = (),
    vectors: Collection[str] = (),
    hidden: Collection[str] | None = None,
    apart: bool = False,
) -> Optimizer:
    """The optimizer of a stack, whatever its class.

    Args:
        build: A class, or what builds it of parameters.
        named: Pairs (name, parameter) that lead with R.
        seeds: One seed for each run.
        maps, vectors, hidden: As for ``RunOptimizers``.
        apart: Whether each run needs numbers of its own.
    """
    kind = _class_of(build)
    if kind is None or (issubclass(kind, StackOptimizer) if apart else takes_stacks(kind)):
        try:
            optimizer = build(named)
        except (ValueError, RuntimeError, TypeError, AttributeError):
            if kind is not None:
                raise
        else:
            if isinstance(optimizer, StackOptimizer):
                optimizer.seeds = list(seeds)
                optimizer.hidden = set(hidden or ())
            if isinstance(optimizer, StackOptimizer) or (not apart and takes_stacks(type(optimizer))):
                return optimizer
    optimizer = RunOptimizers(build, named, seeds, maps, vectors, hidden)
    # of a class with the name of theirs, by which LearningRateMonitor and torch's messages call it
    optimizer.__class__ = type(optimizer.name, (RunOptimizers,), {})
    return optimizer


def note_losses(optimizer: Optimizer, losses: list[Tensor]) -> None:
    """Has an optimizer that gives each run its own loss read it from a list of all runs' losses, which grows."""
    if isinstance(optimizer, RunOptimizers):
        optimizer.losses = losses


def _class_of(build: Build) -> type | None:
    """The class that a callable builds, if it is one or a partial of one."""
    if isinstance(build, partial):  # jsonargparse's own has the class among its arguments
        return next((part for part in (*build.args, build.func) if isinstance(part, type)), None)
    return build if isinstance(build, type) else None


class RunOptimizers(Optimizer):
    """An optimizer for each run of a stack, as if each run were trained alone.

    Each has parameters of its own: copies of the run's weights without R, in their ordinary shapes, contiguous, whose
    new values are written back after a step. What is drawn from torch's global generator in a step is a function of the
    run's seed and the step. ``param_groups`` shows the settings of the first run's groups; what a scheduler or callback
    changes there reaches all runs.

    torch.optim.Muon takes matrices only: it gets the hidden ones, and torch.optim.AdamW the rest, with Muon's own
    learning rate and weight decay, in groups of their own.

    Args:
        build: Builds an optimizer of a list of parameters, or of pairs with their names where its first parameter is
            called ``named_...``, or is annotated as pairs only.
        named: Pairs (name, parameter) that lead with R.
        seeds: One seed for each run.
        maps: Names of matrices (in, out), which the optimizers get as torch has them: (out, in).
        vectors: Names of parameters (1, D), which they get as (D,).
        hidden: Names of the hidden matrices; default: those that their names tell.

    Attributes:
        losses: Set while a step is taken: the losses (R,) of each evaluation so far. None where they are not known.
    """

    losses: list[Tensor] | None = None

    def __init__(
        self,
        build: Build,
        named: Named,
        seeds: Sequence[int],
        maps: Collection[str] = (),
        vectors: Collection[str] = (),
        hidden: Collection[str] | None = None,
    ) -> None:
        self._names, self._weights = [name for name, _ in named], [weight for _, weight in named]
        self._maps, self._vectors = frozenset(maps), frozenset(vectors)
        self._seeds, self._taken = list(seeds), 0
        self._own = [[nn.Parameter(_contiguous(part)) for part in self._parts(self._weights, run)]
                     for run in range(len(self._weights[0]))]  # fmt: skip
        self._optimizers = [_build_for_run(build, self._names, own, hidden) for own in self._own]
        first = self._optimizers[0]
        super().__init__(self._shown_groups(), dict(first[0].defaults))
        self._settings: list[dict[str, Any]] = []
        self._scales = [[1.0] * len(self.param_groups) for _ in self._own]  # of learning rates that were set
        self._show()

    @property
    def name(self) -> str:
        """Name of the optimizers' class."""
        return type(self._optimizers[0][0]).__name__

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes a step of every run.

        Raises:
            UserError: If there are several runs, and an optimizer evaluates the loss again after it has moved weights;
                or if an optimizer differentiates the gradient or the loss itself, or divides by a learning rate of 0.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._spread()
        for run, optimizers in enumerate(self._optimizers):
            self._hand_out(run)
            with self._seeded(run):
                first, *others = optimizers
                evaluate = partial(self._evaluate, run, closure, loss)
                with self._refusing_graphs(), self._refusing_no_rate(optimizers):
                    first.step(*([evaluate] if _takes_closure(first) else []))
                for other in others:
                    other.step()
            self._take_back(run)
        self._show()
        self._taken += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """For each run the state of its optimizers, and their attributes that are plain data."""
        self._spread()
        runs = [
            [{"optimizer": one.state_dict(), "attributes": _attributes(one, own)} for one in optimizers]
            for optimizers, own in zip(self._optimizers, self._own, strict=True)
        ]
        shown = {"shown": [group.get("lr") for group in self.param_groups]} if self._has_set_rates() else {}
        return {"runs": runs, "taken": self._taken} | shown

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a state; of earlier versions, one run's in the shapes of the stack."""
        runs = state_dict.get("runs") or [[{"optimizer": self._without_runs(state_dict), "attributes": {}}]]
        for optimizers, own, states in zip(self._optimizers, self._own, runs, strict=True):
            for optimizer, state in zip(optimizers, states, strict=True):
                _restore(optimizer, own, state)
        self._taken = state_dict.get("taken", 0)
        self._show(state_dict.get("shown"))

    def set_hyperparameter(self, run: int, name: str, value: float, again: bool = False) -> None:
        """Sets a number in all groups of one run that have it; a rate still follows what a schedule makes of the first.

        Args:
            run: The run.
            name: The number's name in the groups.
            value: Its value.
            again: Whether it was set before the state was saved that has been loaded: the groups hold what has become
                of it, and all that is set is how a learning rate follows.

        Raises:
            UserError: If the groups have no such number, or it is the rate and was 0 at first.
        """
        self._spread()
        groups = list(zip(self._groups(run), self.param_groups, strict=True))
        known = [[key for key, kept in own.items() if type(kept) in (int, float)] for own, _ in groups]
        if not any(name in keys for keys in known):
            there = ", ".join(dict.fromkeys(key for keys in known for key in keys if key != "initial_lr"))
            raise UserError(f"model.interventions sets {name}, which is no number of {self.name}; there are {there}")
        for place, (own, shown) in enumerate(groups):
            if name not in known[place]:
                continue
            new = int(value) if type(own[name]) is int and value.is_integer() else value  # maybe a number of iterations
            if name == "lr":
                first = shown.get("initial_lr", shown["lr"])
                if not first:
                    raise UserError(
                        "model.interventions sets lr, but it is 0 at first; give a model.optimizer.lr above 0"
                    )
                self._scales[run][place] = value / first
                new = shown["lr"] * self._scales[run][place]
            if not again:
                own[name] = new
        self._show([group.get("lr") for group in self.param_groups])

    def _without_runs(self, state: dict[str, Any]) -> dict[str, Any]:
        places = {}
        for key, entry in state["state"].items():
            weight, own = (self._weights[key], self._own[0][key]) if isinstance(key, int) else (None, None)
            places[key] = entry if weight is None or own is None else {
                name: self._part(value, 0, self._names[key])
                if isinstance(value, Tensor) and value.shape == weight.shape else value
                for name, value in entry.items()
            }  # fmt: skip
        return state | {"state": places}

    def _part(self, stacked: Tensor, run: int, name: str) -> Tensor:
        """One run's part of a tensor in the stack's shape, in its ordinary shape."""
        part = stacked.detach()[run]
        return part.mT if name in self._maps else part[0] if name in self._vectors else part

    def _parts(self, stacked: Sequence[Tensor], run: int) -> list[Tensor]:
        return [self._part(tensor, run, name) for name, tensor in zip(self._names, stacked, strict=True)]

    def _hand_out(self, run: int) -> None:
        torch._foreach_copy_([own.data for own in self._own[run]], self._parts(self._weights, run))
        self._hand_out_gradients(run)

    def _hand_out_gradients(self, run: int) -> None:
        for own, weight, name in zip(self._own[run], self._weights, self._names, strict=True):
            own.grad = None if weight.grad is None else _contiguous(self._part(weight.grad, run, name))

    def _take_back(self, run: int) -> None:
        torch._foreach_copy_(self._parts(self._weights, run), [own.data for own in self._own[run]])

    def _evaluate(self, run: int, closure: Callable[[], Any] | None, loss: Any) -> Any:
        """A run's loss and gradients for its optimizer: those that are known, unless it has moved its weights."""
        pairs = zip(self._own[run], self._parts(self._weights, run), strict=True)
        if closure is not None and not all(bool(((own == part) | own.isnan()).all()) for own, part in pairs):
            if len(self._optimizers) > 1:
                raise UserError(
                    f"model.optimizer {self.name} evaluates the loss several times in a "
                    "step, which only runs that are trained alone can; use --stack_size 1"
                )
            self._take_back(run)
            with torch.enable_grad():
                loss = closure()
        self._hand_out_gradients(run)
        return self.losses[-1][run] if self.losses else loss

    @contextmanager
    def _refusing_graphs(self) -> Iterator[None]:
        """Refuses what asks for a graph, which neither gradients nor losses have: they are copies of a stack's."""
        try:
            yield
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise UserError(
                f"model.optimizer {self.name} differentiates the gradient or the loss itself (create_graph, backward), "
                "which optimizers cannot do here; choose one that takes the gradient as it is"
            ) from error

    @contextmanager
    def _refusing_no_rate(self, optimizers: list[Optimizer]) -> Iterator[None]:
        """Says what an optimizer that divides by its learning rate does not stand."""
        try:
            yield
        except ZeroDivisionError as error:
            if all(group.get("lr") for optimizer in optimizers for group in optimizer.param_groups):
                raise
            raise UserError(
                f"model.optimizer {self.name} divides by its learning rate, which is 0 at this step; "
                "model.warmup 0 and a scheduler that does not reach 0 would do"
            ) from error

    @contextmanager
    def _seeded(self, run: int) -> Iterator[None]:
        """Leaves torch's global generators as they were, and seeds them for a run's step."""
        device = self._weights[0].device
        generators = [torch.default_generator]
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index or 0])
        before = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(derive_key(self._seeds[run], "optimizer", self._taken))
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)

    def _groups(self, run: int) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers[run] for group in optimizer.param_groups]

    def _shown_groups(self) -> list[dict[str, Any]]:
        weights = {id(own): weight for own, weight in zip(self._own[0], self._weights, strict=True)}
        return [
            {key: value for key, value in group.items() if key != "param_names"}
            | {"params": [weights[id(own)] for own in group["params"]]}
            for group in self._groups(0)
        ]

    def _has_set_rates(self) -> bool:
        return any(scale != 1 for scales in self._scales for scale in scales)

    def _spread(self) -> None:
        """Gives all runs the settings that have been changed in the groups that are shown."""
        for place, (group, before) in enumerate(zip(self.param_groups, self._settings, strict=True)):
            changed = {key: group[key] for key, value in before.items() if group[key] is not value}
            for run in range(len(self._optimizers)):
                own, scale = self._groups(run)[place], self._scales[run][place]
                own.update({key: value for key, value in changed.items() if key in own})
                if "lr" in changed and scale != 1:
                    own["lr"] = changed["lr"] * scale
            before.update(changed)

    def _show(self, rates: list[Any] | None = None) -> None:
        """Shows the settings of the first run's groups; learning rates, where some were set, as without that."""
        if rates is None and self._has_set_rates():
            rates = [group.get("lr") for group in self.param_groups]
        for place, (group, own) in enumerate(zip(self.param_groups, self._groups(0), strict=True)):
            group.update({key: value for key, value in own.items() if key not in ("params", "param_names")})
            if rates is not None and "lr" in group:
                group["lr"] = rates[place]
        self._settings = [
            {key: value for key, value in group.items() if key != "params"} for group in self.param_groups
        ]


def _contiguous(part: Tensor) -> Tensor:
    return part.clone(memory_format=torch.contiguous_format)


def _build_for_run(
    build: Build, names: list[str], own: list[nn.Parameter], hidden: Collection[str] | None
) -> list[Optimizer]:
    kind = _class_of(build)
    pairs = list(zip(names, own, strict=True))
    if kind is None or not issubclass(kind, torch.optim.Muon):
        return [build(pairs if kind is not None and _wants_names(kind) else own)]
    matrices = {name for name, one in pairs if part_of(name, one.shape) == "matrix"} if hidden is None else hidden
    muon = build([one for name, one in pairs if name in matrices])
    shared = {name: muon.defaults[name] for name in ("lr", "weight_decay")}
    others = [one for name, one in pairs if name not in matrices]
    return [muon, torch.optim.AdamW(others, **shared)] if others else [muon]


def _wants_names(kind: type) -> bool:
    """Whether a class's first parameter is called ``named_...``, or annotated as pairs of name and parameter only."""
    first = next(iter(signature(kind).parameters.values()), None)
    if first is None:
        return False
    hint = str(first.annotation).lower()
    return first.name.startswith("named") or ("tuple[str" in hint and "|" not in hint and "union" not in hint)


def _takes_closure(optimizer: Optimizer) -> bool:
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)
    return any(one.kind in kinds for one in signature(optimizer.step).parameters.values())


def _attributes(optimizer: Optimizer, own: list[nn.Parameter]) -> dict[str, Any]:
    """What an optimizer keeps beside torch's state: those of its attributes that are plain data."""
    storages = {one.untyped_storage().data_ptr() for one in own}
    found = {name: value for name, value in vars(optimizer).items() if name not in _OWN}
    return {name: value for name, value in found.items() if _is_plain(value, storages)}


def _is_plain(value: Any, storages: Collection[int]) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and _is_plain(inner, storages) for key, inner in value.items())
    if type(value) in (list, tuple):
        return all(_is_plain(inner, storages) for inner in value)
    if isinstance(value, Tensor):
        return not isinstance(value, nn.Parameter) and value.untyped_storage().data_ptr() not in storages
    return type(value) in _PLAIN


def _restore(optimizer: Optimizer, own: list[nn.Parameter], state: dict[str, Any]) -> None:
    saved = state["optimizer"]
    optimizer.load_state_dict(saved)
    if type(optimizer).load_state_dict is Optimizer.load_state_dict:  # which gives all tensors the parameters' type
        places = {
            one: place for place, one in enumerate(one for group in optimizer.param_groups for one in group["params"])
        }
        for key, entry in optimizer.state.items():
            place = places.get(key, key)
            optimizer.state[key] = _exactly(entry, saved["state"].get(place, entry))
    device = own[0].device
    for name, value in state["attributes"].items():
        if not hasattr(type(optimizer), name) and name not in _OWN:
            setattr(optimizer, name, _moved(value, device))


def _exactly(loaded: Any, saved: Any) -> Any:
    """A saved value with tensors of their own type, on the devices that torch has put them."""
    if isinstance(saved, Tensor) and isinstance(loaded, Tensor):
        return saved.detach().to(loaded.device, copy=True)
    if isinstance(saved, dict) and isinstance(loaded, dict):
        return {key: _exactly(loaded.get(key), value) for key, value in saved.items()}
    if type(saved) in (list, tuple) and type(loaded) is type(saved):
        return type(saved)(_exactly(*pair) for pair in zip(loaded, saved, strict=True))
    return saved


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, copy=True)
    if isinstance(value, dict):
        return {key: _moved(inner, device) for key, inner in value.items()}
    return type(value)(_moved(inner, device) for inner in value) if type(value) in (list, tuple) else value
