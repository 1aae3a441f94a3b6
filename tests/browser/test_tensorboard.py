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

pytestmark = pytest.mark.slow
LOOKS_AT_IMAGES = True
MOST_SECONDS = 120
Command = Callable[..., tuple[int, str, str]]


@pytest.mark.skipif(BROWSER is None, reason=f"TensorBoard was not looked at: none of {', '.join(NAMES)} is installed")
def test_tensorboard_in_a_browser(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", 20)[0] == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = [sys.executable, "-m", "tensorboard.main", "--logdir", "lightning_logs", "--port", str(port)]
    until = time.monotonic() + MOST_SECONDS
    with process([*server, "--host", "127.0.0.1"], tmp_path), browser(tmp_path, until) as protocol:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/data/plugin/scalars/tags", "val/acc", until)
        views = {
            "scalars&tagFilter=acc": (["e/a", "train/acc", "val/acc"], 0),
            "images": (["e/a", "view/curves", "view/answers", "view/predictions", "view/embedding"], 6),
            "hparams": (["e/a", "data.modulus", "model.optimizer.lr", "val/acc"], 0),
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
