"""A report from its sources to its folder."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from urllib.parse import unquote

import markdown
import pandas as pd

from grok_lightning.figures.saving import png, svg
from grok_lightning.records.archive import write_archive
from grok_lightning.report.after_grok import tabulate_after_grok
from grok_lightning.report.conditions import compare_conditions, tabulate_conditions
from grok_lightning.report.drawings import Drawing, list_drawings, list_left_out
from grok_lightning.report.frames import tabulate_runs
from grok_lightning.report.gather import Gathered, gather
from grok_lightning.report.keys import find_keys, find_varying_keys
from grok_lightning.report.pooling import describe_pooled, refuse_pooled
from grok_lightning.report.results import tabulate_results
from grok_lightning.report.setup import describe_setup
from grok_lightning.report.text import compose_markdown, find_figures

RESOLUTION = 150  # dots per inch of PNG files
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top; white-space: nowrap; }
th { text-align: left; background: #f6f6f6; white-space: normal; } img { max-width: 100%; height: auto; }
pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; } summary { cursor: pointer; }
@media (prefers-color-scheme: dark) { body, img { background: #fff; } }
"""


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
        return list(list_drawings(self.runs, self.gathered.curves, self.keys))

    @property
    def setup(self) -> list[tuple[str, str]]:
        """What its runs share, and what varies."""
        return describe_setup(self.runs, self.gathered.runs)

    def write(self, out: Path, title: str, command: str) -> None:
        """Writes the folder.

        Args:
            out: Where; files of an earlier report there are replaced, figures that this one does not have are removed.
            title: The heading.
            command: The command that makes it.
        """
        out.mkdir(parents=True, exist_ok=True)
        for drawing in self.drawings:
            table, figure = drawing.make()
            table.to_csv(out / f"{drawing.name}.csv", index=False, lineterminator="\n")
            (out / f"{drawing.name}.png").write_bytes(png(figure, RESOLUTION))
            (out / f"{drawing.name}.svg").write_bytes(svg(figure))
        self.conditions.to_csv(out / "conditions.csv", index=False, lineterminator="\n")
        self.tests.to_csv(out / "comparisons.csv", index=False, lineterminator="\n")
        records, curves = self._shorten_paths()
        results = tabulate_results(self.runs, records["path"])
        results.to_csv(out / "runs.csv", index=False, lineterminator="\n")
        write_archive(out / "runs.parquet", records, curves, self.gathered.planned)
        pictures = {drawing.name: drawing.caption for drawing in self.drawings}
        text = compose_markdown(
            title, command, self.setup, self.runs, results, self.conditions,
            self.tests, self.remarks, pictures, list_left_out(self.runs, self.keys), len(self.gathered.planned),
        )  # fmt: skip
        file = out / "report.md"
        earlier = find_figures(file.read_text(encoding="utf-8", errors="replace")) if file.exists() else set()
        for name in earlier - find_figures(text):  # before the list of them is replaced: a kill leaves none behind
            (out / name).unlink(missing_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
        (out / "report.html").write_text(render_html(text, out, title), encoding="utf-8", newline="\n")

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
    keys = find_varying_keys(options, gathered.varied()) if by is None else find_keys(by, options)
    runs, missing = tabulate_runs(gathered, keys)
    refuse_pooled(runs)
    conditions = tabulate_conditions(runs, missing)
    conditions = conditions.join(tabulate_after_grok(runs, conditions))
    remarks = [*gathered.remarks, *describe_pooled(runs, gathered.runs, keys)]
    return Report(gathered, runs, conditions, compare_conditions(runs), remarks, [key.name for key in keys])


def render_html(text: str, folder: Path, title: str) -> str:
    """Renders Markdown as one HTML file with its images inside.

    Args:
        text: The Markdown.
        folder: Where its images lie.
        title: The document's title.
    """

    def embed(found: re.Match[str]) -> str:
        return f'src="data:image/png;base64,{base64.b64encode((folder / unquote(found[1])).read_bytes()).decode()}"'

    body = markdown.markdown(text, extensions=["tables", "sane_lists", "md_in_html"])
    body = re.sub(r'src="([^":]+\.png)"', embed, body)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n'
