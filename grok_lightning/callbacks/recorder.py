"""Writes the record of each run of a stack: metrics.csv, result.json, and the loggers."""

import json
import platform
import time
from importlib.metadata import version
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from grok_lightning.callbacks.detection import GrokDetection
from grok_lightning.callbacks.divergence import Diverged
from grok_lightning.callbacks.events import Events
from grok_lightning.files import sweep
from grok_lightning.record import METRICS, RESULT, append_metrics, flatten, write_json, write_metrics

RECORDED_PACKAGES = ("grok_lightning", "torch", "lightning", "numpy")


class Recorder(Callback):
    """Keeps ``metrics.csv`` up to date at every evaluation and writes ``result.json`` when the run is over.

    Args:
        detection: Who keeps the evaluations.
        configs: The resolved config of each run.
        hashes: The hash of each run's config.
        commutative_fractions: What each run's split reached; None where there are no mirrored pairs.
    """

    def __init__(
        self,
        detection: GrokDetection,
        configs: list[dict[str, Any]],
        hashes: list[str],
        commutative_fractions: list[float | None],
    ) -> None:
        self.detection, self.configs, self.hashes = detection, configs, hashes
        self.commutative_fractions = commutative_fractions
        self._seconds_before = 0.0
        self._compile_seconds = 0.0
        self._started: float | None = None
        self._first_batch: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time of training so far, evaluations included, compilation left out."""
        running = time.perf_counter() - self._started if self._started is not None else 0.0
        return self._seconds_before + running - self._compile_seconds

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds_before = float(state_dict["seconds"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            for directory, rows in zip(self.detection.directories, self.detection.rows, strict=True):
                directory.mkdir(parents=True, exist_ok=True)
                sweep(directory)
                (directory / RESULT).unlink(missing_ok=True)
                if rows or (directory / METRICS).exists():
                    write_metrics(directory, rows)
        self._started = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._first_batch is None:
            self._first_batch = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._first_batch is not None and self._first_batch >= 0 and pl_module.compiled:
            self._compile_seconds = time.perf_counter() - self._first_batch
        self._first_batch = -1.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        for directory, rows in zip(self.detection.directories, self.detection.rows, strict=True):
            directory.mkdir(parents=True, exist_ok=True)
            append_metrics(directory, rows[-1])
        if len(self.detection.rows) == 1:
            metrics = {key: value for key, value in self.detection.rows[0][-1].items() if key != "step"}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module, "finished" if trainer.global_step >= trainer.max_steps else "stopped")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Diverged):
            self._write(trainer, pl_module, "diverged")

    def _write(self, trainer: Trainer, pl_module: LightningModule, status: str) -> None:
        if not trainer.is_global_zero:
            return
        diverged = pl_module.diverged_at_R
        assert isinstance(diverged, Tensor)
        for run, directory in enumerate(self.detection.directories):
            at = int(diverged[run])
            ended = ("diverged", at) if at >= 0 else (status, trainer.global_step)
            write_json(directory / RESULT, self._result(trainer, pl_module, run, *ended))
        if len(self.configs) == 1:
            self._log_hyperparameters(trainer)

    def _result(
        self, trainer: Trainer, pl_module: LightningModule, run: int, status: str, steps: int
    ) -> dict[str, Any]:
        rows = self.detection.rows[run]
        final = {key: value for key, value in rows[-1].items() if key != "step"} if rows else {}
        best = max(rows, key=lambda row: (row["val/acc"], -row["step"]), default=None)
        seconds = self.seconds
        return {
            "status": status,
            "steps": steps,
            "budget": trainer.max_steps,
            "threshold": self.detection.threshold,
            **self.detection.milestones(run),
            "final": final,
            "best": best and {"val/acc": best["val/acc"], "step": int(best["step"])},
            "commutative_fraction": self.commutative_fractions[run],
            "seconds": round(seconds, 3),
            "steps_per_second": round(trainer.global_step / seconds, 3) if seconds > 0 else None,
            "compile_seconds": round(self._compile_seconds, 3),
            "device": _device_name(pl_module.device),
            "precision": str(trainer.precision),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in RECORDED_PACKAGES},
            "config": self.configs[run],
            "config_hash": self.hashes[run],
        }

    def _log_hyperparameters(self, trainer: Trainer) -> None:
        """Puts the config and the final metrics on TensorBoard's HPARAMS tab."""
        chosen = {
            key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for key, value in flatten(self.configs[0]).items()
            if key.startswith(("data.", "model.", "seed_everything"))
            or key in ("trainer.max_steps", "trainer.precision")
        }
        rows = self.detection.rows[0]
        final = {key: rows[-1][key] for key in ("train/acc", "train/loss", "val/acc", "val/loss")} if rows else {}
        for logger in trainer.loggers:
            if isinstance(logger, Events):
                logger.log_final(chosen, final)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()} cpu, {torch.get_num_threads()} threads"
