"""Batches are a pure function of (seed, step)."""

import itertools

import torch
from hypothesis import example, given
from hypothesis.strategies import integers, lists

from grok_lightning.data.batches import BatchOrder, Chunks, share

CPU = torch.device("cpu")


def order(seeds, counts, batch_size):
    return BatchOrder(seeds, counts, batch_size, CPU)


any_size = given(count=integers(1, 60), batch_size=integers(1, 40))


@any_size
def test_the_order_of_asking_does_not_matter(count, batch_size) -> None:
    asked = order([0, 1], [count, count], batch_size)
    expected = {step: order([0, 1], [count, count], batch_size)(step) for step in range(30)}
    for step in [*range(30), *range(29, -1, -1), 5, 5, 29, 0, 17, 1_000_000, 17]:
        if step in expected:
            assert torch.equal(asked(step), expected[step])
        else:
            assert asked(step).shape == (2, batch_size)


@any_size
def test_epochs_stand_end_to_end_and_visit_each_row_once(count, batch_size) -> None:
    walk = order([3, 4], [count, count], batch_size)
    steps = -(-6 * count // batch_size)
    rows = torch.cat([walk(step) for step in range(steps)], dim=1)[:, : 6 * count].view(2, 6, count)
    assert torch.equal(rows.sort(-1).values, torch.arange(count).expand(2, 6, count))


def test_epochs_are_shuffled_differently() -> None:
    walk = order([0], [50], 50)
    epochs = [tuple(walk(step)[0].tolist()) for step in range(20)]
    assert len(set(epochs)) == 20
    assert tuple(range(50)) not in epochs


@given(counts=lists(integers(1, 60), min_size=3, max_size=3), batch_size=integers(1, 40))
@example(counts=[23, 23, 23], batch_size=7)
def test_a_stack_walks_as_its_single_runs(counts, batch_size) -> None:
    seeds = [5, 0, 17]
    stack = order(seeds, counts, batch_size)
    singles = [order([seed], [count], batch_size) for seed, count in zip(seeds, counts, strict=True)]
    for step in range(40):
        assert torch.equal(stack(step), torch.cat([single(step) for single in singles]))


def test_equal_seeds_walk_alike_and_others_do_not() -> None:
    rows = order([0, 1, 0], [60, 60, 60], 60)(0)
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    order([0], [60], 60)(3)
    assert torch.equal(torch.get_rng_state(), state)


@given(rows=integers(0, 5000), world_size=integers(1, 9))
@example(rows=0, world_size=2)
@example(rows=2, world_size=5)
def test_shares_follow_each_other_and_cover_everything(rows, world_size) -> None:
    shares = [share(rows, rank, world_size) for rank in range(world_size)]
    assert [row for start, stop in shares for row in range(start, stop)] == list(range(rows))
    sizes = [stop - start for start, stop in shares]
    assert max(sizes) - min(sizes) <= 1


@given(rows=integers(1, 500), size=integers(1, 600), world_size=integers(1, 5))
@example(rows=2, size=3, world_size=5)
def test_chunks_cover_a_split_exactly_once(rows, size, world_size) -> None:
    ranks = [Chunks("val", rows, size, rank, world_size) for rank in range(world_size)]
    chunks = list(itertools.chain(*ranks))
    assert [row for chunk in chunks for row in range(chunk.start, chunk.stop)] == list(range(rows))
    assert all(0 < chunk.stop - chunk.start <= size and chunk.split == "val" for chunk in chunks)
    assert [len(list(rank)) for rank in ranks] == [len(rank) for rank in ranks]
