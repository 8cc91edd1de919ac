"""Fine-tuning writes a whole model folder, and an interruption changes nothing."""

from __future__ import annotations

import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lep.config import TuneSettings, runtime_only_fields
from lep.data.copy_tasks import build_copy_tasks
from lep.errors import DataError, TokenizerError, UsageError
from lep.io.model_folder import open_model

KINDS = ("tied", "untied")


def build_settings(model: Path, data: Path, **changes: Any) -> TuneSettings:
    values: dict[str, Any] = {
        "model": model,
        "data": data,
        "epochs": 2,
        "lora_rank": 2,
        "learning_rate": 1e-2,
        "batch_size": 8,
        "micro_batch_size": 4,
        "dtype": "float32",
    }
    return TuneSettings.model_validate(values | changes)


@pytest.fixture(scope="module")
def uninterrupted(instructs, conversations, make_result, tmp_path_factory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("tuned")
    runs = {}
    for kind in KINDS:
        settings = build_settings(instructs[kind], conversations)
        runs[kind] = (settings, make_result(settings, root / kind), root / kind)
    return runs


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_the_model_with_changed_weights(uninterrupted, instructs, tensors, kind) -> None:
    _, result, folder = uninterrupted[kind]
    before, after = tensors(instructs[kind]), tensors(folder)
    assert {k: (v.shape, v.dtype) for k, v in before.items()} == {k: (v.shape, v.dtype) for k, v in after.items()}
    for name, tensor in before.items():
        learns = "norm" not in name
        assert torch.equal(tensor, after[name]) is (not learns), name
    assert open_model(folder).tied is (kind == "tied")
    added = {"README.md", "manifest.json", "training.jsonl"} | (
        {"model-embeddings.safetensors"} if kind == "untied" else set()
    )
    assert {item.name for item in folder.iterdir()} == {item.name for item in instructs[kind].iterdir()} | added
    assert (folder / "tokenizer.json").read_bytes() == (instructs[kind] / "tokenizer.json").read_bytes()
    assert [point.step for point in result.losses] == [1, 2, 3, 4]
    assert result.losses[-1].loss < result.losses[0].loss
    _, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]


@pytest.mark.parametrize(("kind", "step"), [("tied", 1), ("tied", 2), ("untied", 2)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    uninterrupted, make_result, interrupt, tensors, tmp_path, kind, step
) -> None:
    settings, result, folder = uninterrupted[kind]
    interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        make_result(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert any((tmp_path / "out.partial" / "checkpoints").iterdir())
    interrupt(0)
    again = make_result(settings, tmp_path / "out")
    assert again.losses == result.losses and again.trained_tokens == result.trained_tokens
    expected, actual = tensors(folder), tensors(tmp_path / "out")
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


def test_the_loss_is_on_answers_only(instructs, texts, run_stage, tmp_path) -> None:
    """The first loss is that of the answer and its end, given everything before it."""
    row = {
        "prompt": [{"role": "user", "content": texts["en"][0]}],
        "completion": [{"role": "assistant", "content": texts["en"][1]}],
    }
    data = tmp_path / "one.jsonl"
    data.write_text(json.dumps(row))
    settings = build_settings(instructs["tied"], data, batch_size=1, micro_batch_size=1, epochs=1)
    result = run_stage(settings, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(instructs["tied"])
    model = AutoModelForCausalLM.from_pretrained(instructs["tied"])
    prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
    first, ids = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (prompt, whole))
    assert torch.equal(ids[:, : first.shape[1]], first)
    losses = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
    expected = losses[first.shape[1] - 1 :].mean().item()
    assert result.losses[0].loss == pytest.approx(expected, rel=1e-3)
    assert result.trained_tokens == ids.shape[1]


def test_unusable_settings_and_data_are_refused(instructs, conversations, make_result, tmp_path) -> None:
    def refuse(error: type[Exception], message: str, **changes: Any) -> None:
        with pytest.raises(error, match=message):
            make_result(build_settings(instructs["tied"], conversations).model_copy(update=changes), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refuse(UsageError, "micro_batch_size 3 × 1 process does not divide batch_size 8", micro_batch_size=3)
    refuse(DataError, "every conversation is longer than max_length=5 tokens", max_length=5)
    refuse(DataError, r"16 samples, times epochs=2, are less than one step of batch_size=40", batch_size=40)
    bare = tmp_path / "bare"
    shutil.copytree(instructs["tied"], bare)
    (bare / "chat_template.jinja").unlink()
    refuse(TokenizerError, "no chat template", model=bare)
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": []}\n')
    refuse(DataError, "data.jsonl:1: expected a row with messages; .*; it has: prompt", data=data)
    data.write_text("")
    refuse(DataError, "data.jsonl: holds no rows", data=data)


def test_sources_are_reported_by_name(
    instructs, conversations, corpus, run_stage, tmp_path, texts, monkeypatch
) -> None:
    """Unusable rows are counted, evaluation items in the data are reported, copy tasks are mixed in."""
    other = tmp_path / "other.jsonl"
    rows = [{"instruction": texts["en"][i], "output": texts["en"][i + 1] if i else " ", "score": i} for i in range(6)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"skills": conversations, "alpaca": {"files": [other], "min_scores": {"score": 2}}}
    copies = {"corpus": corpus, "count": 4}
    monkeypatch.setattr("lep.stages._finetuning.build_copy_tasks", partial(build_copy_tasks, evaluated_characters=0))
    monkeypatch.setattr("lep.data.copy_tasks.MIN_ARTICLE_LENGTH", 100)
    settings = build_settings(instructs["untied"], conversations, epochs=1, heldout_items=conversations)
    settings = TuneSettings.model_validate(settings.model_dump() | {"data": data, "copy_tasks": copies})
    result = run_stage(settings, tmp_path / "out")
    assert {name: source.rows for name, source in result.sources.items()} == {
        "skills": 16,
        "alpaca": 4,
        "copy": 4,
    }
    assert sum(source.trained_fraction for source in result.sources.values()) == pytest.approx(1)
    assert result.skipped == {"skills": {}, "alpaca": {"score below 2": 2}}
    assert result.examples == 24 and result.epochs == 1
    assert any("16 of 16 texts of heldout_items are in the data" in warning for warning in result.warnings)


@pytest.mark.parametrize(("way", "step"), [("dora", 2), ("packed", 1), ("dpo", 2), ("kto", 2)])
def test_every_method_resumes_as_if_uninterrupted(
    instructs, ways, make_result, interrupt, tensors, tmp_path, way, step
) -> None:
    settings = ways[way]
    result = make_result(settings, tmp_path / "uninterrupted")
    losses = result.losses
    assert len(losses) == 4 and losses[-1].loss < losses[0].loss
    if way in ("dpo", "kto"):  # the model still equals its reference
        assert losses[0].loss == pytest.approx({"dpo": math.log(2), "kto": 0.5}[way], abs=1e-3)
        assert losses[0].margin == pytest.approx(0, abs=1e-3) and losses[-1].margin > 0.1
    interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        make_result(settings, tmp_path / "out")
    interrupt(0)
    assert make_result(settings, tmp_path / "out").losses == result.losses
    expected, actual = tensors(tmp_path / "uninterrupted"), tensors(tmp_path / "out")
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())
    log = [json.loads(line) for line in (tmp_path / "out" / "training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def ways(instructs, conversations, texts, tmp_path_factory) -> dict[str, TuneSettings]:
    """Settings of four steps each."""
    root, ru = tmp_path_factory.mktemp("preferences"), texts["ru"]
    pairs = [{"prompt": ru[i], "chosen": ru[i + 1], "rejected": texts["en"][i]} for i in range(16)]
    judged = [
        {"prompt": ru[i], "completion": texts["ru" if i % 2 else "en"][i], "label": i % 2 == 1} for i in range(16)
    ]
    for name, rows in {"dpo": pairs, "kto": judged}.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    model = instructs["tied"]
    return {
        "dora": build_settings(
            instructs["untied"],
            conversations,
            adapter="dora",
            trainable_layers="first_last",
            trainable_embeddings="head",
        ),
        "packed": build_settings(model, conversations, packing=True, max_length=300, batch_size=2, micro_batch_size=1),
        "dpo": build_settings(model, root / "dpo.jsonl", method="dpo"),
        "kto": build_settings(
            model, root / "kto.jsonl", method="kto", adapter="none", dtype="bfloat16", learning_rate=1e-3
        ),
    }


def test_runtime_settings_do_not_change_the_result(uninterrupted, run_stage, tensors, tmp_path) -> None:
    settings, result, folder = uninterrupted["untied"]
    assert {"micro_batch_size", "gradient_checkpointing", "parallel"} == runtime_only_fields(settings)
    other = settings.model_copy(update={"gradient_checkpointing": True, "micro_batch_size": 2})
    losses = [row.loss for row in run_stage(other, tmp_path / "out").losses]
    assert losses == pytest.approx([row.loss for row in result.losses], rel=1e-4)
    expected, actual = tensors(folder), tensors(tmp_path / "out")
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name].float(), tensor.float(), rtol=2e-2, atol=1e-3, msg=name)
