"""A Trainer callback that validates the model, keeps its best step and the log, and stops a training that diverges."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lep.errors import LepError
from lep.progress import Advance, set_status
from lep.training.checkpoints import checkpoint_folder

ValidationMetrics = Mapping[str, Any]
"""What a validation measured, `score` among it: the lower, the better."""

_LOGGED_KEYS = ("loss", "grad_norm", "learning_rate")


class TrainingMonitor(TrainerCallback):
    """Validate, log, report progress, and stop at a loss or gradient that is not finite.

    Measurements are kept in the Trainer's history, so its checkpoints restore them. The checkpoint of the best of them
    is kept beside the last one.

    Args:
        tokens_per_step: Mean number of tokens of text in a step.
        eval_steps: Steps between two validations; 0: none.
        compute_metrics: Validates the model.
        estimate_peak_speed: Returns tokens per second at the peak FLOPs of the devices; 0: not known. Called before the
            training and at each validation, since on a busy machine the highest estimate is the right one.
        log_path: A file of JSON lines, one for each step and each validation.
    """

    def __init__(
        self,
        *,
        tokens_per_step: float,
        eval_steps: int = 0,
        compute_metrics: Callable[[], ValidationMetrics] = dict,
        estimate_peak_speed: Callable[[], float] = float,
        log_path: Path | None = None,
    ) -> None:
        self.tokens_per_step, self.eval_steps = tokens_per_step, eval_steps
        self.compute_metrics, self.log_path = compute_metrics, log_path
        self.estimate_peak_speed, self.peak_tokens_per_second = estimate_peak_speed, estimate_peak_speed()
        self.advance: Advance = lambda amount: None
        self.log_metrics: Callable[[dict[str, float]], object] = lambda metrics: None
        """Passes flat metrics to all callbacks of the Trainer, this one among them."""
        self.seconds, self.steps, self.step_started, self.last_step_seconds = 0.0, 0, 0.0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Override `TrainerCallback.on_train_begin`."""
        if state.is_world_process_zero:
            self._drop_log_lines_after(state.global_step)
        if state.best_global_step:  # the folder may have moved
            state.best_model_checkpoint = str(checkpoint_folder(args.output_dir, state.best_global_step))
        if self.eval_steps and state.global_step == 0:
            self._evaluate(args, state)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Override `TrainerCallback.on_step_begin`."""
        self.step_started = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Override `TrainerCallback.on_step_end`."""
        self.last_step_seconds = time.monotonic() - self.step_started
        self.seconds += self.last_step_seconds
        self.steps += 1
        self.advance(self.tokens_per_step)
        if self.eval_steps and (state.global_step % self.eval_steps == 0 or state.global_step == state.max_steps):
            self._evaluate(args, state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Override `TrainerCallback.on_log`."""
        logs = kwargs["logs"]
        _check_finite(logs, step=state.global_step, folder=args.output_dir)
        if "loss" in logs:
            speed = self.tokens_per_step / self.last_step_seconds if self.last_step_seconds else 0.0
            mfu = {"mfu": speed / self.peak_tokens_per_second} if self.peak_tokens_per_second else {}
            row = {name: logs[name] for name in _LOGGED_KEYS if name in logs} | {"tokens_per_second": speed, **mfu}
            self._write_log_line(state, row)
            set_status(f"loss {row['loss']:.3f}" + "".join(f", MFU {value:.0%}" for value in mfu.values()))
        elif "score" in logs:
            self._write_log_line(state, logs)

    @property
    def tokens_per_second(self) -> float:
        """Mean speed of the steps of this run, validations left out."""
        return self.steps * self.tokens_per_step / self.seconds if self.seconds else 0.0

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilization of the steps of this run; `None` where the peak of the devices is not known."""
        known = self.peak_tokens_per_second and self.seconds
        return self.tokens_per_second / self.peak_tokens_per_second if known else None

    def _evaluate(self, args: TrainingArguments, state: TrainerState) -> None:
        metrics, step = self.compute_metrics(), state.global_step
        self.peak_tokens_per_second = max(self.peak_tokens_per_second, self.estimate_peak_speed())
        history: list[Any] = state.log_history
        point = {"step": step, "tokens": round(step * self.tokens_per_step), **metrics}
        history.append({"step": step, "validation": point})
        self.log_metrics(_flatten(metrics))
        if step and (state.best_metric is None or metrics["score"] < state.best_metric):
            state.best_metric, state.best_global_step = metrics["score"], step
            state.best_model_checkpoint = str(checkpoint_folder(args.output_dir, step))

    def _write_log_line(self, state: TrainerState, row: Mapping[str, float]) -> None:
        if self.log_path and state.is_world_process_zero:
            tokens = round(state.global_step * self.tokens_per_step)
            with self.log_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, "tokens": tokens, **row}) + "\n")

    def _drop_log_lines_after(self, step: int) -> None:
        """Drop the lines of steps after the last checkpoint of an interrupted run: those steps are repeated."""
        if self.log_path and self.log_path.exists():
            lines = self.log_path.read_text(encoding="utf-8").splitlines(keepends=True) if step else []
            lines = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            self.log_path.write_text("".join(lines), encoding="utf-8")


def _check_finite(logs: Mapping[str, float], *, step: int, folder: str | None) -> None:
    """Raise `LepError` if the loss or the gradient norm is not finite."""
    for label, name in (("loss", "loss"), ("gradient", "grad_norm")):
        if not math.isfinite(value := logs.get(name, 0.0)):
            raise LepError(
                f"the {label} is {value} at step {step}; lower the learning rate, or look at the text there; the last "
                f"good checkpoint stays in {folder}"
            )


def _flatten(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return `{"bits_per_byte": {"ru": 1.2}}` as `{"bits_per_byte/ru": 1.2}`."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        flat |= _flatten(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
