"""What learns is what was asked for, to the last tensor; the best checkpoint is the result; the log tells the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import AutoModelForCausalLM

from lep.errors import ArtifactError, CheckpointError, LepError, UsageError
from lep.io.model_folder import open_model, stored_names
from lep.io.model_writer import TRAINING_LOG
from lep.modeling.loading import load_model
from lep.modeling.trainable_embeddings import TrainableTables
from lep.modeling.trainable_layers import learnt_weights, let_layers_learn
from lep.stages import pretrain
from lep.training import pretraining
from lep.training.validation import HeldOut

from .test_pretrain import KINDS, STEPS, TABLES, assert_same_tensors, settings

FIRST, LAST = "model.layers.0.", "model.layers.2."
LEARN = ("embeddings", "new_rows", "embeddings+lora", "first_last", "full")


def layers_that_move(learn: str, names: set[str]) -> set[str]:
    layers = {name for name in names if ".layers." in name}
    if learn == "embeddings+lora":
        return {name for name in layers if name.endswith("_proj.weight")}
    if learn == "first_last":
        return {name for name in layers if name.startswith((FIRST, LAST))}
    return names - TABLES["untied"] if learn == "full" else set()


@pytest.fixture(scope="module")
def deeper(bases, extended, make_model, tokenizers, run_room, tmp_path_factory) -> dict[str, Path]:
    """Initialized models of three layers."""
    from lep.config import Initialize

    root = tmp_path_factory.mktemp("deeper")
    for kind in KINDS:
        base = make_model(root / f"{kind}-base", tokenizers["byte_level"], tied=kind == "tied", layers=3)
        run_room(Initialize(base=base, tokenizer=extended, pad_to_multiple=1), root / kind)
    return {kind: root / kind for kind in KINDS}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("learn", LEARN)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_asked_for_learns_and_nothing_else(
    deeper, corpus, run_room, tensors, tmp_path, kind, learn, dtype
) -> None:
    rates = {"lr_layers": 1e-3} if learn not in ("embeddings", "new_rows") else {}
    wanted = settings(deeper[kind], corpus, learn=learn, dtype=dtype, lora_rank=4, **rates)
    numbers = run_room(wanted, tmp_path / "out")
    before, after = tensors(deeper[kind]), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == TABLES[kind] | layers_that_move(learn, set(before))
    assert all(after[name].dtype == before[name].dtype for name in before)
    assert numbers["curve"][-1]["score"] < numbers["curve"][0]["score"]


def test_a_middle_layer_stays_when_the_first_and_the_last_learn(deeper, corpus, run_room, tensors, tmp_path) -> None:
    run_room(settings(deeper["tied"], corpus, learn="first_last"), tmp_path / "out")
    before, after = tensors(deeper["tied"]), tensors(tmp_path / "out")
    assert all(torch.equal(before[name], after[name]) for name in before if ".layers.1." in name)
    assert not any(torch.equal(before[name], after[name]) for name in before if ".layers.2." in name)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_adapters_say_what_the_adapters_said(deeper, corpus, run_room, tmp_path, monkeypatch, kind) -> None:
    kept: list[TrainableTables] = []
    train = pretraining.train
    monkeypatch.setattr(
        pretrain, "train", lambda model, *rest, **more: (kept.append(model), train(model, *rest, **more))[1]
    )
    run_room(settings(deeper[kind], corpus, learn="embeddings+lora", lora_rank=4), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        found, expected = merged(ids).logits, kept[0].eval()(ids).logits
        start = load_model(deeper[kind], dtype="float32")(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - start).abs().max() > 0.01


def test_adapters_are_of_their_rank_and_move_no_stored_bit_before_they_learn(deeper, tensors) -> None:
    model = load_model(deeper["tied"], dtype="bfloat16")
    tables = TrainableTables(model, new_rows=torch.tensor([3]))
    let_layers_learn(model, "embeddings+lora", lora_rank=4, lora_alpha=8)
    before = tensors(deeper["tied"])
    became = learnt_weights(model)
    assert all(torch.equal(change(before[name]), before[name].float()) for name, change in became.items())
    for name, weight in tables.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    for name, change in became.items():
        assert torch.linalg.matrix_rank(change(torch.zeros_like(before[name])), rtol=1e-3) == 4


@pytest.mark.parametrize("learn", ["embeddings+lora", "full"])
def test_an_interrupted_run_ends_as_an_unbroken_one(
    deeper, corpus, make_artifact, interrupt, tensors, tmp_path, learn
) -> None:
    wanted = settings(deeper["untied"], corpus, learn=learn, dtype="bfloat16", schedule="warmup_stable_decay")
    whole = make_artifact(wanted, tmp_path / "whole").numbers
    interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(wanted, tmp_path / "out")
    interrupt(0)
    found = make_artifact(wanted, tmp_path / "out").numbers
    assert all(found[key] == whole[key] for key in ("curve", "losses", "best_step"))
    assert_same_tensors(tensors(tmp_path / "out"), tensors(tmp_path / "whole"))
    logs = [told(tmp_path / name / TRAINING_LOG) for name in ("out", "whole")]
    assert logs[0] == logs[1]


def test_an_interrupted_run_goes_on_in_other_micro_batches(
    initialized, corpus, make_artifact, interrupt, tmp_path
) -> None:
    """As after running out of memory: the steps and their samples are the same."""
    wanted = settings(initialized["tied"], corpus)
    whole = make_artifact(wanted, tmp_path / "whole").numbers
    interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(wanted, tmp_path / "out")
    interrupt(0)
    smaller = settings(initialized["tied"], corpus, micro_batch_size=2, gradient_checkpointing=True)
    found = make_artifact(smaller, tmp_path / "out").numbers
    losses = [torch.tensor([row["loss"] for row in numbers["losses"]]) for numbers in (found, whole)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    assert torch.equal(losses[0][:2], losses[1][:2])  # kept from before


def told(log: Path) -> list[dict[str, Any]]:
    """The lines of a log, without what time changes."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "utilisation")} for line in lines]


@pytest.mark.parametrize(
    ("schedule", "shape"),
    [("cosine", [0, 1, 0.9045, 0.6545, 0.3455, 0.0955]), ("warmup_stable_decay", [0, 1, 1, 1, 2 / 3, 1 / 3])],
)
def test_the_log_has_every_step_and_measurement_and_the_rate_follows_the_schedule(
    initialized, corpus, run_room, tmp_path, schedule, shape
) -> None:
    wanted = settings(initialized["tied"], corpus, schedule=schedule, decay_share=0.5, tensorboard=True)
    numbers = run_room(wanted, tmp_path / "out")
    lines = told(tmp_path / "out" / TRAINING_LOG)
    steps = [line for line in lines if "loss" in line]
    assert [{"step": line["step"], "loss": line["loss"]} for line in steps] == numbers["losses"]
    assert [line["learning_rate"] for line in steps] == pytest.approx([1e-2 * share for share in shape], abs=1e-5)
    measured = [line for line in lines if "score" in line]
    assert [line["step"] for line in measured] == [row["step"] for row in numbers["curve"]] == [0, 2, 4, 6]
    for line, row in zip(measured, numbers["curve"], strict=True):
        assert line["bits_per_byte/ru"] == row["bits_per_byte"]["ru"]
        bits = row["bits_per_byte"]
        assert line["score"] == row["score"] == pytest.approx((3 * bits["ru"] + bits["en"]) / 4)
        assert line["written_new/ru"] == row["written_new"]["ru"] and "en" not in row["written_new"]
        assert 0 < row["mass_new"]["ru"] < 1 and row["loss_new"]["ru"] > 0 < row["loss_old"]["ru"]
    assert 0 < numbers["utilisation"] < 2
    assert scalars(tmp_path / "out" / "tensorboard") >= {"train/loss", "train/score", "train/bits_per_byte/ru"}


def scalars(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_the_best_measured_step_is_the_result(initialized, corpus, run_room, tensors, tmp_path, monkeypatch) -> None:
    """Scores are rigged: the second of three measurements is the best."""
    half = run_room(settings(initialized["tied"], corpus, warmup_steps=0), tmp_path / "whole")
    scores = iter([9.0, 3.0, 1.0, 2.0])
    measure = HeldOut.measure
    monkeypatch.setattr(HeldOut, "measure", lambda *given: measure(*given) | {"score": next(scores)})
    found = run_room(settings(initialized["tied"], corpus, warmup_steps=0), tmp_path / "out")
    assert found["best_step"] == 4 and half["best_step"] == STEPS
    assert found["losses"] == half["losses"]
    name = "model.embed_tokens.weight"
    assert not torch.equal(tensors(tmp_path / "out")[name], tensors(tmp_path / "whole")[name])
    monkeypatch.undo()
    again = run_room(settings(tmp_path / "out", corpus, learn="embeddings"), tmp_path / "again")
    assert again["curve"][0]["bits_per_byte"] == pytest.approx(half["curve"][2]["bits_per_byte"], rel=1e-5)


@pytest.mark.parametrize("learn", ["embeddings", "full"])
def test_activations_computed_twice_change_nothing(deeper, corpus, run_room, tmp_path, learn) -> None:
    found = [
        run_room(settings(deeper["tied"], corpus, learn=learn, gradient_checkpointing=twice), tmp_path / str(twice))
        for twice in (False, True)
    ]
    assert found[0]["losses"] == found[1]["losses"] and found[0]["curve"] == found[1]["curve"]


@pytest.mark.slow
def test_compiled_layers_train_alike_and_measurements_compile_nothing(deeper, corpus, run_room, tmp_path) -> None:
    counters.clear()
    found = [
        run_room(settings(deeper["tied"], corpus, compile=compiled, learn="first_last"), tmp_path / str(compiled))
        for compiled in (False, True)
    ]
    losses = [torch.tensor([row["loss"] for row in numbers["losses"]]) for numbers in found]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 2  # layers that learn, and those that do not


def unmeasured(*_: object) -> dict[str, Any]:
    return {"score": 1.0, "bits_per_byte": {"ru": 1.0}}


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("CUDA out of memory. Tried to allocate", LepError, r"lower micro_batch_size \(4\) or block \(32\)"),
        ("[enforce] DefaultCPUAllocator: can't allocate memory", LepError, "out of memory"),
        ("PytorchStreamWriter failed writing file data/3", ArtifactError, "the disk is full"),
    ],
)
def test_full_memory_and_full_disks_are_named(
    initialized, corpus, run_room, tmp_path, monkeypatch, words, error, message
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(TrainableTables, "forward", fail)
    monkeypatch.setattr(HeldOut, "measure", unmeasured)
    with pytest.raises(error, match=message):
        run_room(settings(initialized["tied"], corpus), tmp_path / "out")


def test_other_runtime_errors_are_left_as_they_are(initialized, corpus, run_room, tmp_path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(TrainableTables, "forward", fail)
    monkeypatch.setattr(HeldOut, "measure", unmeasured)
    with pytest.raises(RuntimeError, match="a bug"):
        run_room(settings(initialized["tied"], corpus), tmp_path / "out")


def test_a_gradient_that_is_no_number_stops_before_it_is_saved(
    initialized, corpus, make_artifact, tmp_path, monkeypatch
) -> None:
    forward = TrainableTables.forward
    calls: list[int] = []

    def spoilt(self: TrainableTables, *given: Any, **more: Any) -> Any:
        found = forward(self, *given, **more)
        calls.append(1)
        if "labels" in more and len(calls) > 5:
            self.embed.new.register_hook(lambda gradient: gradient * float("nan"))
        return found

    monkeypatch.setattr(TrainableTables, "forward", spoilt)
    monkeypatch.setattr(HeldOut, "measure", unmeasured)
    with pytest.raises(LepError, match=r"the gradient is nan at step \d; .*the last good checkpoint stays in"):
        make_artifact(settings(initialized["tied"], corpus), tmp_path / "out")
    states = list((tmp_path / "out.partial" / "checkpoints").glob("checkpoint-*/model.safetensors"))
    assert states and all(rows.isfinite().all() for state in states for rows in pretraining.load_file(state).values())


def test_a_model_that_has_fewer_rows_than_tokens_is_refused(bases, extended, corpus, run_room, tmp_path) -> None:
    """As when a tokenizer was put into a folder whose model has another."""
    folder = tmp_path / "model"
    shutil.copytree(bases["tied"], folder)
    for item in extended.glob("tokenizer*.json"):
        (folder / item.name).write_bytes(item.read_bytes())
    with pytest.raises(CheckpointError, match=r"rows for \d+ tokens; is that its own tokenizer"):
        run_room(settings(folder, corpus, learn="embeddings"), tmp_path / "out")


def test_weights_without_a_place_in_the_result_are_told_before_training(deeper) -> None:
    source = open_model(deeper["tied"])
    assert stored_names(source, ["transformer.model.norm.weight"]) == {
        "transformer.model.norm.weight": "model.norm.weight"
    }
    with pytest.raises(
        CheckpointError, match=r"'model.experts.weight' would learn, and no tensor of that name is stored"
    ):
        stored_names(source, ["model.experts.weight"])


def test_a_tracker_that_is_not_installed_is_named(initialized, corpus, run_room, tmp_path, without) -> None:
    without("tensorboard")
    with pytest.raises(UsageError, match=r"pretrain.tensorboard needs tensorboard>=[\d.]+: pip install 'lep\[track\]'"):
        run_room(settings(initialized["tied"], corpus, tensorboard=True), tmp_path / "out")


def test_kernels_that_are_not_installed_are_named(initialized, corpus, run_room, tmp_path) -> None:
    """They need a GPU: tests/stages/test_gpu.py runs them."""
    with pytest.raises(CheckpointError, match="pip install liger-kernel"):
        run_room(settings(initialized["tied"], corpus, liger=True), tmp_path / "out")
