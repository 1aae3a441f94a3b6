"""An ordinary LightningDataModule as a SequenceDataModule: it is set up and read once, and batches are drawn here."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from lightning.pytorch import LightningDataModule

from grok_lightning.batch import PADDING
from grok_lightning.data.algebra import Column
from grok_lightning.data.loaders import LoadedRows, read_loaders
from grok_lightning.data.sequences import SequenceDataModule
from grok_lightning.data.split import Split
from grok_lightning.data.tokenizer import Rows
from grok_lightning.errors import UserError, show
from grok_lightning.randomness import generator_states, seeded

SPLITS = ("train", "val", "test")
REFERENCE = 0  # the seed under which a module is set up to be identified, whatever a run's own seed is


class Reading(NamedTuple):
    """What a LightningDataModule held when it was set up.

    Attributes:
        name: Name of its class.
        rows: Its rows by split, those that it has.
        vocabulary: Text of each token.
        title: Its own ``title``, or None.
        drawn: Whether a global generator was read, so that another seed may give other rows.
    """

    name: str
    rows: dict[str, LoadedRows]
    vocabulary: list[str]
    title: str | None
    drawn: bool

    def fingerprint(self) -> str:
        """Hash of all rows in their order, and of all else that training depends on."""
        parts = [repr((self.vocabulary, self.rows["train"].batch_size)).encode()]
        for name, rows in self.rows.items():
            parts += [repr((name, rows.inputs_NT.shape, rows.targets_NA.shape)).encode()]
            parts += [rows.inputs_NT.tobytes(), rows.targets_NA.tobytes()]
        return _hash(parts)

    def fingerprint_of_set(self) -> str:
        """Hash of the set of all rows, in whatever splits and order they are."""
        whole = np.concatenate([np.hstack([rows.inputs_NT, rows.targets_NA]) for rows in self.rows.values()])
        distinct = np.unique(whole, axis=0)
        return _hash([repr((self.vocabulary, distinct.shape)).encode(), distinct.tobytes()])


def _hash(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def read_module(make: Callable[[], LightningDataModule], seed: int) -> Reading:
    """Makes a LightningDataModule, sets it up and reads its loaders; the global generators are left as they were.

    ``prepare_data`` is called, then ``setup`` for fit, and for test if there is a ``test_dataloader``, each with the
    global generators of torch, numpy and random seeded alike: a module that draws its splits in ``setup`` draws the
    same for both.

    Args:
        make: Makes it.
        seed: What the generators are seeded with.

    Raises:
        UserError: Its rows are not tokens, or it has none to train on.
    """
    with seeded(seed, "data module"):
        states = generator_states()
        module = make()
        module.prepare_data()
        drawn = states != generator_states()
    name, found = type(module).__name__, dict[str, LoadedRows]()
    for stage, splits in (("fit", SPLITS[:2]), ("test", SPLITS[2:])):
        loaders = {split: f"{split}_dataloader" for split in splits if _has(module, f"{split}_dataloader")}
        if not loaders:
            continue
        with seeded(seed, "data"):
            states = generator_states()
            module.setup(stage)
            for split, loader in loaders.items():
                rows = read_loaders(getattr(module, loader)(), f"data is {name}, whose {loader}")
                if rows is not None:
                    found[split] = rows
            drawn |= states != generator_states()
            module.teardown(stage)
    if "train" not in found:
        raise UserError(f"data is {name}, which has no training rows; give it a train_dataloader of (inputs, targets)")
    _refuse_lengths(found, name)
    title = getattr(module, "title", None)
    return Reading(name, found, _read_vocabulary(module, found), None if title is None else str(title), drawn)


def _has(module: LightningDataModule, loader: str) -> bool:
    own = getattr(module, loader)
    return getattr(own, "__func__", own) is not getattr(LightningDataModule, loader)


def _refuse_lengths(found: dict[str, LoadedRows], name: str) -> None:
    for split, rows in found.items():
        for what, own, other in (("inputs", rows.inputs_NT, found["train"].inputs_NT),
                                 ("targets", rows.targets_NA, found["train"].targets_NA)):  # fmt: skip
            if own.shape[1] != other.shape[1]:
                raise UserError(
                    f"data is {name}, whose {what} have {other.shape[1]} tokens in train and {own.shape[1]} in "
                    f"{split}; pad them to one length"
                )


def _read_vocabulary(module: LightningDataModule, found: dict[str, LoadedRows]) -> list[str]:
    """The text of each token, from the attribute ``vocabulary`` or ``vocabulary_size``, or up to the largest token."""
    largest = max(int(part.max()) for rows in found.values() for part in rows[:2])
    name = type(module).__name__
    for attribute in ("vocabulary", "vocabulary_size"):
        given = getattr(module, attribute, None)
        if given is None:
            continue
        if isinstance(given, Mapping):  # token numbers by text
            given = [text for text, _ in sorted(given.items(), key=lambda item: item[1])]
        texts = [str(token) for token in given] if isinstance(given, list | tuple) else None
        if type(given) is int and given > 0:
            texts = [str(token) for token in range(given)]
        if texts is None or len(set(texts)) < len(texts) or len(texts) <= largest:
            raise UserError(
                f"data is {name}, whose {attribute} is {show(given)}; expected: the number of tokens, or a list of "
                f"their texts, each once, with more than {largest:,}, the largest token of its rows"
            )
        return texts
    if largest >= 2**20:
        raise UserError(f"data is {name}, which has the token {largest:,}; tokens are numbers from 0 to V - 1 < 2^20")
    return [str(token) for token in range(largest + 1)]


class _OrdinaryDataModule(SequenceDataModule):
    """The rows of an ordinary LightningDataModule, for a stack of runs.

    Each run has what the module gives under its own seed. The module is set up once where its rows do not depend on a
    seed. Without validation rows, validation is on the training rows.

    Args:
        modules: Makes the module, for each run.
        reference: Makes it with the seed 0.
        seeds: One seed for each run of the stack.
        seeded: Whether the module's constructor is given the run's seed.

    Raises:
        UserError: As ``read_module``; or the runs differ in vocabulary or length.
    """

    def __init__(
        self,
        modules: list[Callable[[], LightningDataModule]],
        reference: Callable[[], LightningDataModule],
        seeds: Sequence[int],
        seeded: bool = False,
    ) -> None:
        super().__init__(seeds)
        self._modules, self._reference = modules, reference
        self._identity: str | None = None
        first = read_module(modules[0], seeds[0])
        self._drawn = seeded or first.drawn  # else the rows are the same under every seed
        self._readings = [first]
        if self._drawn:
            self._readings += [read_module(*each) for each in zip(modules[1:], seeds[1:], strict=True)]
        self.name, self.title = first.name, first.title
        self._set_tokens()
        readings = self._readings if self._drawn else [first] * len(seeds)
        self.fingerprints = [reading.fingerprint() for reading in readings]
        self.splits = [_number_rows(reading) for reading in readings]
        sizes = {min(reading.rows["train"].batch_size, len(reading.rows["train"].inputs_NT)) for reading in readings}
        if len(sizes) > 1:
            raise UserError(f"data is {self.name}, whose batches have {sorted(sizes)[:5]} rows in runs of one stack")
        self.set_batch_size(sizes.pop())
        self.notes = _describe_splits(self._readings[0])

    def _set_tokens(self) -> None:
        """Takes the first run's vocabulary and lengths, which all runs must have."""
        self.vocabulary = self._readings[0].vocabulary
        (first, *others) = (reading.rows["train"] for reading in self._readings)
        self.prompt_length, self.answer_length = first.inputs_NT.shape[1], first.targets_NA.shape[1]
        for reading, rows in zip(self._readings[1:], others, strict=True):
            shapes = [(part.inputs_NT.shape[1], part.targets_NA.shape[1]) for part in (first, rows)]
            if shapes[0] != shapes[1] or reading.vocabulary != self.vocabulary:
                raise UserError(
                    f"data is {self.name}, whose tokens differ between the runs of a stack; give it an attribute "
                    "vocabulary_size and rows of one length, or train its runs in stacks of one"
                )
        parts = [part for reading in self._readings for rows in reading.rows.values() for part in rows[:2]]
        self.padded = any(bool((part == PADDING).any()) for part in parts)
        self.columns = ["inputs", "answer"]
        self._numbers = {text: number for number, text in enumerate(self.vocabulary)}

    @property
    def class_name(self) -> str:
        return self.name or super().class_name

    def identity(self) -> str:
        """The class, with a hash of all rows as they are under one seed, the same for every run."""
        if self._identity is None:
            reading = self._readings[0]
            if self._drawn and self.seeds[0] != REFERENCE:
                reading = read_module(self._reference, REFERENCE)
            self._identity = f"{reading.name}(rows={reading.fingerprint_of_set()})"
        return self._identity

    def check_repeatable(self) -> None:
        """Refuses a module that gives other rows when it is set up again: such a run could not be resumed."""
        first, again = self._readings[0], read_module(self._modules[0], self.seeds[0])
        if again.fingerprint() != first.fingerprint():
            raise UserError(
                f"data is {self.name}, which gives other rows each time it is set up, so that no run could be resumed; "
                "draw them with the global generators of torch, numpy or random (which each run seeds), or from a seed"
            )

    def rows(self) -> Rows:
        wholes = [_join(reading) for reading in self._readings]
        most = max(len(inputs_NT) for inputs_NT, _ in wholes)
        inputs, answers = (
            np.stack([np.concatenate([part, part[:1].repeat(most - len(part), axis=0)]) for part in parts])
            for parts in zip(*wholes, strict=True)
        )
        return Rows(inputs if len(wholes) > 1 else inputs[0], answers)

    def encode(self, text: str) -> Column:
        words = text.strip().removesuffix("=").split()
        unknown = next((word for word in words if word not in self._numbers), None)
        example = show(self.example, 200)
        if unknown is not None:
            raise UserError(
                f"prompt {show(text)} has {show(unknown)}; expected for {self.name} are tokens from "
                f"{self.vocabulary[0]} to {self.vocabulary[-1]} with spaces between, such as {example}"
            )
        fits = 1 <= len(words) <= self.prompt_length if self.padded else len(words) == self.prompt_length
        if not fits:
            raise UserError(
                f"prompt {show(text)} has {len(words)} of {self.prompt_length} tokens; "
                f"expected for {self.name} is one such as {example}"
            )
        missing = [PADDING] * (self.prompt_length - len(words))
        return np.array([*missing, *(self._numbers[word] for word in words)], dtype=np.int64)

    def advise_test_rows(self) -> str:
        return f"; for test rows give {self.name} a test_dataloader"

    @property
    def example(self) -> str:
        return self.describe(0)[0]

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(self.vocabulary[token] for token in tokens if token >= 0)

    def show(self, prompt: str, continuation: str) -> str:
        return f"{prompt.strip().removesuffix('=').strip()} = {continuation}"

    def describe(self, row: int) -> list[str]:
        return [self.decode(part[row].tolist()) for part in self._first]

    @cached_property
    def _first(self) -> tuple[Column, Column]:
        """All rows of the first run."""
        return _join(self._readings[0])


def _join(reading: Reading) -> tuple[Column, Column]:
    """The rows of all splits, one after the other: inputs and targets."""
    inputs = np.concatenate([rows.inputs_NT for rows in reading.rows.values()])
    return inputs, np.concatenate([rows.targets_NA for rows in reading.rows.values()])


def _number_rows(reading: Reading) -> Split:
    """Row numbers of each split; without validation rows, validation has those of training."""
    ends = np.cumsum([len(rows.inputs_NT) for rows in reading.rows.values()])
    parts = dict(zip(reading.rows, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    return Split(parts["train"], parts.get("val", parts["train"]), parts.get("test", np.arange(0)), None)


def _describe_splits(reading: Reading) -> list[str]:
    """What whoever trains on these rows should know, a line each."""
    if "val" not in reading.rows:
        return [f"data: {reading.name} has no validation rows; validation is on its training rows"]
    train = {row.tobytes() for row in reading.rows["train"].inputs_NT}
    count = sum(row.tobytes() in train for row in reading.rows["val"].inputs_NT)
    total = len(reading.rows["val"].inputs_NT)
    return [f"data: {count:,} of {total:,} validation inputs are training inputs too"] if count else []
