"""The command ``grok-lightning``."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # python -m puts the working directory first, where its files would take the place of Python's own modules; classes
    # are found there all the same (options/importing.py)
    del sys.path[0]

import io
import os
import shlex
import shutil
import signal
from contextlib import suppress
from importlib import import_module
from math import floor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

from grok_lightning.errors import UserError, find_shortage, in_one_line, show, trace_causes, whole_traceback
from grok_lightning.hardware.process import mute_lost_terminal

if TYPE_CHECKING:
    from grok_lightning.cli import GrokCLI
    from grok_lightning.options.config import Config

USAGE = """\
usage: grok-lightning COMMAND [--config FILE|NAME] [--option value ...]

commands:
  fit        train a run:            grok-lightning fit --config addition
  validate   evaluate a checkpoint:  grok-lightning validate --ckpt_path checkpoints/addition/0/grok.ckpt
  test       on its test rows:       grok-lightning test --ckpt_path checkpoints/coursework-addition/0/last.ckpt
  predict    write its answers:      grok-lightning predict --ckpt_path FILE --split all --output answers.csv
  generate   ask it:                 grok-lightning generate FILE "91+7=" "3+5="
  inspect    look inside, as a page: grok-lightning inspect checkpoints/addition/0
  export     for other programs:    grok-lightning export FILE --output network.safetensors
  data       write its splits:      grok-lightning data --config addition --output splits
  sweep      train a grid of runs:   grok-lightning sweep FILE...; grok-lightning sweep status FILE
  status     where runs stand:      grok-lightning status EXPERIMENT... --watch
  speedrun   verify an entry of it:  grok-lightning speedrun verify FILE
  report     tables and figures:    grok-lightning report EXPERIMENT... --by KEY... --out FOLDER
  forecast   when will they grok:   grok-lightning forecast EXPERIMENT|RUN...
  configs    list or show configs:  grok-lightning configs; grok-lightning configs NAME

grok-lightning COMMAND --help lists the options of a command; --debug shows the traceback of any error."""
INTERRUPTED = {  # what is true after Ctrl-C, by command; fit and sweep stop at a step boundary and say so themselves
    "fit": " before the first step; nothing has changed",
    "validate": "; validate.json was not written",
    "test": "; test.json was not written",
    "predict": "; the file of predictions was not written",
    "inspect": "; the page was not written",
    "data": "; the files of splits are not complete",
    "forecast": "; nothing was written",
    "speedrun": "; the same command with the seed it printed, --seed N, goes on",
    "report": "; the report is not complete; the same command writes it again",
}
_INTERRUPTS: list[int] = []  # a Ctrl-C each
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
OTHER_COMMANDS = {  # module that runs each
    "generate": "generate",
    "inspect": "inspecting",
    "data": "splits",
    "export": "export",
    "sweep": "sweep.command",
    "status": "status.command",
    "speedrun": "speedrun.command",
    "report": "report.command",
    "forecast": "report.forecast",
    "configs": "options.shipped",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What follows the program's name; default: the command line.

    Returns:
        The exit status: 0 done, 2 refused, 3 diverged, 129, 130 or 143 stopped by a signal, 1 any other error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    _open_closed_streams()
    _replace_unprintable()
    try:
        try:
            return _dispatch(arguments)
        finally:
            sys.stdout.flush()  # here, where a closed pipe is no error of Python's own at its end
    except BrokenPipeError:  # whoever read the output has left, as head does
        _silence(sys.stdout)
        return 141
    except BaseException as error:
        if _is_interrupt(error):
            if debug:
                _complain(whole_traceback(error))
            left = INTERRUPTED.get(arguments[0], "") if arguments else ""
            _complain(f"\ngrok-lightning: interrupted{left}")
            return 130
        shortage = None if isinstance(error, UserError) else find_shortage(error)
        if not shortage and not isinstance(error, (UserError, OSError)):  # a bug, whose traceback Python shows
            raise
        mute_lost_terminal()
        if debug:
            _complain(whole_traceback(error))
        lacking = f"not enough {shortage} on this machine; what was saved before is whole"
        _complain(f"grok-lightning: {lacking if shortage else in_one_line(str(error))}")
        try:
            sys.stdout.flush()
        except OSError:  # of a full disk Python would tell once more
            _silence(sys.stdout)
        return 2 if isinstance(error, UserError) else 1


def run_and_exit() -> NoReturn:
    """Runs the command of the command line as a process of its own: the entry point of ``grok-lightning``."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in a script's background job
        signal.signal(signal.SIGINT, _interrupt)
    try:
        sys.exit(main())
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done; what is left is Python's own end


def _interrupt(signum: int, _: FrameType | None) -> NoReturn:
    """Notes Ctrl-C and raises it: an import that it ends may make any other error of it."""
    _INTERRUPTS.append(signum)
    raise KeyboardInterrupt


def _is_interrupt(error: BaseException) -> bool:
    """Whether an exception is, or followed from, Ctrl-C."""
    if isinstance(error, SystemExit):
        return False
    return bool(_INTERRUPTS) or any(isinstance(each, KeyboardInterrupt) for each in trace_causes(error))


def _open_closed_streams() -> None:
    """Gives a process that was started without stdout or stderr (``>&-``) streams that lead nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def _silence(stream: TextIO) -> None:
    """Leads what a stream still holds nowhere, so that Python does not fail on it at its end."""
    with suppress(OSError, ValueError):  # a stream without a file, as in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _complain(text: str) -> None:
    """Prints to stderr, unless nobody reads it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        _silence(sys.stderr)


def _replace_unprintable() -> None:
    """Prints ? for a character that the console cannot encode, such as α in code page 1252, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    command = arguments[0]
    # each command imports what it needs: Lightning alone takes seconds
    if command in TRAINER_COMMANDS:
        return _train_or_evaluate(arguments)
    if command in OTHER_COMMANDS:
        run = getattr(import_module(f"grok_lightning.{OTHER_COMMANDS[command]}"), f"{command}_command")
        return int(run(arguments[1:]))
    from grok_lightning.options.classes import suggestion

    raise UserError(f"there is no command {show(command)}{suggestion(command, [*TRAINER_COMMANDS, *OTHER_COMMANDS])}")


def _train_or_evaluate(arguments: list[str]) -> int:
    from grok_lightning.cli import quiet
    from grok_lightning.fit import evaluate
    from grok_lightning.hardware.process import keep_freed_memory
    from grok_lightning.options.parsing import resolve

    keep_freed_memory()
    quiet()
    config = resolve(arguments)
    if config.command == "fit":
        return _train(config)
    cli = evaluate(config)
    if cli.trainer.is_global_zero:
        for note in config.notes:
            print(note)
        print(f"predictions: {config.options['output']}" if config.command == "predict" else _accuracies(cli))
    return 0


def _train(config: "Config") -> int:
    from torch._dynamo.exc import TorchDynamoException

    from grok_lightning.callbacks.guards import Diverged, Recompiled, StopRequested
    from grok_lightning.fit import Fit

    fit = Fit(config)
    try:
        fit.run()
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0][:200]
        print(f"grok-lightning: --model.compile: cannot be compiled here ({reason}); leave it out", file=sys.stderr)
        return 1
    except Recompiled as error:
        print(f"grok-lightning: {error}", file=sys.stderr)
        return 1
    except StopRequested as stop:
        options = fit.config.options
        named = f"--experiment {options['experiment']} --run {options['run']} --ckpt_path last"
        named += "" if config.root == Path() else f" --trainer.default_root_dir {shlex.quote(str(config.root))}"
        if fit.cli.trainer.is_global_zero:
            print(f"{stop}; saved. Resume with\n  {program()} fit {named}", file=sys.stderr)
        return 128 + stop.signum
    except Diverged as diverged:
        record = fit.cli.records.runs[0].logs / "result.json"
        print(f"grok-lightning: {diverged}; its record is {record}", file=sys.stderr)
        return 3
    if fit.cli.trainer.is_global_zero:
        print(_summary(fit.cli))
    return 0


def _accuracies(cli: "GrokCLI") -> str:
    """The accuracy and loss of each evaluated split."""
    evaluation = cli.model.evaluation
    lines = []
    for split in ("train", "val", "test"):
        if f"{split}/acc" in evaluation:
            accuracy, loss = float(evaluation[f"{split}/acc"][0]), float(evaluation[f"{split}/loss"][0])
            count = cli.datamodule.held_counts()[split]
            if not count:  # no rows are held out: the training rows once more
                continue
            right = round(accuracy * count)
            share = floor(1e4 * accuracy + 1e-6) / 100  # 100 % is all
            lines.append(f"{split:<5} accuracy {share:.2f}% ({right:,} of {count:,}), loss {loss:.4g}")
    return "\n".join(lines)


def _summary(cli: "GrokCLI") -> str:
    """Where a fit's figure is, how to look at it in TensorBoard, and last its outcome: steps, accuracies and losses."""
    from grok_lightning.records.words import format_ends

    states, steps = cli.states, cli.trainer.global_step
    found, validated = states.milestones(0), states.validated[0]
    memorized, grokked = found["memorize_step"], found["grok_step"]
    if not validated:
        outcome = f"not memorized within {steps:,} steps" if memorized is None else f"memorized at step {memorized:,}"
    elif memorized is None and grokked is None:
        outcome = f"neither memorized nor grokked within {steps:,} steps"
    elif grokked is None:
        outcome = f"memorized at step {memorized:,}, not grokked within {steps:,} steps (censored)"
    elif memorized is None:
        outcome = f"grokked at step {grokked:,} before training accuracy reached the threshold"
    else:
        delay = f" (delay {grokked / memorized:.1f}x)" if memorized else ""
        outcome = f"memorized at step {memorized:,}, grokked at step {grokked:,}{delay}"
    tensorboard = shlex.quote(_short(str(Path(sys.executable).with_name("tensorboard"))))
    folder = cli.records.runs[0].logs.parents[1]
    ending = states.endings[0]
    ends = format_ends(states.rows[0][-1] | (ending.tested if ending is not None else {}), validated)
    looks = f"figure: {cli.figures.path(0)}\nTensorBoard: {tensorboard} --logdir {shlex.quote(str(folder))}"
    return f"{looks}\n{outcome}: {ends}"


def program() -> str:
    """How this program was called, for commands that the user can copy."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(_short(sys.executable))} -m grok_lightning"
    return shlex.quote(called.name if shutil.which(called.name) == str(called) else _short(str(called)))


def _short(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on another drive of Windows
        return path
    return path if relative.startswith("..") else relative


if __name__ == "__main__":
    run_and_exit()
