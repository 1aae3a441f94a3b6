"""Base class of the measures, and the view of model and data that they take."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from grok_lightning.batch import NOTHING_TO_ANSWER
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import SequenceModel
from grok_lightning.models.base import count_runs, device_of
from grok_lightning.objective import LossName
from grok_lightning.training.evaluation import TablePass, table_pass


def answers_alone(tokens_RBT: Tensor, targets_RBA: Tensor) -> Tensor:
    """Targets of a loss on the answers and nothing else: (R, B, A)."""
    return targets_RBA


@dataclass(frozen=True)
class Objective:
    """What runs are trained on.

    Attributes:
        loss: Name of the loss.
        targets: Maps tokens (R, B, T) and answers (R, B, A) to the targets of the loss (R, B, L); -100 where none.
    """

    loss: LossName = "cross_entropy"
    targets: Callable[[Tensor, Tensor], Tensor] = answers_alone


class View:
    """A stack of models and its data at one moment; results that several measures need are computed once.

    Args:
        network: The stack, R runs.
        data: Its data, N rows.
        passed: The pass over all rows of an evaluation at this moment, with their logits; default: computed here.
        objective: What the runs are trained on; default: cross-entropy of the answers.
    """

    def __init__(
        self,
        network: SequenceModel,
        data: SequenceDataModule,
        passed: TablePass | None = None,
        objective: Objective | None = None,
    ) -> None:
        self.network, self.data, self.objective = network, data, objective or Objective()
        self._rows = data.rows()
        self._passed = passed

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return device_of(self.network)

    @property
    def runs(self) -> int:
        """R."""
        return count_runs(self.network)

    @cached_property
    def logits_RNAV(self) -> Tensor:
        """Logits of all rows' answers, without dropout: those of the evaluation, in its precision, if there was one."""
        passed = self._passed
        if passed is None or passed.logits_RNAV is None:
            table = self.data.table(self.device)
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                passed = table_pass(self.network, table, lambda _, targets: targets, keep_logits=True)
        assert passed.logits_RNAV is not None
        logits = passed.logits_RNAV
        return logits if logits.dtype == torch.float64 else logits.float()

    @cached_property
    def targets_RNA(self) -> Tensor:
        """The answer tokens that each run is trained and evaluated on, int64; -100 where there is none."""
        answers_XNA = torch.from_numpy(self._rows.answers_XNA).to(self.device)
        answers = answers_XNA.expand(self.runs, *answers_XNA.shape[1:])
        return answers.masked_fill(answers < 0, NOTHING_TO_ANSWER)

    def rows(self, split: str) -> list[Tensor]:
        """Row numbers of a split (train, val or test) in each run: R int64 tensors."""
        return [torch.from_numpy(getattr(part, split)).to(self.device) for part in self.data.splits]


class Measure(ABC):
    """A quantity computed from a stack of models and its data, on the evaluation schedule or afterwards.

    The keys are the same at every evaluation of a run: a value that does not exist is NaN.

    Every subclass takes ``every`` beside its own options, unless its constructor has an argument of that name: the
    steps from one computation in a fit to the next. ``class Hessian(Measure, every=2000)`` declares an expensive one.
    """

    _every = 1

    def __init_subclass__(cls, every: int | None = None, **others: Any) -> None:
        super().__init_subclass__(**others)
        _take_every(cls, every)

    @property
    def interval(self) -> int:
        """It is computed at the first evaluation at or after each multiple of so many steps; 1: at each."""
        return self._every

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        """Refuses models and data that it cannot be computed for; by default none.

        Raises:
            UserError: In one line, naming the measure and what it needs.
        """
        return

    @abstractmethod
    def __call__(self, view: View) -> dict[str, Tensor]:
        """The values by key, such as ``symmetry/mirrored_acc``: float64 tensors of shape (R,)."""


def _take_every(kind: type[Measure], every: int | None) -> None:
    """Has the constructor of a class take ``every`` too."""
    original: Any = kind.__init__
    own = signature(original)
    if original is object.__init__:
        own = own.replace(parameters=[next(iter(own.parameters.values()))])
    before = own.parameters.get("every")
    if before is not None and (every is None or not hasattr(original, "takes_every")):
        return  # an argument of its own, or inherited with the same default
    others = [each for each in own.parameters.values() if each is not before]
    last = others.pop() if others[-1].kind is Parameter.VAR_KEYWORD else None
    default = 1 if every is None else every
    added = Parameter("every", Parameter.KEYWORD_ONLY, default=default, annotation=int)

    @wraps(original)
    def construct(self: Measure, *args: Any, every: int = default, **options: Any) -> None:
        original(self, *args, **options)
        if every < 1:
            raise UserError(f"measures.{type(self).__name__}.every is {every}; it must be at least 1")
        self._every = every

    wrapped: Any = construct
    wrapped.__signature__ = own.replace(parameters=[*others, added, *([last] if last is not None else [])])
    wrapped.__annotations__ = getattr(original, "__annotations__", {}) | {"every": int}
    wrapped.__doc__ = f"""{original.__doc__ if "__init__" in vars(kind) and original.__doc__ else ""}

    Args:
        every: Steps from one computation to the next. In a fit it is computed at the first evaluation at or after each
            multiple of them; 1: at each evaluation.
    """
    wrapped.takes_every = True
    kind.__init__ = wrapped  # type: ignore[method-assign]


def require_matrices(measure: str, network: SequenceModel) -> None:
    """Checks that a network has an embedding and an unembedding.

    Raises:
        UserError: If it lacks one of them.
    """
    try:
        _ = network.embedding, network.unembedding
    except UserError as error:
        raise UserError(f"measures names {measure}, but {error}") from None
