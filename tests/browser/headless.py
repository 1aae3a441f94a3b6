"""A headless Chromium, asked over its debugging protocol what a page shows."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
SHOWN = """(() => {
    const text = [], pictures = [];
    const look = node => {
        if (["STYLE", "SCRIPT", "TEMPLATE"].includes(node.nodeName)) return;
        if (node.nodeType === Node.TEXT_NODE && node.data.trim()) text.push(node.data.trim());
        if (node.nodeName === "IMG" && node.complete) pictures.push(node.naturalWidth);
        if (node.shadowRoot) look(node.shadowRoot);
        node.childNodes.forEach(look);
    };
    look(document);
    return {text, pictures};
})()"""


@contextlib.contextmanager
def process(command: list[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command with all its children until the block is left."""
    running = subprocess.Popen(
        command, cwd=directory, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@contextlib.contextmanager
def browser(directory: Path, until: float) -> Iterator[str]:
    """Runs Chromium and yields the address of its debugging protocol."""
    profile = directory / "profile"
    switches = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    place = ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1600,2400", "about:blank"]
    with process([str(BROWSER), *switches, *place], directory) as running:
        port = profile / "DevToolsActivePort"
        while not (port.exists() and port.read_text().count("\n")):
            assert running.poll() is None, "the browser ended"
            assert time.monotonic() < until, "the browser did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port.read_text().splitlines()[0]}"


def shown(protocol: str, address: str, texts: list[str], pictures: int, until: float) -> tuple[list[str], list[int]]:
    """Opens a page and waits for texts and pictures on it.

    Args:
        protocol: The address of the debugging protocol.
        address: The page's.
        texts: What is waited for, each the whole text of some element.
        pictures: How many pictures are waited for.
        until: The monotonic time when waiting ends.

    Returns:
        All texts of the page, those of its components included, and the widths of its pictures, in pixels.
    """
    return asyncio.run(_shown(protocol, address, texts, pictures, until))


async def _shown(
    protocol: str, address: str, texts: list[str], pictures: int, until: float
) -> tuple[list[str], list[int]]:
    found: dict[str, Any] = {"text": [], "pictures": []}
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{protocol}/json/new?about:blank") as answer:
            page = await answer.json()
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            await _ask(socket, "Page.navigate", url=address)
            while time.monotonic() < until:
                answer = await _ask(socket, "Runtime.evaluate", expression=SHOWN, returnByValue=True)
                found = answer.get("result", {}).get("value", found)
                if set(texts) <= set(found["text"]) and sum(width > 0 for width in found["pictures"]) >= pictures:
                    break
                await asyncio.sleep(0.5)
        async with session.get(f"{protocol}/json/close/{page['id']}"):
            pass
    return found["text"], found["pictures"]


async def _ask(socket: aiohttp.ClientWebSocketResponse, method: str, **parameters: Any) -> dict[str, Any]:
    await socket.send_json({"id": 1, "method": method, "params": parameters})
    while True:
        answer = await socket.receive_json(timeout=60)
        if answer.get("id") == 1:
            result: dict[str, Any] = answer.get("result", {})
            return result
