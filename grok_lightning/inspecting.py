"""Look inside a checkpoint: ``inspect CKPT --output FILE.html``."""

from pathlib import Path

from grok_lightning.files import show_bytes
from grok_lightning.inspection.inspection import refuse_output
from grok_lightning.options.commands import TRUST, command_parser, parse
from grok_lightning.run import load_run

PAGE = "inspection.html"


def inspect_command(arguments: list[str]) -> int:
    """Runs ``inspect``.

    Args:
        arguments: What follows ``inspect`` on the command line.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If an option or the checkpoint is not accepted, or the page cannot be written.
    """
    parser = command_parser(
        "inspect", "Writes one interactive page on what a network looks like inside.", "checkpoints/addition/0"
    )
    parser.add_argument("checkpoint", type=str, help="Checkpoint file, or a folder of checkpoints.")
    parser.add_argument("--output", type=str | None, help=f"HTML file to write; default: {PAGE} in the record.")
    parser.add_argument("--checkpoints", type=int, default=5, help="The most steps that the slider has, 1 to 12.")
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace the file if it exists.")
    parser.add_argument("--trust", type=bool, default=False, help=TRUST)
    options = parse(parser, arguments)
    if options.output is not None:
        refuse_output(Path(options.output), options.overwrite)
    run = load_run(options.checkpoint, options.trust)
    path = Path(options.output or (run.logs or Path()) / PAGE)
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    refuse_output(path, options.overwrite)
    found = run.inspect(options.checkpoints)
    found.save(path, options.overwrite)
    print(f"steps {', '.join(f'{step:,}' for step in found.steps)}\npage: {path} ({show_bytes(path.stat().st_size)})")
    return 0
