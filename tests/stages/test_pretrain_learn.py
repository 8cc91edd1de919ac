"""Training changes what the setting names and nothing else; the best checkpoint is the result; each step is logged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters
from transformers import AutoModelForCausalLM

from lep.errors import ArtifactError, CheckpointError, LepError, UsageError
from lep.io.model_folder import find_stored_tensors, open_model
from lep.io.model_writer import TRAINING_LOG_FILE
from lep.modeling.loading import load_model
from lep.modeling.trainable_embeddings import TrainableEmbeddings
from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel
from lep.stages import pretrain
from lep.training import pretraining
from lep.training.validation import ValidationSet

from .test_pretrain import KINDS, STEPS, TABLES, assert_same_tensors, build_settings

FIRST, LAST = "model.layers.0.", "model.layers.2."
LEARN = ("embeddings", "new_tokens", "embeddings+lora", "first_last", "full")


def trained_layers(learn: str, names: set[str]) -> set[str]:
    layers = {name for name in names if ".layers." in name}
    if learn == "embeddings+lora":
        return {name for name in layers if name.endswith("_proj.weight")}
    if learn == "first_last":
        return {name for name in layers if name.startswith((FIRST, LAST))}
    return names - TABLES["untied"] if learn == "full" else set()


@pytest.fixture(scope="module")
def deeper(bases, extended, make_model, tokenizers, run_stage, tmp_path_factory) -> dict[str, Path]:
    """Initialized models of three layers."""
    from lep.config import InitializeSettings

    root = tmp_path_factory.mktemp("deeper")
    for kind in KINDS:
        base = make_model(root / f"{kind}-base", tokenizers["byte_level"], tied=kind == "tied", layers=3)
        run_stage(InitializeSettings(base=base, tokenizer=extended, pad_to_multiple_of=1), root / kind)
    return {kind: root / kind for kind in KINDS}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("learn", LEARN)
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_setting_names_is_trained_and_nothing_else(
    deeper, corpus, run_stage, tensors, tmp_path, kind, learn, dtype
) -> None:
    rates = {"layer_learning_rate": 1e-3} if learn not in ("embeddings", "new_tokens") else {}
    settings = build_settings(deeper[kind], corpus, trainable=learn, dtype=dtype, lora_rank=4, **rates)
    result = run_stage(settings, tmp_path / "out")
    before, after = tensors(deeper[kind]), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == TABLES[kind] | trained_layers(learn, set(before))
    assert all(after[name].dtype == before[name].dtype for name in before)
    assert result.curve[-1].score < result.curve[0].score


def test_with_first_last_a_middle_layer_stays(deeper, corpus, run_stage, tensors, tmp_path) -> None:
    run_stage(build_settings(deeper["tied"], corpus, trainable="first_last"), tmp_path / "out")
    before, after = tensors(deeper["tied"]), tensors(tmp_path / "out")
    assert all(torch.equal(before[name], after[name]) for name in before if ".layers.1." in name)
    assert not any(torch.equal(before[name], after[name]) for name in before if ".layers.2." in name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_equals_the_one_with_adapters(deeper, corpus, run_stage, tmp_path, monkeypatch, kind) -> None:
    models: list[TrainableModel] = []
    train = pretraining.train
    monkeypatch.setattr(
        pretrain, "train", lambda model, *args, **kwargs: (models.append(model), train(model, *args, **kwargs))[1]
    )
    run_stage(build_settings(deeper[kind], corpus, trainable="embeddings+lora", lora_rank=4), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        logits, expected = merged(ids).logits, models[0].module.eval()(ids).logits
        start = load_model(deeper[kind], dtype="float32")(ids).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert (logits - start).abs().max() > 0.01


def test_adapters_have_their_rank_and_change_nothing_at_the_start(deeper, tensors) -> None:
    causal_lm = load_model(deeper["tied"], dtype="bfloat16")
    model = TrainableModel.with_split_embeddings(
        causal_lm, TrainableLayers("all", "lora", 4, 8), new_ids=torch.tensor([3]), train_old_rows=True
    )
    before = tensors(deeper["tied"])
    updates = model.weight_updates()
    assert all(torch.equal(update(before[name]), before[name].float()) for name, update in updates.items())
    for name, weight in model.layer_parameters.items():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    for name, update in updates.items():
        assert torch.linalg.matrix_rank(update(torch.zeros_like(before[name])), rtol=1e-3) == 4


@pytest.mark.parametrize("learn", ["embeddings+lora", "full"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    deeper, corpus, make_result, interrupt, tensors, tmp_path, learn
) -> None:
    settings = build_settings(
        deeper["untied"], corpus, trainable=learn, dtype="bfloat16", lr_scheduler_type="warmup_stable_decay"
    )
    whole = make_result(settings, tmp_path / "whole")
    interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        make_result(settings, tmp_path / "out")
    interrupt(0)
    actual = make_result(settings, tmp_path / "out")
    assert all(getattr(actual, key) == getattr(whole, key) for key in ("curve", "losses", "best_step"))
    assert_same_tensors(tensors(tmp_path / "out"), tensors(tmp_path / "whole"))
    logs = [read_log(tmp_path / name / TRAINING_LOG_FILE) for name in ("out", "whole")]
    assert logs[0] == logs[1]


def test_an_interrupted_run_resumes_with_other_micro_batches(
    initialized, corpus, make_result, interrupt, tmp_path
) -> None:
    """As after running out of memory: steps and samples are the same."""
    settings = build_settings(initialized["tied"], corpus)
    whole = make_result(settings, tmp_path / "whole")
    interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        make_result(settings, tmp_path / "out")
    interrupt(0)
    smaller = build_settings(initialized["tied"], corpus, micro_batch_size=2, gradient_checkpointing=True)
    actual = make_result(smaller, tmp_path / "out")
    losses = [torch.tensor([row.loss for row in result.losses]) for result in (actual, whole)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    assert torch.equal(losses[0][:2], losses[1][:2])  # from before the interruption


def read_log(log: Path) -> list[dict[str, Any]]:
    """The lines of a log, without what time changes."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "mfu")} for line in lines]


@pytest.mark.parametrize(
    ("schedule", "shape"),
    [("cosine", [0, 1, 0.9045, 0.6545, 0.3455, 0.0955]), ("warmup_stable_decay", [0, 1, 1, 1, 2 / 3, 1 / 3])],
)
def test_the_log_has_every_step_and_validation(initialized, corpus, run_stage, tmp_path, schedule, shape) -> None:
    settings = build_settings(
        initialized["tied"], corpus, lr_scheduler_type=schedule, decay_ratio=0.5, tensorboard=True
    )
    result = run_stage(settings, tmp_path / "out")
    lines = read_log(tmp_path / "out" / TRAINING_LOG_FILE)
    steps = [line for line in lines if "loss" in line]
    assert [(line["step"], line["loss"]) for line in steps] == [(point.step, point.loss) for point in result.losses]
    assert [line["learning_rate"] for line in steps] == pytest.approx([1e-2 * share for share in shape], abs=1e-5)
    measured = [line for line in lines if "score" in line]
    assert [line["step"] for line in measured] == [point.step for point in result.curve] == [0, 2, 4, 6]
    for line, point in zip(measured, result.curve, strict=True):
        bits = point.bits_per_byte
        assert line["bits_per_byte/ru"] == bits["ru"]
        assert line["score"] == point.score == pytest.approx((3 * bits["ru"] + bits["en"]) / 4)
        assert line["generated_new_fraction/ru"] == point.generated_new_fraction["ru"]
        assert "en" not in point.generated_new_fraction
        assert 0 < point.new_token_probability["ru"] < 1
        assert point.new_token_loss["ru"] > 0 < point.old_token_loss["ru"]
    assert 0 < result.mfu < 2
    assert scalars(tmp_path / "out" / "tensorboard") >= {"train/loss", "train/score", "train/bits_per_byte/ru"}


def scalars(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_the_best_validated_step_is_the_result(initialized, corpus, run_stage, tensors, tmp_path, monkeypatch) -> None:
    """The scores are set: the second of three validations is the best."""
    half = run_stage(build_settings(initialized["tied"], corpus, warmup_steps=0), tmp_path / "whole")
    scores = iter([9.0, 3.0, 1.0, 2.0])
    measure = ValidationSet.compute_metrics
    monkeypatch.setattr(ValidationSet, "compute_metrics", lambda *args: measure(*args) | {"score": next(scores)})
    actual = run_stage(build_settings(initialized["tied"], corpus, warmup_steps=0), tmp_path / "out")
    assert actual.best_step == 4 and half.best_step == STEPS
    assert actual.losses == half.losses
    name = "model.embed_tokens.weight"
    assert not torch.equal(tensors(tmp_path / "out")[name], tensors(tmp_path / "whole")[name])
    monkeypatch.undo()
    again = run_stage(build_settings(tmp_path / "out", corpus, trainable="embeddings"), tmp_path / "again")
    assert again.curve[0].bits_per_byte == pytest.approx(half.curve[2].bits_per_byte, rel=1e-5)


@pytest.mark.parametrize("learn", ["embeddings", "full"])
def test_gradient_checkpointing_changes_nothing(deeper, corpus, run_stage, tmp_path, learn) -> None:
    actual = [
        run_stage(
            build_settings(deeper["tied"], corpus, trainable=learn, gradient_checkpointing=twice), tmp_path / str(twice)
        )
        for twice in (False, True)
    ]
    assert actual[0].losses == actual[1].losses and actual[0].curve == actual[1].curve


@pytest.mark.slow
def test_compiled_layers_train_alike_and_validation_compiles_nothing(deeper, corpus, run_stage, tmp_path) -> None:
    counters.clear()
    actual = [
        run_stage(
            build_settings(deeper["tied"], corpus, torch_compile=compiled, trainable="first_last"),
            tmp_path / str(compiled),
        )
        for compiled in (False, True)
    ]
    losses = [torch.tensor([row.loss for row in result.losses]) for result in actual]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 2  # trained layers and frozen ones


def constant_metrics(*_: object) -> dict[str, Any]:
    return {"score": 1.0, "bits_per_byte": {"ru": 1.0}}


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("CUDA out of memory. Tried to allocate", LepError, r"lower micro_batch_size \(4\) or sequence_length \(32\)"),
        ("[enforce] DefaultCPUAllocator: can't allocate memory", LepError, "out of memory"),
        ("PytorchStreamWriter failed writing file data/3", ArtifactError, "the disk is full"),
    ],
)
def test_full_memory_and_full_disks_are_explained(
    initialized, corpus, run_stage, tmp_path, monkeypatch, words, error, message
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(TrainableEmbeddings, "forward", fail)
    monkeypatch.setattr(ValidationSet, "compute_metrics", constant_metrics)
    with pytest.raises(error, match=message):
        run_stage(build_settings(initialized["tied"], corpus), tmp_path / "out")


def test_other_runtime_errors_are_left_as_they_are(initialized, corpus, run_stage, tmp_path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(TrainableEmbeddings, "forward", fail)
    monkeypatch.setattr(ValidationSet, "compute_metrics", constant_metrics)
    with pytest.raises(RuntimeError, match="a bug"):
        run_stage(build_settings(initialized["tied"], corpus), tmp_path / "out")


def test_a_gradient_that_is_not_finite_is_not_saved(initialized, corpus, make_result, tmp_path, monkeypatch) -> None:
    forward = TrainableEmbeddings.forward
    calls: list[int] = []

    def with_nan_gradient(self: TrainableEmbeddings, *args: Any, **kwargs: Any) -> Any:
        actual = forward(self, *args, **kwargs)
        calls.append(1)
        if "labels" in kwargs and len(calls) > 5:
            self.embed.new.register_hook(lambda gradient: gradient * float("nan"))
        return actual

    monkeypatch.setattr(TrainableEmbeddings, "forward", with_nan_gradient)
    monkeypatch.setattr(ValidationSet, "compute_metrics", constant_metrics)
    with pytest.raises(LepError, match=r"the gradient is nan at step \d; .*the last good checkpoint stays in"):
        make_result(build_settings(initialized["tied"], corpus), tmp_path / "out")
    states = list((tmp_path / "out.partial" / "checkpoints").glob("checkpoint-*/model.safetensors"))
    assert states and all(rows.isfinite().all() for state in states for rows in load_file(state).values())


def test_a_model_that_has_fewer_rows_than_tokens_is_refused(bases, extended, corpus, run_stage, tmp_path) -> None:
    """As when a folder's tokenizer was replaced."""
    folder = tmp_path / "model"
    shutil.copytree(bases["tied"], folder)
    for item in extended.glob("tokenizer*.json"):
        (folder / item.name).write_bytes(item.read_bytes())
    with pytest.raises(CheckpointError, match=r"rows for \d+ tokens; is that its own tokenizer"):
        run_stage(build_settings(folder, corpus, trainable="embeddings"), tmp_path / "out")


def test_weights_that_are_not_stored_are_refused_before_training(deeper) -> None:
    source = open_model(deeper["tied"])
    assert find_stored_tensors(source, ["transformer.model.norm.weight"]) == {
        "transformer.model.norm.weight": "model.norm.weight"
    }
    with pytest.raises(
        CheckpointError, match=r"'model.experts.weight' is trainable, but no stored tensor has that name"
    ):
        find_stored_tensors(source, ["model.experts.weight"])


def test_a_missing_tracker_is_reported(initialized, corpus, run_stage, tmp_path, without) -> None:
    without("tensorboard")
    with pytest.raises(UsageError, match=r"pretrain.tensorboard needs tensorboard>=[\d.]+: pip install 'lep\[track\]'"):
        run_stage(build_settings(initialized["tied"], corpus, tensorboard=True), tmp_path / "out")


def test_missing_kernels_are_reported(initialized, corpus, run_stage, tmp_path) -> None:
    """They need a GPU: tests/stages/test_gpu.py runs them."""
    with pytest.raises(CheckpointError, match="pip install liger-kernel"):
        run_stage(build_settings(initialized["tied"], corpus, use_liger_kernel=True), tmp_path / "out")
