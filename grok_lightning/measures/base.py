"""Base class of the measures, and the view of model and data that they take."""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from grok_lightning.batch import NOTHING_TO_ANSWER
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import SequenceModel
from grok_lightning.models.base import count_runs, device_of
from grok_lightning.training.evaluation import TablePass, table_pass


class View:
    """A stack of models and its data at one moment; results that several measures need are computed once.

    Args:
        network: The stack, R runs.
        data: Its data, N rows.
        passed: The pass over all rows of an evaluation at this moment, with their logits; default: computed here.
    """

    def __init__(self, network: SequenceModel, data: SequenceDataModule, passed: TablePass | None = None) -> None:
        self.network, self.data = network, data
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
    """

    def check(self, network: SequenceModel, data: SequenceDataModule) -> None:
        """Refuses models and data that it cannot be computed for; by default none.

        Raises:
            UserError: In one line, naming the measure and what it needs.
        """
        return

    @abstractmethod
    def __call__(self, view: View) -> dict[str, Tensor]:
        """The values by key, such as ``symmetry/mirrored_acc``: float64 tensors of shape (R,)."""


def require_matrices(measure: str, network: SequenceModel) -> None:
    """Checks that a network has an embedding and an unembedding.

    Raises:
        UserError: If it lacks one of them.
    """
    try:
        _ = network.embedding, network.unembedding
    except UserError as error:
        raise UserError(f"measures names {measure}, but {error}") from None
