"""Experiments from Python: any run of the command ``fit`` in a few lines."""

import signal
from typing import Any

from grok_lightning.callbacks.guards import Diverged, StopRequested
from grok_lightning.cli import quiet
from grok_lightning.fit import Fit
from grok_lightning.options.classes import Nested
from grok_lightning.options.config import Config
from grok_lightning.options.parsing import resolve
from grok_lightning.records.checkpoint import LAST
from grok_lightning.run import Run


class Experiment:
    """A run that is configured like ``grok-lightning fit`` and trained from Python.

    Options have the names that they have on the command line. They may be given nested
    (``data={"train_fraction": 0.4}``), dotted (``**{"data.train_fraction": 0.4}``), with double underscores in place
    of dots (``data__train_fraction=0.4``), or in short as everywhere: by their last name where only one option has it
    (``train_fraction=0.4``), or by a word of the field for that (``frac_train=0.4``). Classes are given by name, by
    mapping (``{"class_path": "MLP", "hidden": [64]}``) or as the class itself.

    Args:
        config: Name of a shipped config or path of a YAML file; default: the defaults alone.
        **options: Options of ``fit``. They take precedence over the config.

    Attributes:
        run: The finished or interrupted run; None before the first call of ``fit``.

    Raises:
        UserError: If an option does not exist, has a value of the wrong type, or contradicts another. Nothing is
            written.

    Example:
        >>> run = Experiment("addition", train_fraction=0.4, seed_everything=1).fit()  # doctest: +SKIP
        >>> run.grok_step  # doctest: +SKIP
    """

    def __init__(self, config: str | None = None, **options: Any) -> None:
        self._config_arguments = ["--config", str(config)] if config is not None else []
        self._options = options
        self._given: Nested = {name.replace("__", "."): _named(value) for name, value in options.items()}
        self.run: Run | None = None
        self._unfinished = False
        self._resolve()  # reports mistakes

    @property
    def config(self) -> Nested:
        """All options, resolved, as they would be recorded if the run began now."""
        return self._resolve().options

    def fit(self) -> Run:
        """Trains the run; continues it if an earlier call was interrupted.

        Ctrl-C (or interrupting the kernel of a notebook) saves at the next step boundary and raises KeyboardInterrupt;
        another call continues the run, to the bit as if it had not been interrupted.

        Returns:
            The run with its last weights; also where its loss stopped being finite (``run.result["status"]``).

        Raises:
            KeyboardInterrupt: If it was interrupted; ``self.run`` is the run up to there.
            UserError: If the name of the run is taken.
        """
        quiet()
        fit = Fit(self._resolve(), kills=False)
        try:
            fit.run()
            self._unfinished = False
        except Diverged:
            self._unfinished = False
        except KeyboardInterrupt:  # the second one, which does not wait for a checkpoint
            self.run = _trained(fit)
            raise
        except StopRequested as stop:
            self._unfinished = True
            self.run = _trained(fit)
            if stop.signum != signal.SIGINT:
                raise
            raise KeyboardInterrupt(f"{stop}; saved. Call fit() again to continue") from None
        self.run = _trained(fit)
        return self.run

    def _resolve(self) -> Config:
        given = self._given
        if self._unfinished and self.run is not None:
            names = {key: self.run.config[key] for key in ("experiment", "run")}
            given = {**given, **names, "ckpt_path": "last", "overwrite": False}
        return resolve(["fit", *self._config_arguments], given)

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in self._options.items()]
        return f"Experiment({', '.join([*map(repr, self._config_arguments[1:]), *given])})"


def _trained(fit: Fit) -> Run:
    """The run of a fit that has ended or was stopped."""
    logs, step = fit.cli.records.runs[0].logs, fit.cli.trainer.global_step
    path = fit.cli.records.runs[0].checkpoints / LAST
    return Run(fit.cli.model.cpu().eval(), fit.cli.datamodule, step, fit.config.options, logs, path)


def _named(value: Any) -> Any:
    """A value with classes replaced by their names."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, dict):
        return {key: _named(inner) for key, inner in value.items()}
    return [_named(inner) for inner in value] if isinstance(value, list | tuple) else value
