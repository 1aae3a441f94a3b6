"""Answer noise: random answers in training rows."""

from fractions import Fraction
from typing import Literal

import numpy as np
import torch

from grok_lightning.data.algebra import Column
from grok_lightning.errors import UserError
from grok_lightning.randomness import derive_keys, hashed

NoiseKind = Literal["copied", "uniform"]


def count_noisy_rows(amount: int | float, train_rows: int) -> int:
    """Number of training rows with noise: a count as given, a fraction of ``train_rows`` floored in exact arithmetic.

    Raises:
        UserError: If the amount is out of range, or a fraction of less than one row.
    """
    if isinstance(amount, int) or amount == 0:
        if not 0 <= amount <= train_rows:
            raise UserError(f"data.answer_noise is {amount}; as a count of training rows it can be 0 to {train_rows}")
        return int(amount)
    if not 0 < amount < 1:
        raise UserError(
            f"data.answer_noise is {amount}; a fraction of the training rows lies between 0 and 1, both excluded; "
            "a count of them is written without a point"
        )
    count = int(Fraction(repr(float(amount))) * train_rows)
    if count == 0:
        raise UserError(f"data.answer_noise is {amount}, less than one of the {train_rows} training rows")
    return count


def add_answer_noise(results_N: Column, train: Column, seed: int, amount: int | float, kind: NoiseKind) -> Column:
    """A table's answers with noise: those of the first training rows are drawn at random.

    Kind ``copied`` is the ``_noisy_k`` of the original paper's code, except that its shuffle has one seed for all runs.

    Args:
        results_N: The true answers, shape (N,).
        train: The training rows in the split's shuffled order.
        seed: The split's seed.
        amount: Number of training rows, from the first on: a count, or a fraction of them.
        kind: ``copied`` copies the answers of rows of the table drawn with replacement; ``uniform`` draws among the
            different answers that occur in the table, each as likely. Either leaves some answers right by chance.

    Returns:
        Answers of shape (N,), those of all other rows the true ones.

    Raises:
        UserError: If the amount is out of range.
    """
    count = count_noisy_rows(amount, len(train))
    source = results_N if kind == "copied" else np.unique(results_N)
    draws = hashed(derive_keys([seed], "answer_noise"), torch.arange(count)).numpy()
    noisy = results_N.copy()
    noisy[train[:count]] = source[(draws * len(source)) >> 32]
    return noisy
