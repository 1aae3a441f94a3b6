"""The folder of a report: Markdown and HTML that show what was measured as it is called, and all files they name."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from matplotlib.figure import Figure
from records import reporting, sweep, write_run

from grok_lightning.report import making
from grok_lightning.report.drawings import Drawing
from grok_lightning.report.making import render_html
from grok_lightning.report.text import escape_markdown

TABLES = {"conditions", "comparisons", "runs"}
VOID = {"meta", "img", "br", "hr", "link"}


class Page(HTMLParser):
    """What a page shows, what it refers to, and whether its tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.cells: list[str] = []
        self.tags: list[str] = []
        self.targets: dict[str, list[str]] = {"src": [], "href": []}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in self.targets:
                self.targets[name].append(value)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if "td" in self.open:
            self.cells[-1] += data

    @property
    def text(self) -> str:
        return "".join(self.words)


def shown(out: str = "out") -> Page:
    return Page(Path(out, "report.html").read_text())


@pytest.fixture
def report(command, monkeypatch):
    return reporting(command, monkeypatch)


STRANGE = [
    "x < y & z",
    "a | b",
    "x * y * x",
    "<script>alert(1)</script>",
    "_x_ `y` [z](http://a)",
    "# é ☃ 𝄞",
    "1. a\n\n2. b",
]


@pytest.mark.parametrize("title", STRANGE)
def test_titles_come_through(report, title):
    write_run("a")
    assert report("e", "--title", title)[0] == 0
    found = shown()
    assert " ".join(title.split()) in found.text
    assert not {"script", "em", "a", "ol"} & set(found.tags[: found.tags.index("table")])
    assert found.targets["href"] == []


@pytest.mark.parametrize("formula", ["x * y * x", "x if x < y else y", "x | y", "x ** 2 + y", "x_1 * _y"])
def test_formulas_come_through(report, formula):
    write_run("a", changes={"data.formula": formula})
    write_run("b", changes={"data.formula": "x + y"})
    assert report("e")[0] == 0
    found = shown()
    assert formula in found.cells
    assert f"{formula} mod 7" in found.text
    for table in re.findall(r"(?:^\|.*\n?)+", Path("out/report.md").read_text(), re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


@pytest.mark.parametrize("text", STRANGE)
def test_plain_text_is_shown_as_it_is_in_a_table(text, tmp_path):
    found = Page(render_html(f"| a | b |\n| --- | --- |\n| {escape_markdown(text)} | c |", tmp_path, "t"))
    assert found.cells == [" ".join(text.split()), "c"]


def some_drawings(*_):
    for name in ("one", "steps-by-train fraction", "ü&<b>"):
        made = pd.DataFrame({"step": [1, 2], "share": [0.5, None]}), Figure()
        yield Drawing(name, f"Caption of {name}, x * y * z.", lambda made=made: made)


def test_a_page_needs_no_other_file(report, monkeypatch):
    monkeypatch.setattr(making, "list_drawings", some_drawings)
    write_run("a")
    assert report("e")[0] == 0
    found = shown()
    assert len(found.targets["src"]) == 3
    for source, (name, *_) in zip(
        found.targets["src"], (vars(drawing).values() for drawing in some_drawings()), strict=True
    ):
        head, content = source.split(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content) == Path("out", f"{name}.png").read_bytes()
    assert len(found.targets["href"]) == 6
    for target in found.targets["href"]:
        assert Path("out", unquote(target)).suffix in (".svg", ".csv")
        assert Path("out", unquote(target)).is_file()
    for name in ("one", "steps-by-train fraction", "ü&<b>"):
        assert f"Caption of {name}, x * y * z." in found.text


def test_each_figure_lies_there_as_png_and_svg_with_its_data(command):
    sweep({0.25: [40, None], 0.5: [80, 40]})
    assert command("report", "e", "--by", "train_fraction", "--out", "out")[0] == 0
    stems = {suffix: {path.stem for path in Path("out").glob(f"*.{suffix}")} for suffix in ("png", "svg", "csv")}
    assert stems["png"]
    assert stems["png"] == stems["svg"] == stems["csv"] - TABLES
    for stem in stems["png"]:
        assert len(pd.read_csv(f"out/{stem}.csv"))
    assert not TABLES & stems["png"]
    assert len(shown().targets["src"]) == len(stems["png"])


def test_figures_of_an_earlier_report_go_and_what_is_not_its_own_stays(report, monkeypatch):
    sweep({0.25: [40]})
    for own in ("mine.png", "mine.svg", "notes/a.csv"):
        Path("out", own).parent.mkdir(parents=True, exist_ok=True)
        Path("out", own).write_text("mine")
    everything = {}
    for names in (("one", "x y(1)"), ("one", "two"), ()):
        drawn = [Drawing(name, name, lambda: (pd.DataFrame({"a": [1]}), Figure())) for name in names]
        monkeypatch.setattr(making, "list_drawings", lambda *_, drawn=drawn: iter(drawn))
        assert report("e")[0] == 0
        everything[names] = {path.stem for path in Path("out").glob("*.[psc][nvs][gv]")}
        with Path("out/report.md").open("a") as page:
            page.write("![](mine.png) [](mine.svg) [](notes/a.csv) [](..%2Fx.png) [](..%2Fx.svg) [](..%2Fx.csv)")
    assert [found - TABLES - {"mine"} for found in everything.values()] == [set(names) for names in everything]
    for own in ("mine.png", "mine.svg", "notes/a.csv"):
        assert Path("out", own).read_text() == "mine"


def test_many_conditions_are_cut_in_the_page_and_whole_in_the_table(report):
    sweep({place / 1000: [40] for place in range(1, 131)})
    assert report("e")[0] == 0
    assert len(pd.read_csv("out/conditions.csv")) == 130
    assert Path("out/report.md").read_text().count("... and 30 more rows") == 4
    shown()


def test_a_report_says_what_makes_it_again(report):
    write_run("a")
    arguments = ("e", "--title", "it's\nthis", "--by", "lr")
    assert report(*arguments)[0] == 0
    assert (
        "    grok-lightning report e --title 'it'\"'\"'s this' --by lr --out out" in Path("out/report.md").read_text()
    )


@pytest.mark.slow
def test_figures_of_runs_whose_losses_nobody_wrote(command):
    sweep({0.25: [40], 0.5: [80]})
    for path in Path("lightning_logs/e").glob("*/metrics.csv"):
        path.write_text("step,train/acc\n0,nan\n10,0.5\n")
    assert command("report", "e", "--out", "out")[0] == 0
    assert list(Path("out").glob("*.png"))


@pytest.mark.parametrize("last", [1.0, 0.5])
def test_runs_that_do_not_stay_where_they_grokked_are_told(command, monkeypatch, last):
    report = reporting(command, monkeypatch)
    final = {"train/acc": 1.0, "val/acc": last, "train/loss": 0.1, "val/loss": 0.1, "norm/weights": 3.0}
    write_run("a", changes={"seed_everything": 1})
    write_run("b", changes={"seed_everything": 2}, final=final)
    assert report("e")[0] == 0
    header, _, row = [line for line in Path("out/report.md").read_text().splitlines() if line.startswith("|")][:3]
    assert ("at threshold at the end" in header) == (last < 1)
    assert ("| 1/2 |" in row) == (last < 1)
