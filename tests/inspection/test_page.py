"""The page of an inspection: what is in it, when it is refused, and how moments are chosen."""

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects
import pytest
import torch
from conftest import TINY
from small import SMALL, load_small, look

from grok_lightning import UserError
from grok_lightning.inspection.gather import LOOKS, gather_moments
from grok_lightning.inspection.inspection import Inspection
from grok_lightning.inspection.moments import MOST, choose_moments
from grok_lightning.run import load_run

Trained = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]
WAY = ("--checkpoint.interval", "10")


def read(html: str) -> dict[str, Any]:
    """The data of a page, its arrays decoded as ``page.js`` decodes them."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    data: dict[str, Any] = json.loads(text)
    data["plots"] = [decode(plot, data["names"]) for plot in data["plots"]]
    return data


def decode(value: Any, names: list[list[str]]) -> Any:
    if isinstance(value, list):
        return [decode(part, names) for part in value]
    if not isinstance(value, dict):
        return value
    if "names" in value:
        return names[value["names"]]
    if "base64" not in value:
        return {key: decode(part, names) for key, part in value.items()}
    raw = base64.b64decode(value["base64"])
    if len(value["shape"]) == 1:
        return np.frombuffer(raw, "<f4").reshape(value["shape"])
    codes = np.frombuffer(raw, np.uint8).reshape(value["shape"])
    return np.where(codes == 255, np.nan, value["low"] + (value["high"] - value["low"]) / 254 * codes)


def plot_of(html: str, title: str) -> dict[str, Any]:
    """The first plot under a title."""
    (number,) = re.findall(rf'data-plot="(\d+)"><figcaption>{re.escape(title)}</figcaption>', html)[:1]
    plot: dict[str, Any] = read(html)["plots"][int(number)]
    return plot


def test_the_page_holds_the_arrays_and_nothing_from_elsewhere(
    trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_small(trained_once, monkeypatch, *WAY).inspect()
    html = found.html
    assert found.steps == [0, 10, 20, 30]
    assert not re.search(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=", html)
    assert html.count("plotly.js v") == 1
    assert "x + y mod 11, α = 0.5, seed 0" in html
    for name, title in (("margin", "Right answer&#x27;s logit less the largest other"), ("neurons", "neuron ")):
        plot = plot_of(html, title) if name == "margin" else None
        for moment in range(4 if plot else 0):
            (trace,) = plot["frames"][moment]  # type: ignore[index]
            wanted = found.arrays[name][moment].T
            assert np.abs(trace["z"] - wanted).max() <= (np.ptp(wanted) / 254)
    (number,) = re.findall(r"neuron (\d+)</figcaption>", html)[:1]
    trace = plot_of(html, f"neuron {number}")["frames"][3][0]
    wanted = found.arrays["neurons.layers.0.feedforward.hidden"][3, 0].T
    assert np.abs(trace["z"] - wanted).max() <= np.ptp(wanted) / 254
    shares = plot_of(html, "Share of each frequency")["frames"][2][0]["y"]
    assert np.allclose(shares, found.arrays["embedding_shares"][2, 1:])


def test_every_plot_is_one_of_plotly_s(trained_once: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    html = load_small(trained_once, monkeypatch, *WAY).inspect(2).html
    plots = read(html)["plots"]
    assert len(plots) > 50
    for plot in plots:
        for traces in plot["frames"]:
            plotly.graph_objects.Figure(traces, plot["layout"])  # refuses names and values that it does not know


def test_arrays_are_led_by_steps(trained_once: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_small(trained_once, monkeypatch, *WAY)
    found = run.inspect(3)
    assert len(found.steps) == 3
    assert all(len(array) == 3 for array in found.arrays.values())
    documented = set(re.findall(r"``([a-z_]+)(?:\.[A-Z]+)?``", str(Inspection.arrays.__doc__)))
    names = {name.split(".")[0].replace("unembedding", "embedding") for name in found.arrays}
    assert names - {"component_accuracy", "component_loss"} <= documented
    alone = run.inspect(1)
    assert alone.steps == [30]
    for name in ("answers", "margin", "confusion", "singular_values.head", "accuracy", "loss"):
        assert np.array_equal(alone.arrays[name][0], found.arrays[name][-1], equal_nan=True)
    (row,) = run.metrics.query("step == 30")[["train/acc", "val/acc"]].to_numpy()
    assert np.allclose(alone.arrays["accuracy"][0, :2], row)


def test_a_notebook_shows_it_in_a_frame(trained_once: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_small(trained_once, monkeypatch).inspect()
    shown = found._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert shown.count('"') == 6
    assert repr(found).startswith("Inspection(x + y mod 11")


def test_a_run_that_diverged_says_so(trained_once: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_small(trained_once, monkeypatch)
    whole = look(run)
    _ = whole.passed, whole.captured
    broken = load_small(trained_once, monkeypatch)
    with torch.no_grad():
        for weight in broken.model.parameters():
            weight.fill_(torch.nan)
    last = look(broken)
    last.step, whole.step = 20, 10
    alone = Inspection(gather_moments([last]), "t", [], 20).html
    assert alone.count("Left out: the logits are not finite.") == 2
    both = gather_moments([last, whole])
    assert both.steps == [10, 20]
    assert np.isnan(both.arrays["margin"][1]).all()
    assert np.isfinite(both.arrays["margin"][0]).all()
    html = Inspection(both, "t", [], 20).html
    assert "Left out at step 20: the logits are not finite." in html
    assert plot_of(html, "Right answer&#x27;s logit less the largest other")["frames"][1] == []


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ("--data.tokenizer characters", {"logit_components", "spectra", "component_ablations"}),
        ("--data.formula x**2", {"answers", "logits", "logit_components", "neurons", "attention_maps"}),
        ("--data.modulus 5 --data.formula x1+x2+x3+x4 --data.rows 100", {"logit_components"}),
        ("--data TextDataModule --data.strings abcabd", {"answers", "logits", "spectra", "neurons"}),
    ],
)
def test_what_makes_no_sense_is_left_out_with_a_reason(
    options: str, missing: set[str], trained_once: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [word for word in SMALL if "data.modulus" not in word and word != "11"] if "DataModule" in options else SMALL
    monkeypatch.setattr("small.SMALL", own)
    found = load_small(trained_once, monkeypatch, *options.split()).inspect()
    reasons = {group: why[0] for group, why in found._gathered.reasons.items() if why[0]}
    assert missing <= reasons.keys() < LOOKS.keys()
    assert all(f": {reason}." in found.html for reason in reasons.values())


def test_moments_are_the_own_one_first_last_and_evenly_between() -> None:
    saved = {step: Path(f"step={step}.ckpt") for step in range(0, 2000, 10)}
    assert list(choose_moments(saved, 45, 1)) == [45]
    assert sorted(choose_moments(saved, 45, 3)) == [0, 45, 1990]
    assert sorted(choose_moments(saved, 1990, 5)) == [0, 660, 1320, 1980, 1990]
    assert len(choose_moments(saved, 45, MOST)) == MOST
    assert choose_moments({}, 7, 5) == {7: None}
    for wrong in (0, MOST + 1, -3):
        with pytest.raises(UserError, match=f"--checkpoints is {wrong}; 1 to 12 are accepted"):
            choose_moments(saved, 45, wrong)


def test_the_command(command: Command, fitted: Callable[..., None], tmp_path: Path) -> None:
    fitted(*SMALL, *WAY)
    status, out, err = command("inspect", "checkpoints/e/0", "--checkpoints", "2")
    assert (status, err) == (0, "")
    page = Path("lightning_logs/e/0/inspection.html")
    assert out.startswith(f"steps 0, 30\npage: {page} (")
    first = page.read_bytes()
    assert len(first) < 6e6
    status, out, err = command("inspect", "checkpoints/e/0")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "exists already; name another file, or add --overwrite" in err
    assert page.read_bytes() == first
    status, out, _ = command("inspect", "checkpoints/e/0/step=0000010.ckpt", "--overwrite")
    assert out.startswith("steps 0, 10, 20, 30\n")
    assert read(page.read_text())["start"] == 1
    for words, said in (
        ("inspect", "expected: grok-lightning inspect CHECKPOINT"),
        ("inspect none", "cannot be read"),
        ("inspect checkpoints/e/0 --output .", "the path of a file is expected"),
        ("inspect checkpoints/e/0 --output lightning_logs/e/0/metrics.csv/a.html", "no file can be written"),
        ("inspect checkpoints/e/0 --checkpoints 200 --output a.html", "1 to 12 are accepted"),
        ("inspect checkpoints/e/0 --outptu a.html", "did you mean --output?"),
    ):
        status, out, err = command(*words.split())
        assert (status, out, err.count("\n")) == (2, "", 1), words
        assert said in err
    assert not Path("a.html").exists()


def test_checkpoints_elsewhere_and_of_others(command: Command, fitted: Callable[..., None]) -> None:
    fitted(*SMALL, *WAY)
    shutil.copytree("checkpoints/e/0", "copied")
    status, out, _ = command("inspect", "copied")
    assert (status, out.splitlines()[0]) == (0, "steps 0, 10, 20, 30")
    assert "page: inspection.html" in out
    content = torch.load("copied/step=0000010.ckpt")
    content["grok_lightning_config"]["seed_everything"] = 5
    from grok_lightning.records.checkpoint import save

    save(content, Path("copied/step=0000010.ckpt"))
    status, _, err = command("inspect", "copied", "--output", "b.html")
    assert (status, err.count("\n")) == (2, 1)
    assert "step=0000010.ckpt' is of another run than the checkpoint beside it: its seed_everything differs" in err
    assert not Path("b.html").exists()


def test_of_a_stack_one_line(command: Command, write_yaml: Callable[..., Path], tmp_path: Path) -> None:
    from grok_lightning.inspection.subject import Subject
    from grok_lightning.models import MLP

    with pytest.raises(UserError, match="inspect looks at one run, but the network is a stack of 2"):
        Subject(MLP(5, 2, [0, 1]), None)  # type: ignore[arg-type]


def test_of_python_it_is_what_a_fit_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from grok_lightning import Experiment

    monkeypatch.chdir(tmp_path)
    options = dict(zip([word.removeprefix("--").replace(".", "__") for word in TINY[::2]], TINY[1::2], strict=True))
    run = Experiment("addition", **options, max_steps=20, checkpoint__interval=10, precision="32-true").fit()
    assert run.inspect().steps == [0, 10, 20]
    assert load_run("checkpoints/addition/0").inspect(2).save("a/b.html").exists()
    with pytest.raises(UserError, match="exists already"):
        run.inspect(1).save("a/b.html")
