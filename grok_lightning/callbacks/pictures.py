"""Pictures of a run: its table, split, answers and embedding, as tables and figures."""

from contextlib import suppress

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from grok_lightning.data.algebra import Column
from grok_lightning.data.integers import IntegersMod
from grok_lightning.data.operation import Operation
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.stacking import unite_tables
from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.data.tokenizer import ElementTokenizer
from grok_lightning.errors import UserError
from grok_lightning.figures import task
from grok_lightning.figures.elements import NothingToShow
from grok_lightning.figures.embeddings import draw_components, tabulate_components
from grok_lightning.models.base import device_of
from grok_lightning.models.continuing import until_end
from grok_lightning.models.perceptron import Perceptron
from grok_lightning.module import GrokModule
from grok_lightning.training.evaluation import TablePass, continue_table, table_pass


def task_table(data: SequenceDataModule, run: int = 0) -> pd.DataFrame:
    """The table that one run of a stack learns, and which of its rows train.

    Args:
        data: The stack's data.
        run: Index of the run.

    Returns:
        An equation a row: the operands by name and the true ``answer``, categoricals whose categories are the elements
        as they are written, in their order; and ``split``: train, val, test, or unused where a row is in none.

    Raises:
        NothingToShow: If there is no table, as for text.
    """
    operation, rows_N = _find_own_rows(_require_table(data), run)
    written, numbers = pd.Index(operation.algebra.names), operation.algebra.operands
    operands = written[numbers.start : numbers.stop]
    columns = {
        name: pd.Categorical.from_codes(column - numbers.start, operands, ordered=True)
        for name, column in zip(operation.formula.operand_names, operation.operands_NK.T, strict=True)
    }
    split = np.full(rows_N.max() + 1, len(task.SPLITS) - 1)
    for code, part in enumerate(("train", "val", "test")):
        split[getattr(data.splits[run], part)] = code
    return pd.DataFrame(
        columns
        | {
            "answer": pd.Categorical.from_codes(operation.results_N, written, ordered=True),
            "split": pd.Categorical.from_codes(split[rows_N], pd.Index(task.SPLITS)),
        }
    )


@torch.no_grad()
def prediction_table(
    module: GrokModule, data: SequenceDataModule, run: int = 0, passed: TablePass | None = None
) -> pd.DataFrame:
    """The answers of one run of a stack to every row of its table.

    Args:
        module: The stack.
        data: Its data.
        run: Index of the run.
        passed: The pass over all rows of an evaluation; default: computed here.

    Returns:
        ``task_table`` with ``prediction`` (a missing value where the model writes no element) and ``correct``.

    Raises:
        NothingToShow: If there is no table, or the run's logits are not finite.
    """
    table = task_table(data, run)
    if passed is None or passed.computed_N is not None:
        whole = data.table(device_of(module.network))
        passed = table_pass(module.network, whole, lambda _, targets: targets, keep_logits=True)
    if not passed.losses_RN[run].isfinite().all():
        raise NothingToShow("the model's logits are not finite")
    answers_XNA = data.rows().answers_XNA
    answers_NA = answers_XNA[run if len(answers_XNA) > 1 else 0]
    predicted_NA, own_NA = passed.predictions_RNA[run].cpu(), torch.from_numpy(answers_NA >= 0)
    if data.answer_length > 1:
        predicted_NA = continue_table(module.network, data.table(device_of(module.network)))[run].cpu()
        own_NA = until_end(predicted_NA, data.end)
    predicted_N = _decode_elements(_require_table(data), predicted_NA.numpy(), own_NA.numpy())
    predicted_N = predicted_N[_find_own_rows(_require_table(data), run)[1]]
    answer = table["answer"].cat
    prediction = pd.Categorical.from_codes(predicted_N, answer.categories, ordered=True)
    return table.assign(prediction=prediction, correct=predicted_N == answer.codes)


def embedding_table(module: GrokModule, data: SequenceDataModule, run: int = 0) -> pd.DataFrame:
    """Principal components of the token embeddings of one run's operands.

    Returns:
        As ``tabulate_components`` does.

    Raises:
        NothingToShow: If elements have no embedding of their own, or it is not finite.
    """
    algebra = _require_table(data).operation.algebra
    if not isinstance(_require_table(data).tokenizer, ElementTokenizer):
        raise NothingToShow("elements are written in several tokens, so that no single vector stands for one")
    network = module.network
    if isinstance(network, Perceptron) and network.inputs == "one-hot":
        raise NothingToShow("the model reads one-hot tokens and has no embedding")
    operands = algebra.operands
    try:
        embedding_RVD = network.embedding
    except UserError as error:
        raise NothingToShow(str(error)) from None
    vectors = embedding_RVD[run, operands.start : operands.stop].detach().cpu().double().numpy()
    return tabulate_components(vectors, algebra.names[operands.start : operands.stop])


def task_pictures(data: SequenceDataModule, run: int, title: str) -> dict[str, tuple[pd.DataFrame, Figure]]:
    """The pictures of the task of one run of a stack, by name, each with its table; those that exist.

    Args:
        data: The stack's data.
        run: Index of the run.
        title: The run's title.
    """
    found: dict[str, tuple[pd.DataFrame, Figure]] = {}
    with suppress(NothingToShow):
        table = task_table(data, run)
        counts = task.tabulate_value_counts(table)
        found["value_counts"] = counts, task.draw_value_counts(counts, f"Value counts\n{title}")
        found["answers"] = table, task.draw_answers(table, f"Answers\n{title}", _is_cyclic(data))
        found["split"] = table, task.draw_split(table, f"Split\n{title}")
    return found


def _is_cyclic(data: SequenceDataModule) -> bool:
    return isinstance(data, TableDataModule) and isinstance(data.operation.algebra, IntegersMod)


def pictures(
    module: GrokModule, data: SequenceDataModule, run: int, title: str, step: int
) -> dict[str, tuple[pd.DataFrame, Figure]]:
    """The pictures of one run of a stack, by name, each with its table; those that do not exist are left out.

    Args:
        module: The stack.
        data: Its data.
        run: Index of the run.
        title: The run's title.
        step: The optimizer step that the model stands at.
    """
    return task_pictures(data, run, title) | network_pictures(module, data, run, title, step)


def network_pictures(
    module: GrokModule, data: SequenceDataModule, run: int, title: str, step: int
) -> dict[str, tuple[pd.DataFrame, Figure]]:
    """The pictures of what one run of a stack has learned; arguments and return value are those of ``pictures``."""
    found: dict[str, tuple[pd.DataFrame, Figure]] = {}
    with suppress(NothingToShow):
        task.find_operands(task_table(data, run))  # before anything is computed that no map can show
        passed = module.passed if module.passed_at == step else None
        predicted = prediction_table(module, data, run, passed)
        figure = task.draw_predictions(predicted, f"Predictions at step {step:,}\n{title}")
        found["predictions"] = predicted, figure
    with suppress(NothingToShow):
        parts = embedding_table(module, data, run)
        found["embedding"] = (
            parts,
            draw_components(parts, f"Token embeddings at step {step:,}\n{title}", _is_cyclic(data)),
        )
    return found


def _require_table(data: SequenceDataModule) -> TableDataModule:
    if not isinstance(data, TableDataModule):
        raise NothingToShow(f"{data.class_name} has no table of operands and answers")
    return data


def _find_own_rows(data: TableDataModule, run: int) -> tuple[Operation, Column]:
    """The table of one run, and the indices of its rows among the stack's."""
    if len(data.operations) == 1:
        return data.operation, np.arange(len(data.operation))
    return data.operations[run], unite_tables(data.operations)[1][run]


def _decode_elements(data: TableDataModule, tokens_NA: Column, own_NA: Column) -> Column:
    """Element numbers of answers given as tokens, -1 where the tokens are no element."""
    written = data.operation.algebra.names
    if isinstance(data.tokenizer, ElementTokenizer):
        return np.where(tokens_NA[:, 0] < len(written), tokens_NA[:, 0], -1)
    number = {name: place for place, name in enumerate(written)}
    distinct, place_N = np.unique(np.where(own_NA, tokens_NA, -1), axis=0, return_inverse=True)
    decoded = [number.get(data.decode(tokens[tokens >= 0].tolist()), -1) for tokens in distinct]
    return np.array(decoded)[place_N.reshape(-1)]
