"""What looks after a training: measures on the way, keeps its log, tells the progress, stops it when it is lost."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lep.errors import LepError
from lep.progress import Advance, status

Measured = Mapping[str, Any]
"""What was measured on the way, `score` among it: the lower, the better."""

_KEPT = ("loss", "grad_norm", "learning_rate")


class Watch(TrainerCallback):
    """Measures, logs, tells, stops.

    Measurements live in the Trainer's history: they come back with its checkpoints. The checkpoint of the best of them
    is kept beside the last one.

    Args:
        tokens_per_step: of text, in the mean.
        every: steps between two measurements; 0: nothing is measured.
        measure: what is measured.
        at_peak: tokens a second, were every operation that the machines can do of use; 0: not known. Asked before the
            training and at each measurement, since on a busy machine the best answer is the right one.
        log: a file of JSON lines, one a step, one a measurement.
    """

    def __init__(
        self,
        *,
        tokens_per_step: float,
        every: int = 0,
        measure: Callable[[], Measured] = dict,
        at_peak: Callable[[], float] = float,
        log: Path | None = None,
    ) -> None:
        self.tokens_per_step, self.every, self.measure, self.file = tokens_per_step, every, measure, log
        self.at_peak, self.tokens_at_peak = at_peak, at_peak()
        self.advance: Advance = lambda amount: None
        self.publish: Callable[[dict[str, float]], object] = lambda numbers: None
        """Hands flat numbers to all that listen to the Trainer's logs, this object among them."""
        self.seconds, self.steps, self.started, self.last = 0.0, 0, 0.0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if state.is_world_process_zero:
            self._forget_after(state.global_step)
        if state.best_global_step:  # the folder may have moved
            state.best_model_checkpoint = str(checkpoint_folder(args.output_dir, state.best_global_step))
        if self.every and state.global_step == 0:
            self._record(args, state)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.started = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.last = time.monotonic() - self.started
        self.seconds += self.last
        self.steps += 1
        self.advance(self.tokens_per_step)
        if self.every and (state.global_step % self.every == 0 or state.global_step == state.max_steps):
            self._record(args, state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        logs = more["logs"]
        for what, name in (("loss", "loss"), ("gradient", "grad_norm")):
            if not math.isfinite(value := logs.get(name, 0.0)):
                raise LepError(
                    f"the {what} is {value} at step {state.global_step}; lower the learning rate, or look at the text "
                    f"there; the last good checkpoint stays in {args.output_dir}"
                )
        if "loss" in logs:
            speed = self.tokens_per_step / self.last if self.last else 0.0
            used = {"utilisation": speed / self.tokens_at_peak} if self.tokens_at_peak else {}
            row = {name: logs[name] for name in _KEPT if name in logs} | {"tokens_per_second": speed, **used}
            self._write(state, row)
            status(f"loss {row['loss']:.3f}" + "".join(f", {share:.0%} of the machine" for share in used.values()))
        elif "score" in logs:
            self._write(state, logs)

    @property
    def tokens_per_second(self) -> float:
        """Rate of the steps of this process, measurements left out."""
        return self.steps * self.tokens_per_step / self.seconds if self.seconds else 0.0

    @property
    def utilisation(self) -> float | None:
        """Of the operations that the machines could do, those that the model needs; none: not known."""
        return self.tokens_per_second / self.tokens_at_peak if self.tokens_at_peak and self.seconds else None

    def _record(self, args: TrainingArguments, state: TrainerState) -> None:
        found, step = self.measure(), state.global_step
        self.tokens_at_peak = max(self.tokens_at_peak, self.at_peak())
        history: list[Any] = state.log_history
        measured = {"step": step, "tokens": round(step * self.tokens_per_step), **found}
        history.append({"step": step, "measured": measured})
        self.publish(_flat(found))
        if step and (state.best_metric is None or found["score"] < state.best_metric):
            state.best_metric, state.best_global_step = found["score"], step
            state.best_model_checkpoint = str(checkpoint_folder(args.output_dir, step))

    def _write(self, state: TrainerState, row: Mapping[str, float]) -> None:
        if self.file and state.is_world_process_zero:
            tokens = round(state.global_step * self.tokens_per_step)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, "tokens": tokens, **row}) + "\n")

    def _forget_after(self, step: int) -> None:
        """Drop the lines of steps that an interrupted run made after its last checkpoint: they are made again."""
        if self.file and self.file.exists():
            lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True) if step else []
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
            self.file.write_text("".join(kept), encoding="utf-8")


def checkpoint_folder(folder: Path | str | None, step: int) -> Path:
    """Where the Trainer writes the checkpoint of a step."""
    return Path(str(folder)) / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def last_checkpoint(folder: Path) -> tuple[str | None, int]:
    """The last whole checkpoint in a folder and its step; none and 0 when there is none.

    The Trainer writes its state last: a checkpoint without it, or with a part of it, was being written when the process
    ended.
    """
    whole = [path.parent for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}") if _is_json(path)]
    steps = {int(path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")): str(path) for path in whole}
    return (steps[max(steps)], max(steps)) if steps else (None, 0)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _flat(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """`{"bits_per_byte": {"ru": 1.2}}` as `{"bits_per_byte/ru": 1.2}`."""
    flat: dict[str, float] = {}
    for name, value in numbers.items():
        flat |= _flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
