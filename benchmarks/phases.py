"""Restricted and excluded loss with the key frequencies of a run's end: ``python benchmarks/phases.py``.

So the source has them (arXiv 2301.05217), and only saved checkpoints can be measured so: those of the sweep
progress-measures. Writes docs/science/results/progress-measures-end.csv.
"""

import sys
from pathlib import Path

import pandas as pd
import torch

from grok_lightning.data.table_datamodule import TableDataModule
from grok_lightning.measures.base import View
from grok_lightning.measures.fourier import spectra
from grok_lightning.measures.progress import Progress, select_key_frequencies
from grok_lightning.run import load_run

HOME = Path(__file__).parents[1]
OUT = HOME / "docs" / "science" / "results" / "progress-measures-end.csv"


def main() -> int:
    """Measures all checkpoints there are."""
    torch.set_num_threads(1)
    folders = sorted(path.parent for path in (HOME / "checkpoints" / "progress-measures").glob("*/last.ckpt"))
    if not folders:
        print("no checkpoints of progress-measures; `make reproduce` makes them", file=sys.stderr)
        return 2
    rows = [row for run in folders for row in measured(run)]
    pd.DataFrame(rows).sort_values(["seed", "step"]).to_csv(OUT, index=False)
    return 0


def measured(folder: Path) -> list[dict[str, object]]:
    """One run's checkpoints, the frequencies being those that stand out in its last."""
    end = load_run(folder / "last.ckpt")
    assert isinstance(end.data, TableDataModule)
    (stands_F,) = select_key_frequencies(spectra(end.model, end.data.operation.algebra.size)["neurons"])
    frequencies = [place + 1 for place in stands_F.nonzero()[:, 0].tolist()]
    rows = []
    for path in [*folder.glob("step=*.ckpt"), folder / "last.ckpt"]:
        run = load_run(path)
        losses = Progress(frequencies)(View(run.model, run.data))
        rows.append(
            {"seed": run.data.seeds[0], "step": run.step, "frequencies": " ".join(map(str, frequencies))}
            | {name: f"{losses[f'progress/{name}'].item():.6g}" for name in ("restricted_loss", "excluded_loss")}
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
