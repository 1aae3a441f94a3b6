"""Made-up sets of runs, as reports hand them to figures."""

import numpy as np
import pandas as pd

BUDGET = 20_000


def runs_of(
    values: list, seeds: int = 3, key: str = "train_fraction", other: dict[str, list] | None = None
) -> pd.DataFrame:
    """Runs for each value of a key, later values sooner; of each seven runs one does not grok, one diverges."""
    rows: list[dict] = []
    for name, chosen in (other or {"": [""]}).items():
        for second in chosen:
            for place, value in enumerate(values):
                condition = f"{key}={value}" + (f", {name}={second}" if name else "")
                for seed in range(seeds):
                    number = len(rows)
                    grok = float(round(10_000 * 0.9**place * (1 + 0.1 * seed)))
                    status = "diverged" if number % 7 == 5 else "finished"
                    grokked = number % 7 not in (3, 5)
                    rows.append(
                        {key: value}
                        | ({name: second} if name else {})
                        | {"condition": condition}
                        | {"run": f"run {number}", "status": status, "seed": seed, "budget": BUDGET, "threshold": 0.99}
                        | {"steps": int(1.2 * grok) if grokked else 400 if status == "diverged" else BUDGET}
                        | {"memorize_step": np.nan if status == "diverged" else 300.0 + number, "memorize_after": 290.0}
                        | {"grok_step": grok if grokked else np.nan, "grok_after": 0.9 * grok if grokked else np.nan}
                        | {"sustained_grok_step": grok if grokked else np.nan}
                        | {"best_val_acc": 1.0 if grokked else 0.3, "final_val_acc": 1.0 if grokked else 0.2}
                        | {"final_train_acc": 1.0}
                    )
    return ordered(pd.DataFrame(rows))


def ordered(runs: pd.DataFrame) -> pd.DataFrame:
    """With the conditions as categories in the order they come in."""
    names = list(pd.unique(runs["condition"]))
    return runs.assign(condition=pd.Categorical(runs["condition"], names, ordered=True))


def curves_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Evaluations at round steps up to each run's last."""
    parts = []
    for run in runs.itertuples():
        schedule = np.array([0, 1, 3, 10, 30, 100, 300, *range(1000, BUDGET + 1, 1000)])
        step = np.unique([*schedule[schedule < run.steps], run.steps])
        train, val = step / (step + 50), step / (step + (1000 if run.grok_step == run.grok_step else 1e6))
        parts.append(
            pd.DataFrame({"run": run.run, "step": step, "train/acc": train, "val/acc": val})
            .assign(**{"train/loss": 5 - 4.9 * train, "val/loss": 5 - 4.9 * val})
        )  # fmt: skip
    columns = ["run", "step", "train/acc", "val/acc", "train/loss", "val/loss"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
