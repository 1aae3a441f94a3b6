"""The tables of a stack whose runs have different formulas, numbered as one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from grok_lightning.data.algebra import Column
from grok_lightning.data.operation import Operation
from grok_lightning.data.split import Split
from grok_lightning.data.tokenizer import Tokenizer
from grok_lightning.errors import UserError, show


def unite_tables(operations: Sequence[Operation]) -> tuple[Column, list[Column]]:
    """All operands that any of several tables has, and where each table's rows are among them.

    Args:
        operations: The tables; the same one may come several times.

    Returns:
        Operands (N, K) in lexicographic order, none twice; for each operation, the numbers of its rows among them.
    """
    distinct = list(dict.fromkeys(operations))
    every = np.concatenate([operation.operands_NK for operation in distinct])
    operands_NK, place = np.unique(every, axis=0, return_inverse=True)
    ends = np.cumsum([len(operation) for operation in distinct])
    places = dict(zip(distinct, np.split(place.reshape(-1), ends[:-1]), strict=True))
    return operands_NK, [places[operation] for operation in operations]


def spread_answers(answers: Column, place: Column, rows: int) -> Column:
    """A table's answers on ``rows`` rows of which its own are at ``place``; elsewhere the answer of its first row."""
    spread = np.full(rows, answers[0])
    spread[place] = answers
    return spread


def renumber(split: Split, place: Column) -> Split:
    """A split of a table whose rows are now at ``place``, in the same order."""
    return replace(split, train=place[split.train], val=place[split.val], test=place[split.test])


def refuse_unlike(tokenizers: Mapping[Operation, Tokenizer]) -> None:
    """Refuses formulas whose runs differ in shape.

    Args:
        tokenizers: The tokenizer of each table.

    Raises:
        UserError: If they differ in the size of the vocabulary, or the length of prompts or answers.
    """
    sizes = {
        table: {
            "vocabulary size": len(tokenizer.vocabulary),
            "input length": tokenizer.prompt_length,
            "answer length": tokenizer.answer_length,
        }
        for table, tokenizer in tokenizers.items()
    }
    first, *others = sizes
    for other in others:
        for name, size in sizes[first].items():
            if sizes[other][name] != size:
                raise UserError(
                    f"data.formula has {show(first.formula.text)} and {show(other.formula.text)} for runs of one "
                    f"stack, which differ in {name}, {size} and {sizes[other][name]} tokens; "
                    "give formulas that agree, or train them in stacks of their own"
                )
