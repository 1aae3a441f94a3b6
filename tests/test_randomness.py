"""Randomness is uniform, independent across keys and counters, and a pure function of both."""

import itertools

import pytest
import torch

from grok_lightning.randomness import derive_key, derive_keys, hashed, mix, normal, permutations, uniform

COUNTER = torch.arange(2**16)
KEYS = {
    "derived from seeds": derive_keys(range(6), "dropout", "layers.0.dropout"),
    "mixed from steps": mix(mix(torch.arange(6)) ^ derive_key(0, "dropout", "layers.0.dropout")),
    "consecutive": torch.arange(6),
}


def chi_square(cells, number_of_cells):
    """How many standard deviations the chi-square statistic of equally likely cells lies above its mean."""
    observed = torch.bincount(cells, minlength=number_of_cells).double()
    expected = len(cells) / number_of_cells
    statistic = ((observed - expected) ** 2 / expected).sum().item()
    return (statistic - (number_of_cells - 1)) / (2 * (number_of_cells - 1)) ** 0.5


@pytest.mark.parametrize("keys", KEYS)
def test_numbers_are_uniform(keys) -> None:
    numbers = uniform(KEYS[keys][:, None], COUNTER)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for row in numbers:
        assert abs(chi_square((row * 256).long(), 256)) < 5
        assert abs(row.double().mean() - 0.5) < 5 * (1 / 12 / len(row)) ** 0.5


@pytest.mark.parametrize("keys", KEYS)
def test_every_bit_is_fair(keys) -> None:
    bits = hashed(KEYS[keys][:, None], COUNTER)[..., None] >> torch.arange(32) & 1
    deviations = (bits.double().mean(1) - 0.5) * 2 * len(COUNTER) ** 0.5
    assert deviations.abs().max() < 5


@pytest.mark.parametrize("keys", KEYS)
def test_keys_are_independent_of_each_other(keys) -> None:
    numbers = (uniform(KEYS[keys][:, None], COUNTER) * 16).long()
    for one, other in itertools.combinations(numbers, 2):
        assert abs(chi_square(one * 16 + other, 256)) < 5


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("lag", [1, 2, 128, 512])
def test_neighboring_counters_are_independent(keys, lag) -> None:
    for row in (uniform(KEYS[keys][:, None], COUNTER) * 16).long():
        assert abs(chi_square(row[:-lag] * 16 + row[lag:], 256)) < 5


def test_the_scramble_is_a_bijection_on_samples() -> None:
    low, high = torch.arange(2**18), torch.arange(2**32 - 2**18, 2**32)
    scrambled = mix(torch.cat([low, high, low[1:] << 14]).unique())
    assert len(scrambled.unique()) == len(scrambled)
    assert scrambled.min() >= 0
    assert scrambled.max() < 2**32


def test_permutations_are_permutations() -> None:
    keys = derive_keys(range(50), "batches", 0)
    for length in (1, 2, 97, 1000):
        orders = permutations(keys, length)
        assert torch.equal(orders.sort(1).values, torch.arange(length).expand(50, length))


def test_every_order_is_equally_likely() -> None:
    orders = permutations(derive_keys(range(24_000), "batches", 0), 4)
    cells = (orders * torch.tensor([64, 16, 4, 1])).sum(1).unique(return_inverse=True)[1]
    assert cells.max() == 23
    assert abs(chi_square(cells, 24)) < 5


def test_every_place_is_equally_likely() -> None:
    orders = permutations(derive_keys(range(2000), "batches", 0), 50)
    for place in (0, 1, 25, 49):
        assert abs(chi_square(orders[:, place], 50)) < 5


def test_repeated_calls_agree_and_a_stack_changes_nothing() -> None:
    keys = derive_keys([8, 3, 5], "batches", 2)
    assert torch.equal(keys, torch.tensor([derive_key(seed, "batches", 2) for seed in (8, 3, 5)]))
    for run in range(3):
        assert torch.equal(permutations(keys, 100)[run], permutations(keys[run : run + 1], 100)[0])
        assert torch.equal(uniform(keys[:, None], COUNTER)[run], uniform(keys[run], COUNTER))


def test_keys_differ_between_seeds_and_purposes() -> None:
    purposes = [("batches", 0), ("batches", 1), ("split",), ("dropout", "layers.0.dropout"), ("batches", "0")]
    keys = [derive_key(seed, *purpose) for seed in range(-50, 50) for purpose in purposes]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**32 for key in keys)


def test_numbers_are_the_ones_that_recorded_runs_were_made_with() -> None:
    assert derive_key(0, "batches", 0) == 2277793989
    assert hashed(torch.tensor(1), torch.arange(4)).tolist() == [953045805, 998406969, 2779792813, 2497216295]
    assert permutations(derive_keys([0], "batches", 0), 8)[0].tolist() == [2, 6, 3, 1, 5, 4, 7, 0]


def test_normal_numbers_are_standard_and_pure() -> None:
    state = torch.get_rng_state()
    numbers = normal((200, 300), 0, "initial weights", "head.weight")
    assert torch.equal(numbers, normal((200, 300), 0, "initial weights", "head.weight"))
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(numbers.mean()) < 5 / 60_000**0.5
    assert abs(numbers.std() - 1) < 5 / 120_000**0.5
    for other in (
        normal((200, 300), 1, "initial weights", "head.weight"),
        normal((200, 300), 0, "initial weights", "x"),
    ):
        assert abs((numbers * other).mean()) < 5 / 60_000**0.5
