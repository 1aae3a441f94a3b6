"""Splits of a table into training, validation and test rows."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from grok_lightning.data.algebra import Column
from grok_lightning.data.operation import Operation
from grok_lightning.errors import UserError
from grok_lightning.randomness import derive_keys, permutations

Pairing = Literal["free", "together", "half"]


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, shuffled, disjoint; together they are all rows that take part.

    Attributes:
        train, val, test: Row numbers, each of shape (rows of that part,).
        commutative_fraction: |{(x, y) in train : (y, x) in val}| / |train|; None unless there are two operands.
    """

    train: Column
    val: Column
    test: Column
    commutative_fraction: float | None


def _exact(value: float) -> Fraction:
    return Fraction(repr(float(value)))  # 0.7 means seven tenths, not the nearest binary number


def count_split_rows(
    rows: int, train_fraction: float, val_fraction: float | None, train_rows: int | None = None
) -> tuple[int, int, int]:
    """Number of training, validation and test rows: fractions of ``rows``, floored in exact arithmetic.

    Validation takes all the rest if ``val_fraction`` is None or the two fractions add up to exactly 1; otherwise what
    remains is test. ``train_rows``, where given, stands in place of the training fraction.

    Raises:
        UserError: If an option is out of range or leaves the training or validation split empty.
    """
    for name, value in (("train_fraction", train_fraction), ("val_fraction", val_fraction)):
        if value is not None and not 0 < value < 1:
            raise UserError(f"data.{name} is {value}; it must lie between 0 and 1, both excluded")
    if train_rows is None:
        train = int(_exact(train_fraction) * rows)
        total = Fraction(1) if val_fraction is None else _exact(train_fraction) + _exact(val_fraction)
        if total > 1:
            raise UserError(
                f"data.val_fraction is {val_fraction}; with data.train_fraction {train_fraction} "
                f"it can be at most {float(1 - _exact(train_fraction)):g}"
            )
    else:
        train, total = train_rows, Fraction(0)
    val = rows - train if val_fraction is None or total == 1 else int(_exact(val_fraction) * rows)
    most = rows - 1 if val_fraction is None else rows - max(val, 1)
    if train_rows is not None and not 1 <= train_rows <= most:
        beside = "" if val_fraction is None else f" and data.val_fraction {val_fraction}"
        raise UserError(f"data.train_rows is {train_rows}; with {rows} rows in the table{beside} it can be 1 to {most}")
    for name, value, count in (("train_fraction", train_fraction, train), ("val_fraction", val_fraction, val)):
        if count == 0:
            raise UserError(f"data.{name} is {value}, which leaves that split empty ({rows} rows in the table)")
    return train, val, rows - train - val


def split_table(
    operation: Operation,
    seed: int,
    train_fraction: float,
    val_fraction: float | None = None,
    pairing: Pairing = "free",
    commutative_fraction: float | None = None,
    train_rows: int | None = None,
) -> Split:
    """Splits the rows of a table into training, validation and test.

    Args:
        operation: The table.
        seed: The split's seed.
        train_fraction: Share of the rows that train.
        val_fraction: Share that validates; None for all the rest.
        pairing: ``free`` splits single rows; ``together`` keeps mirrored rows in one part; ``half`` keeps only the rows
            with x >= y (by element number) and takes fractions of those.
        commutative_fraction: The wanted share of training rows whose mirror is in validation, reached by separating
            that many pairs and keeping all others together; only with ``free``.
        train_rows: Number of training rows, in place of ``train_fraction``.

    Returns:
        The split; the commutative fraction it reached is measured on it.

    Raises:
        UserError: If the options contradict each other, or no such split exists.
    """
    mirrors_N = operation.mirrors_N if operation.formula.arity == 2 else None
    _check_pairing(pairing, commutative_fraction, mirrors_N is not None)
    shuffled = permutations(derive_keys([seed], "split"), len(operation))[0].numpy()
    if pairing == "half":
        operands = operation.operands_NK[shuffled]
        shuffled = shuffled[operands[:, 0] >= operands[:, 1]]
    counts = count_split_rows(len(shuffled), train_fraction, val_fraction, train_rows)
    if mirrors_N is None or (pairing != "together" and commutative_fraction is None):
        ends = np.cumsum(counts)
        parts = [shuffled[: ends[0]], shuffled[ends[0] : ends[1]], shuffled[ends[1] :]]
    else:
        parts = _deal_pairs(shuffled, mirrors_N, counts, commutative_fraction or 0.0)
    reached = None if mirrors_N is None else measure_commutative_fraction(parts[0], parts[1], mirrors_N)
    train, val, test = parts
    return Split(train, val, test, reached)


def _check_pairing(pairing: Pairing, commutative_fraction: float | None, has_mirrors: bool) -> None:
    if not has_mirrors and (pairing != "free" or commutative_fraction is not None):
        name, value = ("pairing", pairing) if pairing != "free" else ("commutative_fraction", commutative_fraction)
        raise UserError(f"data.{name} is {value}; mirrored pairs need a formula of two operands")
    if pairing != "free" and commutative_fraction is not None:
        raise UserError(
            f"data.commutative_fraction is {commutative_fraction} with data.pairing {pairing}; it needs pairing free"
        )


def measure_commutative_fraction(train: Column, val: Column, mirrors_N: Column) -> float:
    """|{(x, y) in train : (y, x) in val}| / |train|."""
    in_val = np.zeros(len(mirrors_N) + 1, dtype=bool)  # the last place answers for mirror -1
    in_val[val] = True
    return float(np.mean(in_val[mirrors_N[train]]))


def _deal_pairs(shuffled: Column, mirrors_N: Column, counts: tuple[int, int, int], fraction: float) -> list[Column]:
    """Splits mirrored pairs: the first ``fraction * train`` of them apart (train and val), all others unbroken."""
    mirrors = mirrors_N[shuffled]
    single = (mirrors == -1) | (mirrors == shuffled)
    place = np.empty(len(mirrors_N), dtype=np.int64)
    place[shuffled] = np.arange(len(shuffled))
    first = ~single & (np.arange(len(shuffled)) < place[mirrors])  # the one of a pair that the shuffle put first
    pairs = np.stack([shuffled[first], mirrors[first]], axis=1)
    train, val, _ = counts
    if not 0 <= fraction <= 1:
        raise UserError(f"data.commutative_fraction is {fraction}; it must lie between 0 and 1")
    apart = int(_exact(fraction) * train)
    most = min(train, val, len(pairs))
    if apart > most:
        raise UserError(
            f"data.commutative_fraction is {fraction}; with {train} training and {val} validation rows "
            f"it can be at most {np.floor(most / train * 1e4) / 1e4:g}"
        )
    rest = {"pairs": pairs[apart:], "singles": shuffled[single]}
    dealt = [pairs[:apart, 0], pairs[:apart, 1], pairs[:0, 0]]
    result = []
    wanted = [count - len(part) for part, count in zip(dealt, counts, strict=True)]
    for number, part in enumerate(dealt):
        rows = _take(rest, wanted[number], sum(count % 2 for count in wanted[number + 1 :]))
        whole = np.concatenate([part, rows])
        result.append(whole[np.argsort(place[whole])])
    return result


def _take(rest: dict[str, Column], count: int, kept: int) -> Column:
    """Takes exactly ``count`` rows: singles and pairs in the proportion in which they are left, pairs unbroken.

    Where pairs do, ``kept`` singles are left, for later parts of odd size.
    """
    pairs, singles = rest["pairs"], rest["singles"]
    left = 2 * len(pairs) + len(singles)
    take_singles = min(len(singles), round(count * len(singles) / left)) if left else 0
    if (count - take_singles) % 2:
        take_singles += 1 if take_singles < len(singles) else -1
    spare = max(len(singles) - kept, count % 2)
    if take_singles > spare:
        take_singles = spare - (count - spare) % 2
    take_pairs = (count - take_singles) // 2
    if take_pairs > len(pairs):
        take_pairs, take_singles = len(pairs), count - 2 * len(pairs)
    if not 0 <= take_singles <= len(singles):
        raise UserError(
            f"data.train_fraction or train_rows asks for {count} rows in unbroken mirrored pairs, but too few rows are "
            "without a mirror to make that number; change it or data.val_fraction by one row"
        )
    rest["pairs"], rest["singles"] = pairs[take_pairs:], singles[take_singles:]
    return np.concatenate([pairs[:take_pairs].reshape(-1), singles[:take_singles]])
