"""The monitor validates, logs, reports progress and stops a training that diverges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from lep.errors import LepError
from lep.training import callbacks
from lep.training.callbacks import TrainingMonitor


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path / "checkpoints"), use_cpu=True, report_to="none")


def run_steps(
    monitor: TrainingMonitor, arguments: TrainingArguments, *, max_steps: int, state: TrainerState | None = None
) -> TrainerState:
    """Call the hooks as a Trainer does."""
    state, control = state or TrainerState(max_steps=max_steps), TrainerControl()
    state.is_world_process_zero = True
    monitor.on_train_begin(arguments, state, control)
    for step in range(state.global_step + 1, max_steps + 1):
        monitor.on_step_begin(arguments, state, control)
        state.global_step = step
        monitor.on_step_end(arguments, state, control)
        monitor.on_log(arguments, state, control, logs={"loss": 1.0 / step, "grad_norm": 1.0, "epoch": 0.1})
    return state


def test_the_best_step_is_the_lowest_score_after_the_start(arguments) -> None:
    scores = iter([1.0, 5.0, 2.0, 3.0])
    monitor = TrainingMonitor(tokens_per_step=10.0, eval_steps=2, compute_metrics=lambda: {"score": next(scores)})
    state = run_steps(monitor, arguments, max_steps=5)
    assert (state.best_metric, state.best_global_step) == (2.0, 4)
    assert state.best_model_checkpoint == str(Path(arguments.output_dir) / "checkpoint-4")
    points: list[Any] = [row["validation"] for row in state.log_history if "validation" in row]
    assert [(point["step"], point["tokens"], point["score"]) for point in points] == [
        (0, 0, 1.0),
        (2, 20, 5.0),
        (4, 40, 2.0),
        (5, 50, 3.0),
    ]


def test_without_eval_steps_nothing_is_validated(arguments) -> None:
    monitor = TrainingMonitor(tokens_per_step=10.0, compute_metrics=lambda: pytest.fail("not asked for"))
    state = run_steps(monitor, arguments, max_steps=3)
    assert state.best_metric is None and not state.log_history and monitor.mfu is None


def test_each_step_and_validation_is_a_line_of_the_log(arguments, tmp_path: Path) -> None:
    log_path, metrics = tmp_path / "log.jsonl", {"score": 1.5, "bits_per_byte": {"ru": 1.2}}
    monitor = TrainingMonitor(tokens_per_step=10.0, eval_steps=2, compute_metrics=lambda: metrics, log_path=log_path)
    state = TrainerState(max_steps=2)
    monitor.log_metrics = lambda logs: monitor.on_log(arguments, state, TrainerControl(), logs=logs)
    run_steps(monitor, arguments, max_steps=2, state=state)
    rows = [json.loads(line) for line in log_path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 2] and [row["tokens"] for row in rows] == [0, 10, 20, 20]
    assert [row.get("loss") for row in rows] == [None, 1.0, None, 0.5]
    assert rows[2]["bits_per_byte/ru"] == 1.2 and rows[2]["score"] == 1.5 and "epoch" not in rows[1]
    assert "mfu" not in rows[1]


def test_speed_is_that_of_the_steps_alone(arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: float(next(clock)))
    amounts: list[float] = []
    peaks = iter([20.0, 40.0, 30.0])
    monitor = TrainingMonitor(
        tokens_per_step=10.0,
        eval_steps=2,
        compute_metrics=lambda: {"score": 1.0},
        estimate_peak_speed=lambda: next(peaks),
    )
    monitor.advance = amounts.append
    run_steps(monitor, arguments, max_steps=2)
    assert monitor.tokens_per_second == 10.0 and amounts == [10, 10]
    assert monitor.mfu == 10 / 40  # the highest estimate of the peak


@pytest.mark.parametrize(("name", "label"), [("loss", "loss"), ("grad_norm", "gradient")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_stops_the_training(arguments, name: str, label: str, value: float) -> None:
    monitor, state = TrainingMonitor(tokens_per_step=10.0), TrainerState(global_step=7)
    logs = {"loss": 1.0, "grad_norm": 1.0, name: value}
    with pytest.raises(LepError, match=rf"the {label} is {value} at step 7; lower .* stays in {arguments.output_dir}"):
        monitor.on_log(arguments, state, TrainerControl(), logs=logs)


def test_a_resumed_training_drops_the_lines_that_it_repeats(arguments, tmp_path: Path) -> None:
    log_path = tmp_path / "log.jsonl"
    log_path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 3, "los')
    state = TrainerState(global_step=2, max_steps=4, best_global_step=2)
    state.is_world_process_zero = True
    monitor = TrainingMonitor(tokens_per_step=10.0, eval_steps=2, log_path=log_path)
    monitor.on_train_begin(arguments, state, TrainerControl())
    assert log_path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert state.best_model_checkpoint == str(Path(arguments.output_dir) / "checkpoint-2")  # the folder has moved
    state.global_step = 0
    monitor.eval_steps = 0
    monitor.on_train_begin(arguments, state, TrainerControl())
    assert log_path.read_text() == ""
