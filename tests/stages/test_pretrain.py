"""Pre-training changes the tables and nothing else, and an interruption changes nothing at all."""

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

from lep.config import Pretrain
from lep.data.packing import pack_corpus
from lep.errors import ArtifactError, DataError, LepError, UsageError
from lep.io.model_folder import open_model
from lep.io.model_writer import COMPOSED_ROWS, TRAINING_LOG
from lep.modeling.loading import load_model, load_tokenizer
from lep.training import callbacks as watch

TABLES = {"tied": {"model.embed_tokens.weight"}, "untied": {"model.embed_tokens.weight", "lm_head.weight"}}
KINDS = tuple(TABLES)
STEPS, BLOCK, BATCH = 6, 32, 8


def settings(model: Path, corpus: Path, **changes: Any) -> Pretrain:
    values: dict[str, Any] = {
        "model": model,
        "corpus": corpus,
        "mixture": {"ru": 3, "en": 1},
        "tokens": STEPS * BATCH * BLOCK,
        "block": BLOCK,
        "batch_size": BATCH,
        "micro_batch_size": 4,
        "lr": 1e-2,
        "learn": "new_rows",
        "warmup_steps": 1,
        "weight_decay": 0.5,
        "evaluations": 3,
        "evaluation_characters": 300,
        "dtype": "float32",
    }
    return Pretrain.model_validate(values | changes)


@pytest.mark.parametrize("kind", KINDS)
def test_old_rows_without_a_rate_stay_bit_identical_and_new_rows_move(
    initialized, corpus, run_room, tensors, tmp_path, kind
) -> None:
    run_room(settings(initialized[kind], corpus), tmp_path / "out")
    before, after = tensors(initialized[kind]), tensors(tmp_path / "out")
    new = json.loads((initialized[kind] / COMPOSED_ROWS).read_text())
    old = [i for i in range(len(before["model.embed_tokens.weight"])) if i not in set(new)]
    assert len(new) == 60
    for name in TABLES[kind]:
        assert torch.equal(before[name][old], after[name][old]), name
    # every row of a head meets the softmax; of an untied embedding, those of tokens in the samples
    name = "model.embed_tokens.weight" if kind == "tied" else "lm_head.weight"
    assert (before[name][new] != after[name][new]).any(dim=1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_with_one_rate_all_rows_learn_and_nothing_but_the_tables_does(
    initialized, corpus, run_room, tensors, tmp_path, kind
) -> None:
    run_room(settings(initialized[kind], corpus, learn="embeddings"), tmp_path / "out")
    before, after = tensors(initialized[kind]), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert torch.equal(tensor, after[name]) is (name not in TABLES[kind]), name
    for name in TABLES[kind] - {"model.embed_tokens.weight" if kind == "untied" else ""}:
        assert (before[name] != after[name]).any(dim=1).all()
    assert open_model(tmp_path / "out").tied is (kind == "tied")
    theirs = {item.name for item in initialized[kind].iterdir()} - {COMPOSED_ROWS}
    assert {item.name for item in (tmp_path / "out").iterdir()} == theirs | {TRAINING_LOG}


def test_old_rows_move_at_their_own_rate(initialized, corpus, run_room, tensors, tmp_path) -> None:
    moved = {}
    for rate in (1e-4, 1e-2):
        run_room(settings(initialized["tied"], corpus, learn="embeddings", lr_old_rows=rate), tmp_path / str(rate))
        before, after = tensors(initialized["tied"]), tensors(tmp_path / str(rate))
        moved[rate] = (after["model.embed_tokens.weight"] - before["model.embed_tokens.weight"])[:500].norm()
    assert 0 < moved[1e-4] < moved[1e-2] / 10


@pytest.fixture(scope="module")
def unbroken(initialized, corpus, make_artifact, tmp_path_factory) -> dict[str, Any]:
    """By kind: the settings, the numbers and the folder of a run that nothing interrupts."""
    root = tmp_path_factory.mktemp("unbroken")
    found = {}
    for kind in KINDS:
        wanted = settings(initialized[kind], corpus, learn="embeddings")
        found[kind] = (wanted, make_artifact(wanted, root / kind).numbers, root / kind)
    return found


def same(numbers: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(numbers[key] == other[key] for key in ("curve", "losses", "trained_tokens"))


@pytest.mark.parametrize(("kind", "step"), [("tied", 1), ("tied", 3), ("tied", 5), ("untied", 3)])
def test_an_interrupted_run_ends_as_an_unbroken_one(
    unbroken, make_artifact, interrupt, tensors, tmp_path, kind, step
) -> None:
    wanted, numbers, folder = unbroken[kind]
    interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    interrupt(0)
    assert same(make_artifact(wanted, tmp_path / "out").numbers, numbers)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))


def assert_same_tensors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_an_interruption_after_the_last_step_costs_no_training(
    unbroken, make_artifact, tensors, tmp_path, monkeypatch
) -> None:
    from lep.stages import pretrain

    wanted, numbers, folder = unbroken["tied"]

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "write_changed", full)
        with pytest.raises(OSError, match="no space"):
            make_artifact(wanted, tmp_path / "out")
    steps: list[int] = []
    monkeypatch.setattr(
        watch.Watch, "on_step_begin", lambda self, args, state, control, **_: steps.append(state.global_step)
    )
    assert same(make_artifact(wanted, tmp_path / "out").numbers, numbers)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))
    assert not steps


@pytest.mark.parametrize("state", [None, "", '{"epoch": 0.6, "log_history": [{"loss": 5'])
def test_a_checkpoint_that_was_being_written_is_passed_over(
    unbroken, make_artifact, interrupt, tensors, tmp_path, state
) -> None:
    """A kill or a full disk while saving leaves a folder without all of the Trainer's state, its last file."""
    wanted, numbers, folder = unbroken["tied"]
    interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(wanted, tmp_path / "out")
    checkpoints = tmp_path / "out.partial" / "checkpoints"
    assert watch.last_checkpoint(checkpoints) == (str(checkpoints / "checkpoint-2"), 2)
    shutil.copytree(checkpoints / "checkpoint-2", checkpoints / "checkpoint-4")
    (checkpoints / "checkpoint-4" / "trainer_state.json").unlink()
    (checkpoints / "checkpoint-4" / "model.safetensors").write_bytes(b"")
    if state is not None:
        (checkpoints / "checkpoint-4" / "trainer_state.json").write_text(state)
    interrupt(0)
    assert same(make_artifact(wanted, tmp_path / "out").numbers, numbers)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))


def test_a_killed_process_leaves_no_artifact_and_is_gone_on_from(unbroken, tensors, tmp_path, make_artifact) -> None:
    wanted, numbers, folder = unbroken["tied"]
    script = f"""
import os, signal
from pathlib import Path
from lep.config import Pretrain
from lep.training.callbacks import Watch
from lep.pipeline import Step, run
keep = Watch.on_step_end
def on_step_end(self, args, state, control, **more):
    if state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    keep(self, args, state, control, **more)
Watch.on_step_end = on_step_end
settings = Pretrain.model_validate_json({wanted.model_dump_json()!r})
step = Step("pretrain", "pretrain", settings, Path({str(tmp_path / "out")!r}))
run([step], replace=False, started=lambda _: None, ended=lambda *_: None)
"""
    killed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "out").exists()
    assert watch.last_checkpoint(tmp_path / "out.partial" / "checkpoints")[1] == 2
    assert same(make_artifact(wanted, tmp_path / "out").numbers, numbers)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))


def test_a_full_disk_at_the_worst_moment_costs_nothing(
    unbroken, make_artifact, interrupt, tensors, tmp_path, monkeypatch
) -> None:
    """Neither the checkpoints nor the note of what they belong to are lost when that note cannot be written."""
    wanted, numbers, folder = unbroken["tied"]
    interrupt(3)
    original = Path.write_text

    def full(self: Path, text: str, *more: Any, **options: Any) -> int:
        if self.name.startswith(".work") and (self.parent / "checkpoints").exists():
            self.write_bytes(b"")
            raise OSError(28, "No space left on device")
        return original(self, text, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(ArtifactError, match="No space"):
            make_artifact(wanted, tmp_path / "out")
    assert watch.last_checkpoint(tmp_path / "out.partial" / "checkpoints")[1] == 2
    interrupt(0)
    assert same(make_artifact(wanted, tmp_path / "out").numbers, numbers)
    assert_same_tensors(tensors(tmp_path / "out"), tensors(folder))
    assert not list((tmp_path / "out").glob(".work*"))


def test_another_seed_is_another_order(unbroken, initialized, corpus, run_room, tmp_path) -> None:
    numbers = run_room(settings(initialized["tied"], corpus, learn="embeddings", seed=1), tmp_path / "out")
    assert numbers["losses"] != unbroken["tied"][1]["losses"]
    assert numbers["curve"][0]["bits_per_byte"] == unbroken["tied"][1]["curve"][0]["bits_per_byte"]


def test_micro_batches_do_not_change_the_result(unbroken, initialized, corpus, run_room, tensors, tmp_path) -> None:
    wanted = settings(initialized["tied"], corpus, learn="embeddings", micro_batch_size=8)
    numbers = run_room(wanted, tmp_path / "out")
    losses = torch.tensor([[row["loss"] for row in found["losses"]] for found in (numbers, unbroken["tied"][1])])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inside", [True, False])
def test_losses_are_means_over_the_tokens_that_are_predicted(initialized, corpus, run_room, tmp_path, inside) -> None:
    wanted = settings(initialized["tied"], corpus, micro_batch_size=2, inside_documents=inside)
    losses = run_room(wanted, tmp_path / "out")["losses"]
    tokenizer = load_tokenizer(wanted.model)
    samples = pack_corpus(
        wanted.corpus,
        tokenizer,
        mixture=wanted.mixture,
        samples=STEPS * BATCH,
        block=BLOCK,
        seed=wanted.seed,
        folder=tmp_path / "samples",
        inside_documents=inside,
    )
    first = default_data_collator([samples[i] for i in range(BATCH)])
    with torch.no_grad():
        expected: Any = load_model(wanted.model, dtype="float32")(**first, use_cache=False)
    assert losses[0]["loss"] == pytest.approx(expected.loss.item(), rel=1e-5)


def test_a_loss_that_is_no_number_stops_with_its_step(initialized, corpus, make_artifact, rewrite, tmp_path) -> None:
    def spoil(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * float("nan") if name == "model.norm.weight" else tensor

    broken = rewrite(initialized["tied"], tmp_path / "broken", spoil)
    with pytest.raises(LepError, match="loss is nan at step 1"):
        make_artifact(settings(broken, corpus, learn="embeddings"), tmp_path / "out")
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
def test_settings_that_cannot_work_are_named(
    initialized, corpus, make_artifact, tmp_path, changes, error, message
) -> None:
    with pytest.raises(error, match=message):
        make_artifact(settings(initialized["tied"], corpus, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frozen_old_rows_need_to_know_the_new_ones(bases, corpus, run_room, tmp_path) -> None:
    with pytest.raises(DataError, match="learn=new_rows and lr_old_rows need a model made by `lep initialize`"):
        run_room(settings(bases["tied"], corpus), tmp_path / "out")
