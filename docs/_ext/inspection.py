"""Pages of ``grok-lightning inspect`` for models that ship, written beside the site when it is built."""

from pathlib import Path
from typing import Any

from grok_lightning import load_run

PROJECT = Path(__file__).parents[2]
SHOWN = ("division", "progress-measures")


def write(app: Any, error: Exception | None) -> None:
    """Writes the pages into a site of HTML that was built without an error."""
    if error is None and app.builder.format == "html":
        for name in SHOWN:
            run = load_run(PROJECT / "checkpoints" / "reference" / f"{name}.ckpt")
            run.inspect().save(Path(app.outdir) / "inspection" / f"{name}.html", overwrite=True)


def setup(app: Any) -> dict[str, bool]:
    """Registers with Sphinx."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
