"""A report from its sources to its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from grok_lightning.index.archive import write_archive
from grok_lightning.report.conditions import comparisons, conditions_table
from grok_lightning.report.drawings import Drawing, drawings
from grok_lightning.report.frames import frame, missing_runs, refuse_mixed_operations
from grok_lightning.report.gather import Gathered, gather
from grok_lightning.report.keys import find_key, varying_keys, varying_within
from grok_lightning.report.page import page
from grok_lightning.report.written import Picture, written

RESOLUTION = 150  # dots per inch of PNG files


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Attributes:
        gathered: The records it is made from.
        runs: One row per run, with its condition.
        conditions: One row per condition.
        tests: Log-rank tests between them.
        remarks: What a reader must know.
        keys: The options that part runs into conditions.
    """

    gathered: Gathered
    runs: pd.DataFrame
    conditions: pd.DataFrame
    tests: pd.DataFrame
    remarks: list[str]
    keys: list[str]

    @cached_property
    def drawings(self) -> list[Drawing]:
        """Its figures."""
        return list(drawings(self.runs, self.gathered.curves, self.keys))

    def write(self, out: Path, title: str, command: str) -> None:
        """Writes the folder.

        Args:
            out: Where; files of an earlier report there are replaced.
            title: The heading.
            command: What makes it again.
        """
        out.mkdir(parents=True, exist_ok=True)
        for drawing in self.drawings:
            drawing.table.to_csv(out / f"{drawing.name}.csv", index=False)
            drawing.figure.savefig(out / f"{drawing.name}.png", dpi=RESOLUTION)
            drawing.figure.set_layout_engine("none")  # it is laid out by now; doing it twice takes a second in all
            drawing.figure.savefig(out / f"{drawing.name}.svg")
        self.conditions.to_csv(out / "conditions.csv", index=False)
        self.tests.to_csv(out / "comparisons.csv", index=False)
        write_archive(out / "runs.parquet", *self._archived())
        pictures = [Picture(drawing.name, drawing.caption) for drawing in self.drawings]
        text = written(title, command, self.runs, self.conditions, self.tests, self.remarks, pictures)
        (out / "report.md").write_text(text)
        (out / "report.html").write_text(page(text, out, title))

    def _archived(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Records and curves, runs called ``experiment/run`` where that is enough: other machines read them too."""
        runs, curves = self.gathered.runs.drop(columns="experiment"), self.gathered.curves
        names = {path: "/".join(Path(path).parts[-2:]) for path in runs["path"]}
        if len(set(names.values())) < len(names):
            return runs, curves
        return runs.assign(path=runs["path"].map(names)), curves.assign(run=curves["run"].map(names))


def make_report(sources: Sequence[str], root: Path, by: Sequence[str] | None = None) -> Report:
    """Reads records and works out what they say.

    Args:
        sources: Experiments, runs, directories or archives, as ``gather`` takes them.
        root: Where ``lightning_logs`` lies.
        by: The options that part runs into conditions; default: what varies, never the seeds.

    Raises:
        UserError: If a source or an option does not exist, or a condition would mix operations.
    """
    gathered = gather(sources, root)
    if by is None:
        keys = varying_keys(gathered.runs, gathered.planned)
    else:
        keys = list(dict.fromkeys(find_key(name, gathered.runs) for name in by))
    runs = frame(gathered, keys)
    refuse_mixed_operations(runs)
    conditions = conditions_table(runs, missing_runs(gathered, runs, keys))
    remarks = [*gathered.remarks]
    if within := varying_within(runs, keys):
        remarks.append(f"Runs of one condition differ in {', '.join(within[:6])} as well; add to --by what matters.")
    return Report(gathered, runs, conditions, comparisons(runs), remarks, [key.name for key in keys])
