"""Padding before and after an equation changes nothing that the equation computes."""

import pytest
import torch
from small_transformers import MODERN, VOCABULARY, assert_same, build, tokens

from grok_lightning.batch import PADDING, Beginnings, Draw

LONGEST = 11
every_option = pytest.mark.parametrize(
    "options",
    [
        *[{"positions": "learned"}, {"positions": "sinusoidal", "norm": "post"}, {"positions": "rotary"}],
        *[{"norm": "none", "bias": False}, {"norm": "none", "layers": 1, "tied": True}, MODERN],
    ],
    ids=str,
)


def build_padded(**options):
    return build(length=LONGEST, padded=True, **options)


def between(equations, before, after):
    return torch.nn.functional.pad(equations, (before, after), value=PADDING)


def logits_and_gradients(model, row, before, length):
    """The logits at an equation's own positions, and what a loss of them gives every weight."""
    logits = model(row, row.shape[-1])[:, :, before : before + length]
    return [logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))]


@every_option
def test_padding_changes_neither_logits_nor_gradients(options) -> None:
    model, equations = build_padded(**options), tokens()
    alone = logits_and_gradients(model, equations, 0, 5)
    for before, after in ((0, 2), (1, 0), (5, 0), (5, 1), (1, 4)):
        padded = logits_and_gradients(model, between(equations, before, after), before, 5)
        for without, with_padding in zip(alone, padded, strict=True):
            assert without.isfinite().all()
            assert_same(without, with_padding)


@every_option
def test_equations_of_different_lengths_are_each_as_alone(options) -> None:
    model, own = build_padded(**options), []
    where = [(0, 3), (2, 7), (6, 8), (0, 11), (7, 11), (4, 5)]
    together = torch.full((3, len(where), LONGEST), PADDING)
    for place, (start, stop) in enumerate(where):
        equation = (torch.arange(start, stop) * (place + 2) + torch.arange(3)[:, None]) % VOCABULARY
        together[:, place, start:stop] = equation
        own.append(model(equation[:, None], stop - start)[:, 0])
    together[1] = together[1].roll(1, 0)  # runs differ in where their padding stands
    logits = model(together, LONGEST)
    for run, shift in enumerate((0, 1, 0)):
        for place, (start, stop) in enumerate(where):
            assert_same(logits[run, (place + shift) % len(where), start:stop], own[place][run])
    assert_same(model(together, 3), logits[:, :, -3:])


@every_option
def test_without_padding_it_is_the_unpadded_model(options) -> None:
    padded, unpadded = build_padded(**options), build(length=LONGEST, **options)
    for ours, theirs in zip(
        logits_and_gradients(padded, tokens(), 0, 5), logits_and_gradients(unpadded, tokens(), 0, 5), strict=True
    ):
        assert_same(ours, theirs)


@every_option
def test_nothing_but_padding_is_finite(options) -> None:
    model = build_padded(**options, dropout=0.5)
    nothing = between(tokens(), 6, 0)
    nothing[:, 0] = PADDING
    logits = model(nothing, LONGEST, Draw(torch.tensor(0)))
    gradients = torch.autograd.grad(logits.sin().sum(), list(model.parameters()))
    assert all(tensor.isfinite().all() for tensor in (logits, *gradients))


def test_padding_is_not_attended_to() -> None:
    pattern = build_padded().activations(between(tokens(), 3, 2))["layers.0.attention.pattern"]
    assert not pattern[..., 3:8, :3].any()
    assert not pattern[..., 3:8, 8:].any()
    assert_same(pattern[..., :3, :3], torch.eye(3, dtype=torch.float64).expand(3, 6, 4, 3, 3))
    assert (pattern[..., 3:8, 3:8].tril() == pattern[..., 3:8, 3:8]).all()


def test_padded_equations_share_no_beginnings() -> None:
    model, equations = build_padded(), between(tokens(), 3, 2)
    wrong = Beginnings(torch.zeros(2, 2, dtype=torch.int64), torch.zeros(3, 6, dtype=torch.int64))
    assert torch.equal(model(equations, 4, None, wrong), model(equations, 4))
