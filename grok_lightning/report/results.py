"""The table of runs: a row for each, with its accuracies, losses and steps."""

import pandas as pd

from grok_lightning.report.after_grok import COLUMNS as AFTER_COLUMNS
from grok_lightning.report.frames import SPLITS

STEPS = ("memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step")


def tabulate_results(runs: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """One row per run: what it was and what came out.

    Args:
        runs: Runs from ``tabulate_runs``.
        names: The name of each run.

    Returns:
        The keys and ``condition``, ``operation``, ``seed``, ``status``, ``steps``, ``budget``, ``threshold``, numbers
        of rows of the splits that are known, accuracy and loss of training, validation and, if any run has them, test
        rows at the last evaluation, ``best_val_acc``, the steps of memorizing and grokking, what became of the run
        after the grok (``tabulate_runs``), ``run`` and ``config_hash``. Missing values are empty; conditions are in
        their order.
    """
    keys = [str(name) for name in runs.columns[: list(runs.columns).index("condition")]]
    known = [name for name in (f"{split}_rows" for split in SPLITS) if runs[name].notna().any()]
    ends = [f"final_{split}_{measure}" for measure in ("acc", "loss") for split in SPLITS]
    ends = [name for name in ends if "test" not in name or runs[name].notna().any()]
    whole_after = [name for name in AFTER_COLUMNS if name not in ("watched", "lowest_val_acc")]
    integers = ["seed", "steps", "budget", *known, *STEPS, *whole_after]
    columns = ["condition", "operation", "seed", "status", "steps", "budget", "threshold", *known, *ends,
               "best_val_acc", *STEPS, *AFTER_COLUMNS, "config_hash"]  # fmt: skip
    table = runs[[*keys, *columns]].assign(run=names).sort_values("condition", kind="stable", ignore_index=True)
    whole = [name for name in integers if (table[name].dropna() % 1 == 0).all()]
    return table.astype(dict.fromkeys(whole, "Int64"))[[*keys, *columns[:-1], "run", "config_hash"]]
