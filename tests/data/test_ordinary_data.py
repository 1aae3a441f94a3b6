"""An ordinary LightningDataModule: its rows are read whatever its loaders are, and are the same every time."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from grok_lightning.data.loaders import LoadedRows, read_loaders
from grok_lightning.data.ordinary import _OrdinaryDataModule, read_module
from grok_lightning.errors import UserError
from grok_lightning.randomness import generator_states

X = torch.cartesian_prod(torch.arange(5), torch.arange(5))
Y = X.sum(1) % 5


def read(loaders: Any) -> LoadedRows:
    found = read_loaders(loaders, "its loader")
    assert found is not None
    return found


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return zip(X, Y, strict=True)


class Batches:
    """A loader that is no DataLoader."""

    def __iter__(self) -> Iterator[Any]:
        yield X[:20], Y[:20]
        yield X[20:], Y[20:]


class Pairs:
    """A batch sampler of no known class."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[place, place + 1] for place in range(0, 24, 2)] + [[24]])


def collate(rows: list[Any]) -> dict[str, Tensor]:
    return {"inputs": torch.tensor([a for a, _ in rows]), "targets": torch.tensor([b for _, b in rows])}


WHOLE = TensorDataset(X, Y)
PLAIN = list(zip(X.tolist(), Y.tolist(), strict=True))
EVERY_ROW: list[tuple[Callable[[], Any], int]] = [
    (lambda: DataLoader(WHOLE, batch_size=4), 4),
    (lambda: DataLoader(WHOLE, batch_size=4, shuffle=True, drop_last=True), 4),
    (lambda: DataLoader(TensorDataset(X, Y[:, None]), batch_size=4), 4),
    (lambda: DataLoader(TensorDataset(X.to(torch.uint8), Y.to(torch.int32))), 1),
    (lambda: DataLoader(list(zip(X, Y, strict=True)), batch_size=3), 3),
    (lambda: DataLoader(PLAIN, batch_size=6, collate_fn=collate), 6),
    (lambda: DataLoader(WHOLE, batch_size=None), 1),
    (lambda: DataLoader(WHOLE, batch_sampler=BatchSampler(RandomSampler(WHOLE), 7, drop_last=True)), 7),
    (lambda: DataLoader(WHOLE, batch_sampler=Pairs()), 2),
    (lambda: DataLoader(Stream(), batch_size=8, drop_last=True), 8),
    (lambda: DataLoader(Stream(), batch_size=None), 1),
    (Batches, 20),
    (lambda: [DataLoader(TensorDataset(X[:10], Y[:10]), batch_size=4), DataLoader(TensorDataset(X[10:], Y[10:]))], 5),
    (lambda: {"a": DataLoader(WHOLE, batch_size=4), "none": None}, 4),
]


@pytest.mark.parametrize(("make", "batch_size"), EVERY_ROW)
def test_every_row_is_read_once_in_the_datasets_order(make: Callable[[], Any], batch_size: int) -> None:
    rows = read(make())
    assert np.array_equal(rows.inputs_NT, X.numpy())
    assert np.array_equal(rows.targets_NA, Y.numpy()[:, None])
    assert rows.batch_size == batch_size


def test_a_sampler_chooses_rows() -> None:
    rows = read(DataLoader(WHOLE, batch_size=4, sampler=SubsetRandomSampler([7, 3, 20])))
    assert np.array_equal(rows.inputs_NT, X[[3, 7, 20]].numpy())


def test_no_rows_are_none() -> None:
    assert read_loaders(DataLoader([]), "x") is None  # type: ignore[arg-type]
    assert read_loaders(None, "x") is None
    assert read_loaders([], "x") is None


def test_one_token_several_answers_and_padding() -> None:
    rows = read(DataLoader(TensorDataset(X[:, 0], X), batch_size=4))
    assert (rows.inputs_NT.shape, rows.targets_NA.shape) == ((25, 1), (25, 2))
    padded = read(DataLoader(TensorDataset(torch.tensor([[-1, 3]]), torch.tensor([[4, -100]]))))
    assert (padded.inputs_NT.tolist(), padded.targets_NA.tolist()) == ([[-1, 3]], [[4, -1]])


def forever() -> Iterator[Any]:
    while True:
        yield X.repeat(2000, 1), Y.repeat(2000)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: DataLoader(TensorDataset(X.float(), Y)), r"inputs of float32.*\.long\(\)"),
    (lambda: DataLoader(TensorDataset(X, Y.double())), "targets of float64"),
    (lambda: DataLoader(TensorDataset(X, Y, Y)), "a batch of 3 parts"),
    (lambda: DataLoader(X), "a batch of Tensor"),  # type: ignore[arg-type]
    (lambda: DataLoader(TensorDataset(X[:, None], Y)), r"inputs of shape \(25, 1, 2\)"),
    (lambda: DataLoader(TensorDataset(X - 1, Y), batch_size=5), "inputs below 0"),
    (lambda: DataLoader(TensorDataset(X, Y - 7), batch_size=5), "targets below 0"),
    (lambda: DataLoader([{"image": 1, "label": 2}]), "a mapping of 'image, label'"),  # type: ignore[arg-type]
    (lambda: DataLoader([{"x": 1, "y": 2, "mask": 1}]), "a mapping of 'x, y, mask'"),  # type: ignore[arg-type]
    (lambda: DataLoader([("a", 1)]), "inputs of tuple|inputs of list"),  # type: ignore[arg-type]
    (lambda: DataLoader(WHOLE, sampler=WeightedRandomSampler([1.0] * 25, 25)), "WeightedRandomSampler, some of them"),
    (lambda: DataLoader(WHOLE, sampler=RandomSampler(WHOLE, num_samples=5)), "RandomSampler, others in each pass"),
    (lambda: (X, Y), "gives a batch of Tensor"),
    (lambda: 3, "returns int"),
    (lambda: [DataLoader(WHOLE), DataLoader(TensorDataset(X[:, :1], Y))], "loaders whose inputs have 2 and 1 tokens"),
    (lambda: iter([(X, Y), (X[:, :1], Y)]), "rows of 2 [+] 1 and 1 [+] 1 tokens"),
    (forever, "more than 4,2.* rows"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_is_no_row_of_tokens_is_refused_in_one_line(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(UserError, match=f"^its loader .*{words}") as caught:
        read_loaders(make(), "its loader")
    assert "\n" not in str(caught.value)


class Drawn(LightningDataModule):
    """Draws rows and splits anew whenever it is set up."""

    vocabulary_size = 20

    def __init__(self, rows: int = 40) -> None:
        super().__init__()
        self.rows, self.stages = rows, list[str]()

    def setup(self, stage: str) -> None:
        self.stages.append(stage)
        order = torch.randperm(25)
        noise = torch.as_tensor(np.random.randint(0, 5, 25)) + random.randrange(5)
        self.whole = TensorDataset(X[order], (Y + noise)[order] % 20)

    def train_dataloader(self) -> Any:
        return DataLoader(torch.utils.data.Subset(self.whole, range(12)), batch_size=4, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(torch.utils.data.Subset(self.whole, range(12, 20)))

    def test_dataloader(self) -> Any:
        return DataLoader(torch.utils.data.Subset(self.whole, range(20, 25)))


class Fixed(LightningDataModule):
    title = "sums"

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(X[:15], Y[:15]), batch_size=100)

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(X[15:], Y[15:]))


def wrap(make: Callable[[], LightningDataModule], *seeds: int) -> _OrdinaryDataModule:
    return _OrdinaryDataModule([make] * len(seeds), make, seeds)


def test_rows_are_drawn_by_the_seed_and_global_generators_stay() -> None:
    before = generator_states()
    one, again, other = (read_module(Drawn, seed) for seed in (3, 3, 4))
    assert generator_states() == before
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    assert one.drawn
    assert not read_module(Fixed, 3).drawn
    inputs = np.concatenate([one.rows[name].inputs_NT for name in ("train", "val", "test")])
    assert len(np.unique(inputs, axis=0)) == 25, "splits that are drawn for fit and for test are the same draw"


def test_a_run_of_a_stack_has_the_rows_of_its_single_run() -> None:
    stack = wrap(Drawn, 3, 4, 3)
    device = torch.device("cpu")
    for place, seed in enumerate(stack.seeds):
        single = wrap(Drawn, seed)
        assert single.fingerprints == [stack.fingerprints[place]]
        assert single.identity() == stack.identity(), "which no run's seed is part of"
        for step in (0, 5):
            own, whole = single.training_batch(step, device), stack.training_batch(step, device)
            assert torch.equal(own.tokens_RBT[0], whole.tokens_RBT[place])
            assert torch.equal(own.targets_RBA[0], whole.targets_RBA[place])
    assert len(wrap(Fixed, 1, 2).rows().prompts_NT.shape) == 2, "rows that depend on no seed are kept once"


def test_what_others_ask_of_data() -> None:
    data = wrap(Fixed, 0)
    assert (data.name, data.title, data.vocabulary, data.batch_size) == ("Fixed", "sums", list("01234"), 15)
    assert data.describe(7) == ["1 2", "3"]
    assert data.encode("1 2 =").tolist() == data.encode(" 1  2").tolist() == [1, 2]
    assert (data.decode([3]), data.show("1 2 =", "3")) == ("3", "1 2 = 3")
    assert (data.counts("val"), data.counts("test")) == ([10], [0])
    for text, words in (("1", "1 of 2 tokens"), ("1 2 3", "3 of 2"), ("1 9", "'9'"), ("", "0 of 2")):
        with pytest.raises(UserError, match=words):
            data.encode(text)


def test_missing_and_shared_rows_are_told() -> None:
    class Only(Fixed):
        val_dataloader = LightningDataModule.val_dataloader

    class Leaking(Fixed):
        def val_dataloader(self) -> Any:
            return DataLoader(TensorDataset(X[10:], Y[10:]))

    data = wrap(Only, 0)
    assert np.array_equal(data.splits[0].val, data.splits[0].train)
    assert "no validation rows" in data.notes[0]
    assert wrap(Leaking, 0).notes == ["data: 5 of 15 validation inputs are training inputs too"]
    assert wrap(Fixed, 0).notes == []


def test_modules_that_cannot_be_trained_on_are_refused() -> None:
    class Entropy(Fixed):
        def train_dataloader(self) -> Any:
            return DataLoader(TensorDataset(torch.as_tensor(np.random.default_rng().integers(0, 99, (9, 2))), Y[:9]))

    class Short(Fixed):
        vocabulary = ("a", "b")

    class Wider(Fixed):
        def val_dataloader(self) -> Any:
            return DataLoader(TensorDataset(X.repeat(1, 2), Y))

    class Growing(Drawn):
        vocabulary_size = None  # type: ignore[assignment]

    with pytest.raises(UserError, match="Entropy, which gives other rows each time"):
        wrap(Entropy, 0).check_repeatable()
    wrap(Drawn, 5).check_repeatable()
    with pytest.raises(UserError, match=r"Short, whose vocabulary is \('a', 'b'\).*more than 4"):
        wrap(Short, 0)
    with pytest.raises(UserError, match="inputs have 2 tokens in train and 4 in val"):
        wrap(Wider, 0)
    with pytest.raises(UserError, match="LightningDataModule, which has no training rows"):
        wrap(LightningDataModule, 0)
    with pytest.raises(UserError, match="tokens differ between the runs"):
        wrap(Growing, *range(8))


def test_a_list_of_batches_is_a_loader() -> None:
    whole = read([(X[:20], Y[:20]), (X[20:], Y[20:])])
    assert whole.inputs_NT.tolist() == X.tolist()
    assert whole.targets_NA[:, 0].tolist() == Y.tolist()
    assert read([{"inputs": X, "targets": Y}]).batch_size == 25
    assert read([DataLoader(TensorDataset(X, Y), 5), [(X, Y)]]).batch_size == 30
