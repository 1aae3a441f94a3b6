"""TensorBoard, looked at in a real browser, shows the scalars, the pictures and the options of a run."""

import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY
from headless import BROWSER, NAMES, browser, process, shown

from grok_lightning.callbacks.events import LEARNING, tag_of

pytestmark = pytest.mark.slow
LOOKS_AT_IMAGES = True
MOST_SECONDS = 120
Command = Callable[..., tuple[int, str, str]]


@pytest.mark.skipif(BROWSER is None, reason=f"TensorBoard was not looked at: none of {', '.join(NAMES)} is installed")
def test_tensorboard_in_a_browser(command: Command, tmp_path: Path) -> None:
    easy = ("--evaluation.threshold", 0.02, "--trainer.max_steps", 20)
    for run, seed in (("a", 0), ("b", 1)):
        assert command("fit", *TINY, *easy, "--experiment", "e", "--run", run, "--seed_everything", seed)[0] == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = [sys.executable, "-m", "tensorboard.main", "--logdir", "lightning_logs", "--port", str(port)]
    until = time.monotonic() + MOST_SECONDS
    with process([*server, "--host", "127.0.0.1"], tmp_path), browser(tmp_path, until) as protocol:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/data/plugin/scalars/tags", tag_of("val/acc"), until)
        views = {
            "timeseries": (["e/a", "e/b", "learning", "learning (result)", "norm", "view"], 0),  # its cards cut tags
            "scalars&tagFilter=learning": (["e/a", "e/b", *LEARNING.values()], 0),
            "custom_scalars": (["Accuracy: training and validation", "Loss: training and validation"], 0),
            "images": (
                ["e/a", "view/curves", "view/predictions", "view/embedding", "view/task: x + y mod 11/split"],
                9,
            ),
            "hparams": (["e/a", "e/b", "data.modulus", "seed_everything", "learning (result)/grok step"], 0),
        }
        for view, (texts, pictures) in views.items():
            found, widths = shown(protocol, f"{address}/#{view}", texts, pictures, until)
            missing = [text for text in texts if text not in found]
            assert not missing, f"{view} shows no {missing}"
            assert sum(width > 300 for width in widths) >= pictures, f"{view} shows pictures of widths {widths}"


def _wait_for(address: str, text: str, until: float) -> None:
    """Waits until what an address serves has a text in it."""
    served = ""
    while text not in served:
        assert time.monotonic() < until, f"{address} served {served!r}"
        time.sleep(0.3)
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                served = answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            served = ""
