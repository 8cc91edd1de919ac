"""Pre-training changes the embeddings and nothing else, and an interruption changes nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import default_data_collator

from lep.config import PretrainSettings
from lep.data.packing import pack_corpus
from lep.errors import ArtifactError, DataError, LepError, UsageError
from lep.io.model_folder import open_model
from lep.io.model_writer import COMPOSED_ROWS_FILE, TRAINING_LOG_FILE
from lep.modeling.loading import load_model, load_tokenizer
from lep.results.stages import PretrainingResult
from lep.training.callbacks import TrainingMonitor
from lep.training.checkpoints import find_last_checkpoint

TABLES = {"tied": {"model.embed_tokens.weight"}, "untied": {"model.embed_tokens.weight", "lm_head.weight"}}
KINDS = tuple(TABLES)
STEPS, BLOCK, BATCH = 6, 32, 8


def build_settings(model: Path, corpus: Path, **changes: Any) -> PretrainSettings:
    values: dict[str, Any] = {
        "model": model,
        "corpus": corpus,
        "mixture": {"ru": 3, "en": 1},
        "tokens": STEPS * BATCH * BLOCK,
        "sequence_length": BLOCK,
        "batch_size": BATCH,
        "micro_batch_size": 4,
        "learning_rate": 1e-2,
        "trainable": "new_tokens",
        "warmup_steps": 1,
        "weight_decay": 0.5,
        "num_evaluations": 3,
        "evaluation_characters": 300,
        "dtype": "float32",
    }
    return PretrainSettings.model_validate(values | changes)


@pytest.mark.parametrize("kind", KINDS)
def test_with_new_tokens_old_rows_stay_bit_identical(initialized, corpus, run_stage, tensors, tmp_path, kind) -> None:
    run_stage(build_settings(initialized[kind], corpus), tmp_path / "out")
    before, after = tensors(initialized[kind]), tensors(tmp_path / "out")
    new = json.loads((initialized[kind] / COMPOSED_ROWS_FILE).read_text())
    old = [i for i in range(len(before["model.embed_tokens.weight"])) if i not in set(new)]
    assert len(new) == 60
    for name in TABLES[kind]:
        assert torch.equal(before[name][old], after[name][old]), name
    # every row of the output embeddings gets a gradient; of untied input embeddings, those in the samples
    name = "model.embed_tokens.weight" if kind == "tied" else "lm_head.weight"
    assert (before[name][new] != after[name][new]).any(dim=1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_with_one_rate_all_rows_are_trained_and_nothing_else(
    initialized, corpus, run_stage, tensors, tmp_path, kind
) -> None:
    run_stage(build_settings(initialized[kind], corpus, trainable="embeddings"), tmp_path / "out")
    before, after = tensors(initialized[kind]), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(tensor, after[name]) is (name not in TABLES[kind]), name
    for name in TABLES[kind] - {"model.embed_tokens.weight" if kind == "untied" else ""}:
        assert (before[name] != after[name]).any(dim=1).all()
    assert open_model(tmp_path / "out").tied is (kind == "tied")
    theirs = {item.name for item in initialized[kind].iterdir()} - {COMPOSED_ROWS_FILE}
    assert {item.name for item in (tmp_path / "out").iterdir()} == theirs | {TRAINING_LOG_FILE}


def test_old_rows_have_their_own_rate(initialized, corpus, run_stage, tensors, tmp_path) -> None:
    moved = {}
    for rate in (1e-4, 1e-2):
        run_stage(
            build_settings(initialized["tied"], corpus, trainable="embeddings", old_token_learning_rate=rate),
            tmp_path / str(rate),
        )
        before, after = tensors(initialized["tied"]), tensors(tmp_path / str(rate))
        moved[rate] = (after["model.embed_tokens.weight"] - before["model.embed_tokens.weight"])[:500].norm()
    assert 0 < moved[1e-4] < moved[1e-2] / 10


@pytest.fixture(scope="module")
def uninterrupted(initialized, corpus, make_result, tmp_path_factory) -> dict[str, Any]:
    """By kind: the settings, the result and the folder of an uninterrupted run."""
    root = tmp_path_factory.mktemp("uninterrupted")
    runs = {}
    for kind in KINDS:
        settings = build_settings(initialized[kind], corpus, trainable="embeddings")
        runs[kind] = (settings, make_result(settings, root / kind), root / kind)
    return runs


def same(result: PretrainingResult, other: PretrainingResult) -> bool:
    return all(getattr(result, key) == getattr(other, key) for key in ("curve", "losses", "trained_tokens"))


@pytest.mark.parametrize(("kind", "step"), [("tied", 1), ("tied", 3), ("tied", 5), ("untied", 3)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    uninterrupted, make_result, interrupt, tensors, tmp_path, kind, step
) -> None:
    settings, result, folder = uninterrupted[kind]
    interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        make_result(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    interrupt(0)
    assert same(make_result(settings, tmp_path / "out"), result)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))


def assert_same_tensors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


def test_an_interruption_after_the_last_step_costs_no_training(
    uninterrupted, make_result, tensors, tmp_path, monkeypatch
) -> None:
    from lep.stages import pretrain

    settings, result, folder = uninterrupted["tied"]

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "write_trained_model", full)
        with pytest.raises(OSError, match="no space"):
            make_result(settings, tmp_path / "out")
    steps: list[int] = []
    monkeypatch.setattr(
        TrainingMonitor, "on_step_begin", lambda self, args, state, control, **_: steps.append(state.global_step)
    )
    assert same(make_result(settings, tmp_path / "out"), result)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))
    assert not steps


@pytest.mark.parametrize("state", [None, "", '{"epoch": 0.6, "log_history": [{"loss": 5'])
def test_a_checkpoint_that_was_being_written_is_ignored(
    uninterrupted, make_result, interrupt, tensors, tmp_path, state
) -> None:
    """A kill or a full disk while saving leaves a folder without the Trainer's complete state, its last file."""
    settings, result, folder = uninterrupted["tied"]
    interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        make_result(settings, tmp_path / "out")
    checkpoints = tmp_path / "out.partial" / "checkpoints"
    assert find_last_checkpoint(checkpoints) == (str(checkpoints / "checkpoint-2"), 2)
    shutil.copytree(checkpoints / "checkpoint-2", checkpoints / "checkpoint-4")
    (checkpoints / "checkpoint-4" / "trainer_state.json").unlink()
    (checkpoints / "checkpoint-4" / "model.safetensors").write_bytes(b"")
    if state is not None:
        (checkpoints / "checkpoint-4" / "trainer_state.json").write_text(state)
    interrupt(0)
    assert same(make_result(settings, tmp_path / "out"), result)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))


def test_a_killed_process_leaves_no_artifact_and_is_resumed(uninterrupted, tensors, tmp_path, make_result) -> None:
    settings, result, folder = uninterrupted["tied"]
    script = f"""
import os, signal
from pathlib import Path
from lep.config import PretrainSettings
from lep.pipeline import PipelineStep, run_steps
from lep.registry import STAGES
from lep.training.callbacks import TrainingMonitor
keep = TrainingMonitor.on_step_end
def on_step_end(self, args, state, control, **more):
    if state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    keep(self, args, state, control, **more)
TrainingMonitor.on_step_end = on_step_end
settings = PretrainSettings.model_validate_json({settings.model_dump_json()!r})
step = PipelineStep("pretrain", STAGES["pretrain"], settings, Path({str(tmp_path / "out")!r}))
run_steps([step], replace=False, on_start=lambda _: None, on_end=lambda *_: None)
"""
    killed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "out").exists()
    assert find_last_checkpoint(tmp_path / "out.partial" / "checkpoints")[1] == 2
    assert same(make_result(settings, tmp_path / "out"), result)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))


def test_a_full_disk_loses_no_checkpoint(uninterrupted, make_result, interrupt, tensors, tmp_path, monkeypatch) -> None:
    """Neither the checkpoints nor the state of the work are lost when that state cannot be written."""
    settings, result, folder = uninterrupted["tied"]
    interrupt(3)
    original = Path.open

    def fail(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if self.name.startswith(".work") and "w" in mode and (self.parent / "checkpoints").exists():
            original(self, mode).close()
            raise OSError(28, "No space left on device")
        return original(self, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(ArtifactError, match="No space"):
            make_result(settings, tmp_path / "out")
    assert find_last_checkpoint(tmp_path / "out.partial" / "checkpoints")[1] == 2
    interrupt(0)
    assert same(make_result(settings, tmp_path / "out"), result)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))
    assert not list((tmp_path / "out").glob(".work*"))


def test_another_seed_is_another_order(uninterrupted, initialized, corpus, run_stage, tmp_path) -> None:
    result = run_stage(build_settings(initialized["tied"], corpus, trainable="embeddings", seed=1), tmp_path / "out")
    assert result.losses != uninterrupted["tied"][1].losses
    assert result.curve[0].bits_per_byte == uninterrupted["tied"][1].curve[0].bits_per_byte


def test_micro_batches_do_not_change_the_result(
    uninterrupted, initialized, corpus, run_stage, tensors, tmp_path
) -> None:
    settings = build_settings(initialized["tied"], corpus, trainable="embeddings", micro_batch_size=8)
    result = run_stage(settings, tmp_path / "out")
    losses = torch.tensor([[row.loss for row in actual.losses] for actual in (result, uninterrupted["tied"][1])])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inside", [True, False])
def test_losses_are_means_over_the_tokens_that_are_predicted(initialized, corpus, run_stage, tmp_path, inside) -> None:
    settings = build_settings(initialized["tied"], corpus, micro_batch_size=2, document_masking=inside)
    losses = run_stage(settings, tmp_path / "out").losses
    tokenizer = load_tokenizer(settings.model)
    samples = pack_corpus(
        settings.corpus,
        tokenizer,
        mixture=settings.mixture,
        num_samples=STEPS * BATCH,
        sequence_length=BLOCK,
        seed=settings.seed,
        folder=tmp_path / "samples",
        document_masking=inside,
    )
    first = default_data_collator([samples[i] for i in range(BATCH)])
    with torch.no_grad():
        expected: Any = load_model(settings.model, dtype="float32")(**first, use_cache=False)
    assert losses[0].loss == pytest.approx(expected.loss.item(), rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_training(initialized, corpus, make_result, rewrite, tmp_path) -> None:
    def spoil(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * float("nan") if name == "model.norm.weight" else tensor

    broken = rewrite(initialized["tied"], tmp_path / "broken", spoil)
    with pytest.raises(LepError, match="loss is nan at step 1"):
        make_result(build_settings(broken, corpus, trainable="embeddings"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"micro_batch_size": 3},
            UsageError,
            "micro_batch_size 3 × 1 process does not divide batch_size 8; change one",
        ),
        ({"mixture": {"de": 1}}, DataError, "no text of language 'de'; it has: en, ru"),
    ],
)
def test_unusable_settings_are_refused(initialized, corpus, make_result, tmp_path, changes, error, message) -> None:
    with pytest.raises(error, match=message):
        make_result(build_settings(initialized["tied"], corpus, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frozen_old_rows_need_to_know_the_new_ones(bases, corpus, run_stage, tmp_path) -> None:
    with pytest.raises(
        DataError, match="trainable=new_tokens and old_token_learning_rate need a model made by `lep initialize`"
    ):
        run_stage(build_settings(bases["tied"], corpus), tmp_path / "out")
