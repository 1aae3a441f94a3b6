"""What data and models exchange: batches, shared beginnings, the randomness of a forward pass, and two constants."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

PADDING = -1  # in place of an input token where an equation is shorter than others
NOTHING_TO_ANSWER = -100  # a target that does not count


@dataclass(frozen=True)
class Beginnings:
    """Beginnings that many equations of a batch share, such as ``x op``.

    Attributes:
        tokens_PS: The first S tokens of each of P beginnings, int64.
        index_RB: The beginning of each equation, int64.
    """

    tokens_PS: Tensor
    index_RB: Tensor


@dataclass(frozen=True)
class Draw:
    """Seed of the randomness of one training forward pass.

    Attributes:
        step: The optimizer step, an int64 tensor without dimensions (a number would be compiled again at each step).
        first_row: Index in the whole batch of this process's first row.
    """

    step: Tensor
    first_row: int = 0


@dataclass(frozen=True)
class Batch:
    """Rows of a stack's runs.

    Attributes:
        tokens_RBT: Inputs, int64; ``PADDING`` where there is no token.
        targets_RBA: Answer tokens, int64; ``NOTHING_TO_ANSWER`` where there is none.
        rows_RB: Row numbers in the table, int64; -1 where a run of the stack has none.
        beginnings: The beginnings that the equations share, or None.
        split: Name of the split that the rows are from.
        step: The optimizer step whose batch this is; -1 outside training.
        first_row: Index in the whole batch of this process's first row.
        whole: Number of rows of the whole batch, over all processes; 0 outside training.
        recited: Whether ``predict`` gives each token after the right ones, as of strings, which share one prompt.
        following: Returns the batches of a number of steps, from a step on; None outside training and where several
            processes share a batch.
    """

    tokens_RBT: Tensor
    targets_RBA: Tensor
    rows_RB: Tensor
    beginnings: Beginnings | None
    split: str
    step: int = -1
    first_row: int = 0
    whole: int = 0
    recited: bool = False
    following: "Callable[[int, int], Iterator[Batch]] | None" = None
