"""Accuracy and loss against steps."""

from collections.abc import Mapping
from math import inf, isnan

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok_lightning.figures import style
from grok_lightning.records.record import Row


def draw_curves(rows: list[Row], milestones: Mapping[str, int | None], title: str) -> Figure:
    """Training and validation accuracy and loss of one run on a logarithmic step axis.

    Args:
        rows: The run's evaluations, oldest first; step 0 is left out of the logarithmic axis.
        milestones: ``memorize_step`` and ``grok_step``, marked if they are known.
        title: The figure's title.

    Returns:
        A figure of two panels, accuracy in percent above loss in nats.
    """
    shown = [row for row in rows if row["step"] > 0]
    steps = [row["step"] for row in shown]
    figure = Figure(figsize=(7, 6), layout="constrained")
    accuracy, loss = figure.subplots(2, 1, sharex=True)
    for split, color, label in (("train", style.TRAIN, "training"), ("val", style.VAL, "validation")):
        if split == "val" and shown and all(isnan(row[f"val/{name}"]) for row in shown for name in ("acc", "loss")):
            continue  # no rows are held out
        accuracy.plot(steps, [100 * row[f"{split}/acc"] for row in shown], color=color, label=label)
        loss.plot(steps, [row[f"{split}/loss"] for row in shown], color=color, label=label)
    for axes in (accuracy, loss):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    accuracy.set(ylabel="accuracy (%)", ylim=(-3, 106))
    loss.set(ylabel="loss")
    style.set_step_axis(loss, "x", min(steps, default=1), max(steps, default=1))
    if any(0 < row[f"{split}/loss"] < inf for row in shown for split in ("train", "val")):
        style.set_loss_axis(loss)
    _mark_steps(accuracy, loss, milestones)
    accuracy.legend(frameon=False, loc="center left")
    figure.suptitle(title, fontsize=11)
    return figure


def _mark_steps(accuracy: Axes, loss: Axes, milestones: Mapping[str, int | None]) -> None:
    """Dotted lines through both panels, named above the upper one, a row each so that the names never meet."""
    for row, (name, word) in enumerate((("memorize_step", "memorized"), ("grok_step", "grokked"))):
        step = milestones.get(name)
        if not step:  # not reached, or at step 0, which a logarithmic axis does not have
            continue
        for axes in (accuracy, loss):
            axes.axvline(step, color=style.NOTE, linewidth=1, linestyle=":")
        accuracy.annotate(
            f"{word} at step {step:,}", (step, 1), xycoords=("data", "axes fraction"), xytext=(2, 4 + 13 * row),
            textcoords="offset points", ha="right", va="bottom", fontsize=9, color=style.NOTE,
        )  # fmt: skip
