"""The page of an inspection in a browser: it is drawn without network, and the slider draws another step."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from headless import BROWSER, browser, shown

from grok_lightning.run import load_run

SMALL = (
    *("--data.modulus", "7", "--model.network.width", "16", "--model.network.heads", "2"),
    *("--trainer.max_steps", "20", "--checkpoint.interval", "10", "--evaluation.every", "10", "--experiment", "e"),
    *("--run", "0", "--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false"),
)
SLIDE = """<script>addEventListener("load", () => {
    const slider = document.getElementById("moment");
    slider.value = "0";
    slider.dispatchEvent(new Event("input"));
});</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_page_is_drawn(trained_once: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained_once(*SMALL))
    found = load_run("checkpoints/e/0").inspect()
    page = found.save(tmp_path / "page.html")
    until = time.monotonic() + 120
    with browser(tmp_path, until) as protocol:
        wanted = ["right answer", "frequency in x"]  # what lies further below is drawn when it comes into view
        text, _ = shown(protocol, page.as_uri(), [*wanted, "step 20"], 0, until)
        assert {*wanted, "20"} <= set(text)
        right = [part for part in text if part.startswith(("training, right", "training, wrong"))]
        counts = found.arrays["answers"][2]
        assert sorted(right) == sorted(
            f"training, {word} ({int((counts == code).sum())})" for code, word in enumerate(("wrong", "right"))
            if (counts == code).any()
        )  # fmt: skip
        page.write_text(page.read_text().replace("</body>", SLIDE + "</body>"))
        text, _ = shown(protocol, page.as_uri(), ["0", *wanted], 0, until)
        counts = found.arrays["answers"][0]
        assert f"training, wrong ({int((counts == 0).sum())})" in text


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_browser_reports_no_error(
    trained_once: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained_once(*SMALL))
    page = load_run("checkpoints/e/0").inspect(1).save(tmp_path / "page.html")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += ["--virtual-time-budget=15000", "--window-size=400,9000", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count('class="main-svg"') > 40
