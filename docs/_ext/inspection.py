"""Pages of ``grok-lightning inspect`` for models that ship, written beside the site when it is built."""

import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
SHOWN = ("division", "progress-measures")


def write(app: Any, error: Exception | None) -> None:
    """Writes the pages into a site of HTML that was built without an error."""
    if error is None and app.builder.format == "html":
        for name in SHOWN:
            page = Path(app.outdir).absolute() / "inspection" / f"{name}.html"
            command = [sys.executable, "-m", "grok_lightning", "inspect", f"checkpoints/reference/{name}.ckpt"]
            # in a process of its own: what autodoc has mocked in this one would be built
            subprocess.run(
                [*command, "--output", str(page), "--overwrite"], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL
            )


def setup(app: Any) -> dict[str, bool]:
    """Registers with Sphinx."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
