"""What a model is shown decodes back to the table."""

import itertools

import numpy as np
import pytest
import torch

from grok_lightning.data import ModularArithmeticDataModule, PermutationDataModule
from grok_lightning.data.batches import Chunk, Chunks
from grok_lightning.errors import UserError
from grok_lightning.models import Transformer

CPU = torch.device("cpu")


def decoded(data, batch):
    """Every equation of the first run as text."""
    words = np.array(data.tokenizer.vocabulary)
    tokens, targets = batch.tokens_RBT[0].numpy(), batch.targets_RBA[0].numpy()
    return [" ".join(row) for row in words[np.concatenate([tokens, targets], axis=1)]]


@pytest.mark.parametrize(
    ("formula", "operator_token", "pattern", "function"),
    [
        ("x + y", True, "{} + {} = {}", lambda x, y: x + y),
        ("x - y", False, "{} {} = {}", lambda x, y: x - y),
        ("x**2 + y", True, "{} o {} = {}", lambda x, y: x * x + y),
        ("x**2", True, "{} = {}", lambda x: x * x),
        ("x**2", False, "{} = {}", lambda x: x * x),
        ("x1 * x2 * x3", True, "{} * {} * {} = {}", lambda x, y, z: x * y * z),
        ("x1 * x2 * x3", False, "{} {} {} = {}", lambda x, y, z: x * y * z),
        ("x1 + x2 * x3", True, "{} o {} o {} = {}", lambda x, y, z: x + y * z),
    ],
)
def test_tokens_decode_to_the_equations(formula, operator_token, pattern, function) -> None:
    data = ModularArithmeticDataModule(formula, modulus=7, operator_token=operator_token)
    arity = data.operation.formula.arity
    expected = {pattern.format(*row, function(*row) % 7) for row in itertools.product(range(7), repeat=arity)}
    whole = [Chunk(split, 0, data.counts(split)[0]) for split in ("train", "val")]
    found = [line for chunk in whole for line in decoded(data, data.chunk(chunk, CPU))]
    assert len(found) == len(expected)
    assert set(found) == expected
    assert data.length == pattern.count(" ")
    assert data.answer_length == 1
    assert (
        data.vocabulary_size == len(data.tokenizer.vocabulary) == len({word for line in found for word in line.split()})
    )


@pytest.mark.parametrize("operator_token", [True, False])
@pytest.mark.parametrize(
    ("formula", "operands", "function"),
    [
        ("x - y", 2, lambda row: row[0] - row[1]),
        ("x**2", 1, lambda row: row[0] ** 2),
        ("x1 + x2 + x3", 3, sum),
        ("x1 + x3", 4, lambda row: row[0] + row[2]),
    ],
)
def test_prompts_without_an_equals_token(formula, operands, function, operator_token) -> None:
    data = ModularArithmeticDataModule(
        formula, modulus=5, operands=operands, equals_token=False, operator_token=operator_token, batch_size="full"
    )
    batch = data.training_batch(0, CPU)
    joined = operator_token and operands > 1
    assert data.length == batch.tokens_RBT.shape[2] == (2 * operands - 1 if joined else operands)
    assert data.vocabulary == [*map(str, range(5)), *([data.tokenizer.operator] if joined else [])]
    read = batch.tokens_RBT[0, :, :: 2 if joined else 1]
    assert torch.equal(read, torch.from_numpy(data.operation.operands_NK)[batch.rows_RB[0]])
    assert batch.targets_RBA[0, :, 0].tolist() == [function(row) % 5 for row in read.tolist()]
    assert torch.equal(data.tokens(data.operation.operands_NK)[0][batch.rows_RB[0]], batch.tokens_RBT[0])


def test_a_model_reads_a_bare_operand() -> None:
    data = ModularArithmeticDataModule("x**2", modulus=47, equals_token=False)
    batch = data.training_batch(0, CPU)
    model = Transformer(data.vocabulary_size, data.length, [0], width=8, heads=2)
    logits = model(batch.tokens_RBT, data.answer_length, beginnings=batch.beginnings)
    assert logits.shape == (1, 512, 1, 47)
    assert torch.equal(logits, model(batch.tokens_RBT, data.answer_length))


def test_sparse_parity() -> None:
    data = ModularArithmeticDataModule(
        "x1 + x2 + x3", modulus=2, operands=43, rows=2000, operator_token=False, equals_token=False, batch_size="full"
    )
    batch = data.training_batch(0, CPU)
    assert batch.tokens_RBT.shape == (1, 1000, 43)
    assert data.vocabulary == ["0", "1"]
    assert torch.equal(batch.targets_RBA[..., 0], batch.tokens_RBT[..., :3].sum(-1) % 2)


def test_a_sample_is_the_same_for_all_runs() -> None:
    options = {"formula": "x1 + x2", "modulus": 5, "operands": 30, "rows": 200}
    one, other, stack = (ModularArithmeticDataModule(**options, seeds=seeds) for seeds in ([1], [2], [1, 2]))
    assert np.array_equal(one.operation.operands_NK, other.operation.operands_NK)
    assert not np.array_equal(one.splits[0].train, other.splits[0].train)
    assert np.array_equal(stack.splits[1].train, other.splits[0].train)
    again = ModularArithmeticDataModule(**options, rows_seed=1)
    assert not np.array_equal(one.operation.operands_NK, again.operation.operands_NK)


def test_training_rows_may_be_counted() -> None:
    same = ModularArithmeticDataModule(modulus=11, seeds=[0, 1], train_rows=50)
    listed = ModularArithmeticDataModule(modulus=11, seeds=[0, 1], train_rows=[50, 70], val_fraction=0.2)
    assert (same.counts("train"), same.counts("val"), same.counts("test")) == ([50, 50], [71, 71], [0, 0])
    assert (listed.counts("train"), listed.counts("val"), listed.counts("test")) == ([50, 70], [24, 24], [47, 27])
    assert np.array_equal(same.splits[0].train, listed.splits[0].train)


@pytest.mark.parametrize(
    ("tokenizer", "prompt_length"), [("elements", 4), ("characters", 6)], ids=["elements", "characters"]
)
def test_the_tokenizer_is_chosen(tokenizer, prompt_length) -> None:
    data = ModularArithmeticDataModule(modulus=11, tokenizer=tokenizer)
    assert data.prompt_length == prompt_length
    assert ("10" in data.vocabulary) == (tokenizer == "elements")
    plain = ModularArithmeticDataModule(modulus=7, tokenizer=tokenizer, operator_token=False, equals_token=False)
    assert {"+", "="}.isdisjoint(plain.vocabulary)


def test_permutations_decode_to_the_equations() -> None:
    data = PermutationDataModule("x * y", degree=4, batch_size="full")
    algebra = data.operation.algebra
    images = dict(zip(algebra.names, algebra.images.tolist(), strict=True))
    for line in decoded(data, data.training_batch(0, CPU)):
        x, rest = line.split(" * ")
        y, answer = rest.split(" = ")
        assert images[answer] == [images[x][i] for i in images[y]]


def test_a_full_batch_is_the_whole_training_split() -> None:
    for modulus in (7, 23, 47):
        data = ModularArithmeticDataModule(modulus=modulus, batch_size="full")
        for step in (0, 1, 50):
            assert sorted(data.training_batch(step, CPU).rows_RB[0].tolist()) == sorted(data.splits[0].train.tolist())


def test_the_batch_of_the_paper() -> None:
    for modulus, fraction, expected in ((7, 0.5, 12), (7, 0.53, 13), (47, 0.5, 512), (31, 0.5, 240)):
        data = ModularArithmeticDataModule(modulus=modulus, train_fraction=fraction, batch_size="paper")
        rows = len(data.splits[0].train)
        assert data.batch_size == expected == min(512, (rows + 1) // 2)


def test_shares_of_a_batch_make_the_whole() -> None:
    for world_size in (1, 2, 3, 5):
        data = ModularArithmeticDataModule(modulus=11, batch_size=16, seeds=[0, 1])
        whole = data.training_batch(9, CPU)
        shares = [data.training_batch(9, CPU, rank, world_size) for rank in range(world_size)]
        for name in ("tokens_RBT", "targets_RBA", "rows_RB"):
            assert torch.equal(torch.cat([getattr(part, name) for part in shares], dim=1), getattr(whole, name))
        sizes = [part.rows_RB.shape[1] for part in shares]
        assert [part.first_row for part in shares] == [sum(sizes[:rank]) for rank in range(world_size)]
        assert all((part.step, part.whole, part.split) == (9, 16, "train") for part in shares)


def test_training_rows_are_those_of_the_split() -> None:
    data = ModularArithmeticDataModule(modulus=11, batch_size=16, seeds=[0, 1], train_fraction=[0.3, 0.6])
    for run, split in enumerate(data.splits):
        rows = torch.cat([data.training_batch(step, CPU).rows_RB[run] for step in range(20)])
        assert set(rows.tolist()) == set(split.train.tolist())


def test_runs_of_different_sizes_are_padded() -> None:
    data = ModularArithmeticDataModule(modulus=11, seeds=[0, 1, 2], train_fraction=[0.3, 0.8, 0.5])
    for split in ("train", "val"):
        counts = data.counts(split)
        batches = [data.chunk(chunk, CPU) for chunk in Chunks(split, max(counts), 32)]
        rows = torch.cat([batch.rows_RB for batch in batches], dim=1)
        targets = torch.cat([batch.targets_RBA for batch in batches], dim=1)
        assert torch.equal(targets[..., 0] == -100, rows == -1)
        for run, count in enumerate(counts):
            assert rows[run, :count].tolist() == getattr(data.splits[run], split).tolist()
            assert (rows[run, count:] == -1).all()


def test_a_stack_sees_what_its_single_runs_see() -> None:
    stack = ModularArithmeticDataModule(modulus=11, batch_size=16, seeds=[4, 9], train_fraction=[0.3, 0.6])
    for run, (seed, fraction) in enumerate([(4, 0.3), (9, 0.6)]):
        single = ModularArithmeticDataModule(modulus=11, batch_size=16, seeds=[seed], train_fraction=fraction)
        for step in range(15):
            assert torch.equal(
                stack.training_batch(step, CPU).rows_RB[run], single.training_batch(step, CPU).rows_RB[0]
            )


def test_split_seeds_stand_beside_the_runs_seeds() -> None:
    same = ModularArithmeticDataModule(modulus=11, seeds=[0, 1], split_seed=7).splits
    listed = ModularArithmeticDataModule(modulus=11, seeds=[0, 1], split_seed=[7, 8]).splits
    assert np.array_equal(same[0].train, same[1].train)
    assert np.array_equal(same[0].train, listed[0].train)
    assert not np.array_equal(listed[0].train, listed[1].train)


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_batches_drawn_together_are_those_drawn_one_by_one_and_alike_in_memory(seeds) -> None:
    data = ModularArithmeticDataModule(modulus=11, batch_size=16, seeds=seeds)
    together = [
        *data.training_batches(CPU, 0, 1),
        *data.training_batches(CPU, 1, 5),
        *data.training_batches(CPU, 6, 90),
    ]
    assert [batch.step for batch in together] == list(range(96))
    for batch in together:
        alone = ModularArithmeticDataModule(modulus=11, batch_size=16, seeds=seeds).training_batch(batch.step, CPU)
        for read in (
            lambda batch: batch.tokens_RBT,
            lambda batch: batch.targets_RBA,
            lambda batch: batch.rows_RB,
            lambda batch: batch.beginnings.index_RB,
        ):
            left, right = read(batch), read(alone)
            assert torch.equal(left, right)
            assert left.stride() == right.stride() == torch.empty(left.shape).stride()


def test_test_rows_are_served_only_where_there_are_any() -> None:
    data = ModularArithmeticDataModule(modulus=11, train_fraction=0.7, val_fraction=0.15)
    assert [request.splits for request in data.test_dataloader()] == [("test",)]
    assert data.table(CPU).rows_RN["test"].shape == (1, 121 - 84 - 18)
    with pytest.raises(UserError, match=r"^this run has no test rows .*validate.*--data.val_fraction 0\.2"):
        ModularArithmeticDataModule(modulus=11).test_dataloader()


CONTRADICTIONS = [
    *[({"batch_size": 0}, "batch_size"), ({"batch_size": -1}, "batch_size"), ({"modulus": 1}, "modulus")],
    *[({"train_fraction": [0.5]}, "train_fraction"), ({"split_seed": [1, 2, 3]}, "split_seed")],
    *[({"batch_size": size, "train_fraction": [0.3, 0.5]}, "batch_size") for size in ("full", "paper")],
    *[({"train_rows": [50]}, "train_rows"), ({"train_rows": 50, "train_fraction": 0.4}, "train_rows")],
    *[({"train_rows": [50, 60], "train_fraction": [0.5, 0.5]}, "train_rows"), ({"rows": 122}, "rows")],
]


def test_contradictions_are_refused() -> None:
    for options, name in CONTRADICTIONS:
        with pytest.raises(UserError, match=rf"^data\.{name} "):
            ModularArithmeticDataModule(**({"modulus": 11, "seeds": [0, 1]} | options))


DIVISION = ModularArithmeticDataModule("x / y").tokenizer
HARD = ModularArithmeticDataModule("x**3 + x*y**2 + y", modulus=11).tokenizer
PRODUCT = PermutationDataModule("x * y").tokenizer


def test_prompts_are_read() -> None:
    for text in ("91/7=", "91 / 7 =", "91 7", "91/7", "  91   7  ="):
        assert DIVISION.read(text).tolist() == [[91, 7]]


def test_prompts_of_an_unnamed_operator_are_read() -> None:
    for text in ("3 o 4 =", "3o4=", "3 4"):
        assert HARD.read(text).tolist() == [[3, 4]]


def test_prompts_of_permutations_are_read() -> None:
    for text in ("(0 1 2) (3 4)", "(0 1 2)*(3 4)=", "(0 1 2) * (3 4) ="):
        assert [PRODUCT.elements[number] for number in PRODUCT.read(text)[0]] == ["(0 1 2)", "(3 4)"]
        pair = PRODUCT.read("(0 1 2)(3 4) ()")
        assert [PRODUCT.elements[number] for number in pair[0]] == ["(0 1 2)(3 4)", "()"]


NO_EQUATIONS = [
    *[(DIVISION, text) for text in ("97 / 1", "1 / 97", "-1 / 3", "91 * 7 =", "91 o 7 x", "91 seven", "1.5 / 3")],
    *[(DIVISION, text) for text in ("91", "", "=", "91 7 3", "91 / 7 / 3 =", "(91) 7", "007 3")],
    *[(HARD, "3 + 4"), (HARD, "11 o 0"), (PRODUCT, "1 2"), (PRODUCT, "(0 1 9) (3 4)"), (PRODUCT, "(0 1 2)(3 4)")],
]


def test_prompts_that_name_no_equation_are_refused_in_one_line() -> None:
    for tokenizer, text in NO_EQUATIONS:
        with pytest.raises(UserError, match=r"^prompt .*expected") as caught:
            tokenizer.read(text)
        assert "\n" not in str(caught.value)
