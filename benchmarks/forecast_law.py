"""Tables of the delay law and of early-warning signals."""

from collections.abc import Hashable, Sequence

import numpy as np
from forecast_scores import markdown, percent
from numpy.typing import NDArray
from predictors.common import clock, delay, grokked, memorized, norm_at_memorization
from predictors.law import fit as law_of
from signals import SIGNALS, Signal, alarm_step, column_of

from grok_lightning.forecast.bootstrap import interval
from grok_lightning.forecast.features import class_name
from grok_lightning.forecast.history import History
from grok_lightning.forecast.law import Law

FEWEST = 5  # runs of a signal
Places = NDArray[np.intp]


def base_cell(
    history: History, task: bool = True, fraction: bool = True, layers: bool = True, other: bool = True
) -> bool:
    """Whether a run is of the cell ``x + y`` mod 97, half the table, one pre-norm layer, AdamW with decoupled decay."""
    options = history.options
    plain = not options.get("model.network.dropout") and options.get("model.filters") in ([], "[]", None)
    plain = plain and options.get("model.loss") == "cross_entropy" and options.get("data.batch_size") == 512
    plain = plain and options.get("model.network.norm") == "pre" and options.get("data.pairing") == "free"
    return (
        clock(history) > 0
        and class_name(options, "model.optimizer") == "AdamW"
        and options.get("model.optimizer.decay") == "zero"
        and class_name(options, "model.network") == "Transformer"
        and (plain or not other)
        and (not task or (options.get("data.formula") == "x + y" and options.get("data.modulus") == 97))
        and (not fraction or options.get("data.train_fraction") == 0.5)
        and (not layers or options.get("model.network.layers") == 1)
    )


def law(histories: Sequence[History]) -> str:
    """Two constants from one cell, and the law elsewhere."""
    runs = grokked(histories)
    cell = [each for each in runs if base_cell(each)]
    fitted, conditions = law_of(cell), [each.condition() for each in cell]

    def constants(places: Places) -> Law:
        return law_of([cell[place] for place in places])

    kappa = interval(lambda places: constants(places).kappa, conditions)
    norm = interval(lambda places: constants(places).norm, conditions)
    head = ["runs", "n", "delays, from to", "law of the cell: error", "clock of the cell: error",
            "law of these runs: error", "κ", "ln V*", "ηλ × grok step, 10 to 90 %"]  # fmt: skip
    rows = [[name, *_law_row(part, cell)] for name, part in _groups(runs) if len(part) > 1]
    ticks = [clock(each) for each in cell]
    note = (
        f"The cell: {len(cell)} runs of {len(set(conditions))} conditions, learning rate times decay over a factor of "
        f"{max(ticks) / min(ticks):.0f}. κ = {fitted.kappa:.2f} ({kappa[0]:.2f} to {kappa[1]:.2f}), "
        f"V* = {fitted.norm:.0f} ({norm[0]:.0f} to {norm[1]:.0f})."
    )
    return f"{markdown(head, rows)}\n\n{note}"


def _groups(runs: Sequence[History]) -> list[tuple[str, list[History]]]:
    """Runs that differ from the cell in one thing, and in more."""
    decayed = [each for each in runs if clock(each) > 0]

    def beside(**freed: bool) -> list[History]:
        return [each for each in runs if base_cell(each, **freed) and not base_cell(each)]

    options = {id(each): each.options for each in runs}
    others = [
        each
        for each in decayed
        if class_name(options[id(each)], "model.optimizer") != "AdamW"
        or options[id(each)].get("model.optimizer.decay") != "zero"
    ]
    return [
        ("the cell itself, its conditions left out in turn", [each for each in runs if base_cell(each)]),
        ("other fractions, else the cell", beside(fraction=False)),
        ("two layers, else the cell", beside(layers=False)),
        ("other tasks, else the cell or with two layers", beside(task=False) + [
            each for each in beside(task=False, layers=False) if not base_cell(each, layers=False)
            and not base_cell(each, task=False)
        ]),
        ("any task, fraction and number of layers", [
            each for each in runs if base_cell(each, task=False, fraction=False, layers=False)
        ]),
        ("dropout, filters, other losses, norms or batches, else the cell", beside(other=False)),
        ("MLP, LSTM and GRU", [
            each for each in decayed if class_name(options[id(each)], "model.network") != "Transformer"
        ]),
        ("other optimizers, or L2 in the gradient", others),
        ("all runs with decay", decayed),
    ]  # fmt: skip


def _law_row(runs: Sequence[History], cell: Sequence[History]) -> list[str]:
    """Law and clock of the cell on some runs; on those of the cell, of its other conditions."""
    norms, clocks, delays = (
        np.array([of(each) for each in runs], float) for of in (norm_at_memorization, clock, delay)
    )
    starts = np.array([memorized(each) for each in runs], float)
    ends, conditions = starts + delays, [each.condition() for each in runs]

    def error(law: Law, places: Places) -> NDArray[np.float64]:
        return np.abs((starts[places] + law.delay(norms[places], clocks[places])) / ends[places] - 1)

    own, by_law, by_clock = law_of(runs), np.empty(len(runs)), np.empty(len(runs))
    groups = [np.ones(len(runs), bool)]
    if runs == cell:
        groups = [np.array([each == left for each in conditions]) for left in sorted(set(conditions))]
    for out in groups:
        rest = [each for each, left in zip(runs, out, strict=True) if not left] if runs == cell else cell
        by_law[out] = error(law_of(rest), np.flatnonzero(out))
        ticks = np.exp(np.mean([np.log(clock(each) * delay(each)) for each in rest]))
        by_clock[out] = np.abs((starts[out] + ticks / clocks[out]) / ends[out] - 1)
    low, high = np.quantile(clocks * ends, [0.1, 0.9])
    return [
        str(len(runs)), f"{delays.min():,.0f} to {delays.max():,.0f}", percent(by_law, conditions),
        percent(by_clock, conditions), percent(error(own, np.arange(len(runs))), conditions), f"{own.kappa:.2f}",
        f"{np.log(own.norm):.2f}", f"{low:.2g} to {high:.2g}",
    ]  # fmt: skip


def signals(histories: Sequence[History]) -> str:
    """Lead time and false alarms of each signal."""
    waiting = [each for each in histories if each.waits and (each.grok_step or each.last >= each.budget)]
    head = ["signal", "alarm after memorization", "grokked / not", "warned before the grok", "lead, steps (median)",
            "lead, share of the wait (median)", "false alarms"]  # fmt: skip
    rows, left_out = [], []
    for signal in SIGNALS:
        runs = [each for each in waiting if column_of(signal, each)]
        reached = [each for each in runs if each.grok_step is not None]
        if len(reached) < FEWEST:
            left_out.append(f"{signal.name} ({len(reached)} runs that grokked have `{signal.columns[0]}`)")
            continue
        others = [each for each in runs if each.grok_step is None]
        rows.append(
            [signal.name, signal.rule, f"{len(reached)} / {len(others)}", *_signal_row(signal, reached, others)]
        )
    note = f"\n\nLeft out, having fewer than {FEWEST} runs: {'; '.join(left_out)}." if left_out else ""
    return markdown(head, rows) + note


def _signal_row(signal: Signal, reached: Sequence[History], others: Sequence[History]) -> list[str]:
    alarms = np.array([alarm_step(signal, each) or np.inf for each in reached])
    starts = np.array([memorized(each) for each in reached], float)
    groks = starts + np.array([delay(each) for each in reached])
    warned = alarms < groks
    lead = np.where(warned, groks - alarms, 0.0)
    share = 100 * lead / (groks - starts)
    owners = [each.condition() for each in reached]
    false = np.array([alarm_step(signal, each) is not None for each in others], float)
    return [
        percent(warned.astype(float), owners), _median(lead, owners), f"{_median(share, owners)} %",
        percent(false, [each.condition() for each in others]) if len(false) else "-",
    ]  # fmt: skip


def _median(values: NDArray[np.float64], owners: Sequence[Hashable]) -> str:
    low, high = interval(lambda places: float(np.median(values[places])), owners)
    return f"{np.median(values):,.0f} ({low:,.0f} to {high:,.0f})"
