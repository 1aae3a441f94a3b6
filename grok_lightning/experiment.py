"""Experiments from Python: any run of the command ``fit`` in a few lines."""

import signal
from typing import Any

from grok_lightning.callbacks.guards import Diverged, StopRequested
from grok_lightning.cli import quiet
from grok_lightning.errors import UserError
from grok_lightning.fit import Fit
from grok_lightning.options.classes import (
    CLASS_OPTIONS,
    NAMING,
    Nested,
    arguments_of,
    class_of,
    lookup,
    required_options,
    suggestion,
)
from grok_lightning.options.config import Config
from grok_lightning.options.merging import merge, normalize
from grok_lightning.options.parser import command_parser
from grok_lightning.options.parsing import resolve
from grok_lightning.options.yamls import nest
from grok_lightning.records.checkpoint import LAST
from grok_lightning.records.record import flatten
from grok_lightning.run import Run

# last names that one option had before another got them too
_FIRST = {"per_decade": "evaluation.per_decade"}


class Experiment:
    """A run that is configured like ``grok-lightning fit`` and trained from Python.

    Options have the names that they have on the command line. They may be given nested
    (``data={"train_fraction": 0.4}``), dotted (``**{"data.train_fraction": 0.4}``), with double underscores in place
    of dots (``data__train_fraction=0.4``), or by their last name alone where only one option has it
    (``train_fraction=0.4``). Classes are given by name, by mapping (``{"class_path": "MLP", "hidden": [64]}``) or as
    the class itself.

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
        self._options, self._given = options, _nested(self._config_arguments, options)
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
            given = merge(merge({}, given), {**names, "ckpt_path": "last"})
        return resolve(["fit", *self._config_arguments], given)

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in self._options.items()]
        return f"Experiment({', '.join([*map(repr, self._config_arguments[1:]), *given])})"


def _trained(fit: Fit) -> Run:
    """The run of a fit that has ended or was stopped."""
    logs, step = fit.cli.records.runs[0].logs, fit.cli.trainer.global_step
    path = fit.cli.records.runs[0].checkpoints / LAST
    return Run(fit.cli.model.cpu().eval(), fit.cli.datamodule, step, fit.config.options, logs, path)


def _nested(config: list[str], options: dict[str, Any]) -> Nested:
    """Options in any of the accepted forms as one nested mapping."""
    given: Nested = {}
    of_parser = [argument.name for argument in arguments_of(command_parser("fit"))]
    groups = {name.split(".")[0] for name in of_parser}
    shorts = {option.rsplit(".", 1)[-1]: option for option in NAMING}
    names = {name: name.replace("__", ".") for name in options}
    names = {name: dotted if dotted in groups else shorts.get(dotted, dotted) for name, dotted in names.items()}
    leaves = {name: value for name, value in options.items() if "." not in names[name] and names[name] not in groups}
    # a class before its options, which are laid over it
    for name in sorted(options.keys() - leaves.keys(), key=lambda name: names[name].count(".")):
        given = merge(given, normalize(nest(names[name], _named(options[name]))))
    for name in [*leaves]:  # those without which nothing can be resolved
        for option in CLASS_OPTIONS:
            if name in required_options(option, class_of(option, lookup(given, option) or {})):
                given = merge(given, normalize(nest(f"{option}.{name}", _named(leaves.pop(name)))))
                break
    if leaves:
        known = [*flatten(resolve(["fit", *config], given).options)]
        known += [name for name in of_parser if "." in name and not name.endswith(".help")]
        for name, value in leaves.items():
            found = sorted({option for option in known if option.rsplit(".", 1)[-1] == name})
            found = [_FIRST[name]] if name in _FIRST else found
            if len(found) != 1:
                why = f"could be {' or '.join(found)}" if found else f"is no option{suggestion(name, known)}"
                raise UserError(f"{name} {why}" + ("; write the whole name, with __ for each dot" if found else ""))
            given = merge(given, normalize(nest(found[0], _named(value))))
    return given


def _named(value: Any) -> Any:
    """A value with classes replaced by their names."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, dict):
        return {key: _named(inner) for key, inner in value.items()}
    return [_named(inner) for inner in value] if isinstance(value, list | tuple) else value
