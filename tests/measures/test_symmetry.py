"""Mirrored and unmirrored validation rows are told apart by each run's own split."""

import pytest
import torch
from hand_built import addition, answered, measured

from grok_lightning.data import PermutationDataModule
from grok_lightning.errors import UserError
from grok_lightning.measures import Symmetry, View
from grok_lightning.models import Transformer


def by_hand(data, right_RN, run: int) -> tuple[float, float]:
    """Shares of right rows, from sets of pairs."""
    pairs = [tuple(pair) for pair in data.operands_NK.tolist()]
    train = {pairs[row] for row in data.splits[run].train}
    rows = {True: [], False: []}
    for row in data.splits[run].val:
        rows[pairs[row][::-1] in train].append(bool(right_RN[run, row]))
    return tuple(sum(rows[mirrored]) / len(rows[mirrored]) for mirrored in (True, False))


@pytest.mark.parametrize("formula", ["x + y", "x - y", "x / y", "x * y if x % 2 else x"])
@pytest.mark.parametrize("options", [{"train_fraction": [0.3, 0.6]}, {"commutative_fraction": 0.2}], ids=str)
def test_accuracies_are_the_shares_of_right_rows(formula, options) -> None:
    data = addition(formula, 11, **options)
    right = torch.rand(2, len(data.operation), generator=torch.Generator().manual_seed(2)) < 0.6
    found = measured(Symmetry(), answered(data, right), data)
    for run in range(2):
        expected = by_hand(data, right, run)
        assert (found["symmetry/mirrored_acc"][run], found["symmetry/unmirrored_acc"][run]) == expected


def test_runs_of_several_formulas_have_the_mirrors_of_their_own_rows() -> None:
    data = addition(["x / y", "x + y"], 11)
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=1, width=8, heads=2)
    view = View(network, data)
    right = (view.logits_RNAV.argmax(-1) == view.targets_RNA).all(-1)
    found = measured(Symmetry(), network, data)
    for run in range(2):
        expected = by_hand(data, right, run)
        assert (found["symmetry/mirrored_acc"][run], found["symmetry/unmirrored_acc"][run]) == expected


def test_a_network_that_knows_only_symmetry() -> None:
    data = addition()
    mirrors = torch.from_numpy(data.operation.mirrors_N)
    right = torch.zeros(2, len(data.operation), dtype=torch.bool)
    for run, split in enumerate(data.splits):
        right[run, mirrors[split.train]] = True
    found = measured(Symmetry(), answered(data, right), data)
    assert found["symmetry/mirrored_acc"].tolist() == [1, 1]
    assert found["symmetry/unmirrored_acc"].tolist() == [0, 0]


def test_rows_that_do_not_exist_have_no_accuracy() -> None:
    together = addition(pairing="together")
    everything = torch.ones(2, len(together.operation), dtype=torch.bool)
    found = measured(Symmetry(), answered(together, everything), together)
    assert found["symmetry/mirrored_acc"].isnan().all()
    assert found["symmetry/unmirrored_acc"].tolist() == [1, 1]


def test_an_answer_of_several_characters_counts_only_when_whole() -> None:
    data = addition(modulus=11, tokenizer="characters")
    network = Transformer(data.vocabulary_size, data.length, data.seeds, True, layers=1, width=8, heads=2)
    rows = data.rows()
    found = measured(Symmetry(), network, data)
    with torch.no_grad():
        inputs = torch.from_numpy(rows.prompts_NT).expand(2, -1, -1)
        answers = torch.from_numpy(rows.answers_XNA).expand(2, -1, -1)
        predicted = network(torch.cat([inputs, answers[..., :-1]], dim=2), data.answer_length).argmax(-1)
    right = ((predicted == answers) | (answers < 0)).all(-1)
    for run in range(2):
        assert (found["symmetry/mirrored_acc"][run], found["symmetry/unmirrored_acc"][run]) == by_hand(data, right, run)


@pytest.mark.parametrize("data", [addition("x + y + z", 5), addition("x", 5), PermutationDataModule("x * y * z", 3)])
def test_other_numbers_of_operands_are_refused(data) -> None:
    network = Transformer(data.vocabulary_size, data.length, data.seeds, layers=1, width=8, heads=2)
    with pytest.raises(UserError, match=r"^measures names Symmetry, .* two operands$"):
        Symmetry().check(network, data)
