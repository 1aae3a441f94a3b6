"""Sums of loss, of right answers and of equations over a batch."""

from grok_lightning.objective import Score, row_scores


def score(logits, targets, *options, **more) -> Score:
    """The sums over the equations of ``row_scores``."""
    losses, right, counted, _ = row_scores(logits, targets, *options, **more)
    return Score(losses.double().sum(-1), right.sum(-1), counted.sum(-1))
