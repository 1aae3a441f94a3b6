"""A report from its sources to its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from grok_lightning.figures.saving import png, svg
from grok_lightning.records.archive import write_archive
from grok_lightning.report.conditions import comparisons, conditions_table
from grok_lightning.report.drawings import Drawing, drawings
from grok_lightning.report.frames import frame
from grok_lightning.report.gather import Gathered, gather
from grok_lightning.report.keys import find_keys, varying_keys
from grok_lightning.report.page import page
from grok_lightning.report.pooling import pooled_options, refuse_pooled
from grok_lightning.report.written import figure_files, written

RESOLUTION = 150  # dots per inch of PNG files


@dataclass(frozen=True)
class Report:
    """A report: tables, remarks and figures.

    Attributes:
        gathered: The records.
        runs: One row per run, with its condition.
        conditions: One row per condition.
        tests: Log-rank tests between them.
        remarks: Remarks for the reader.
        keys: The options that group runs into conditions.
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
            out: Where; files of an earlier report there are replaced, figures that this one does not have are removed.
            title: The heading.
            command: The command that makes it.
        """
        out.mkdir(parents=True, exist_ok=True)
        _draw(self.drawings, out)
        self._write_tables(out)
        pictures = {drawing.name: drawing.caption for drawing in self.drawings}
        text = written(title, command, self.runs, self.conditions, self.tests, self.remarks, pictures)
        markdown = out / "report.md"
        earlier = figure_files(markdown.read_text(encoding="utf-8", errors="replace")) if markdown.exists() else set()
        for name in earlier - figure_files(text):  # before the list of them is replaced: a kill leaves none behind
            (out / name).unlink(missing_ok=True)
        markdown.write_text(text, encoding="utf-8", newline="\n")
        (out / "report.html").write_text(page(text, out, title), encoding="utf-8", newline="\n")

    def _write_tables(self, out: Path) -> None:
        self.conditions.to_csv(out / "conditions.csv", index=False, lineterminator="\n")
        self.tests.to_csv(out / "comparisons.csv", index=False, lineterminator="\n")
        write_archive(out / "runs.parquet", *self._shorten_paths(), self.gathered.planned)

    def _shorten_paths(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Records and curves for the archive, with runs named ``experiment/run`` if those names are unique."""
        runs, curves = self.gathered.runs.drop(columns="experiment"), self.gathered.curves
        names = {path: "/".join(Path(path).parts[-2:]) for path in runs["path"]}
        if len(set(names.values())) < len(names):
            return runs, curves
        return runs.assign(path=runs["path"].map(names)), curves.assign(run=curves["run"].map(names))


def make_report(sources: Sequence[str], root: Path, by: Sequence[str] | None = None) -> Report:
    """Reads records and computes the tables of a report.

    Args:
        sources: Experiments, runs, directories or archives, as ``gather`` takes them.
        root: Where ``lightning_logs`` lies.
        by: The options that group runs into conditions; default: those that vary, never the seeds.

    Raises:
        UserError: A source or an option does not exist, or a condition would pool several tasks or thresholds.
    """
    gathered = gather(sources, root)
    options = gathered.options()
    keys = varying_keys(options, gathered.varied()) if by is None else find_keys(by, options)
    runs, missing = frame(gathered, keys)
    refuse_pooled(runs)
    conditions = conditions_table(runs, missing)
    remarks = [*gathered.remarks, *pooled_options(runs, gathered.runs, keys)]
    return Report(gathered, runs, conditions, comparisons(runs), remarks, [key.name for key in keys])


def _draw(drawings: Sequence[Drawing], out: Path) -> None:
    for drawing in drawings:
        table, figure = drawing.make()
        table.to_csv(out / f"{drawing.name}.csv", index=False, lineterminator="\n")
        (out / f"{drawing.name}.png").write_bytes(png(figure, RESOLUTION))
        (out / f"{drawing.name}.svg").write_bytes(svg(figure))
