"""Tuning gives a whole model folder again, and an interruption changes nothing."""

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

from lep.config import Tune, free
from lep.data.copy_tasks import copy_tasks
from lep.errors import DataError, TokenizerError, UsageError
from lep.io.model_folder import open_model

KINDS = ("tied", "untied")


def settings(model: Path, data: Path, **changes: Any) -> Tune:
    values: dict[str, Any] = {
        "model": model,
        "data": data,
        "epochs": 2,
        "lora_rank": 2,
        "lr": 1e-2,
        "batch_size": 8,
        "micro_batch_size": 4,
        "dtype": "float32",
    }
    return Tune.model_validate(values | changes)


@pytest.fixture(scope="module")
def unbroken(instructs, conversations, make_artifact, tmp_path_factory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("tuned")
    found = {}
    for kind in KINDS:
        wanted = settings(instructs[kind], conversations)
        found[kind] = (wanted, make_artifact(wanted, root / kind).numbers, root / kind)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_the_model_with_other_weights(unbroken, instructs, tensors, kind) -> None:
    _, numbers, folder = unbroken[kind]
    before, after = tensors(instructs[kind]), tensors(folder)
    assert {k: (v.shape, v.dtype) for k, v in before.items()} == {k: (v.shape, v.dtype) for k, v in after.items()}
    for name, tensor in before.items():
        learns = "norm" not in name
        assert torch.equal(tensor, after[name]) is (not learns), name
    assert open_model(folder).tied is (kind == "tied")
    added = {"README.md", "manifest.json", "training.jsonl"} | (
        {"model-tables.safetensors"} if kind == "untied" else set()
    )
    assert {item.name for item in folder.iterdir()} == {item.name for item in instructs[kind].iterdir()} | added
    assert (folder / "tokenizer.json").read_bytes() == (instructs[kind] / "tokenizer.json").read_bytes()
    assert [row["step"] for row in numbers["losses"]] == [1, 2, 3, 4]
    assert numbers["losses"][-1]["loss"] < numbers["losses"][0]["loss"]
    _, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]


@pytest.mark.parametrize(("kind", "step"), [("tied", 1), ("tied", 2), ("untied", 2)])
def test_an_interrupted_run_ends_as_an_unbroken_one(
    unbroken, make_artifact, interrupt, tensors, tmp_path, kind, step
) -> None:
    wanted, numbers, folder = unbroken[kind]
    interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert any((tmp_path / "out.partial" / "checkpoints").iterdir())
    interrupt(0)
    again = make_artifact(wanted, tmp_path / "out").numbers
    assert again["losses"] == numbers["losses"] and again["trained_tokens"] == numbers["trained_tokens"]
    expected, found = tensors(folder), tensors(tmp_path / "out")
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_the_loss_is_on_answers_only(instructs, texts, run_room, tmp_path) -> None:
    """The first loss is that of the answer and what ends it, given all before it."""
    row = {
        "prompt": [{"role": "user", "content": texts["en"][0]}],
        "completion": [{"role": "assistant", "content": texts["en"][1]}],
    }
    data = tmp_path / "one.jsonl"
    data.write_text(json.dumps(row))
    wanted = settings(instructs["tied"], data, batch_size=1, micro_batch_size=1, epochs=1)
    numbers = run_room(wanted, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(instructs["tied"])
    model = AutoModelForCausalLM.from_pretrained(instructs["tied"])
    prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
    first, ids = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (prompt, whole))
    assert torch.equal(ids[:, : first.shape[1]], first)
    losses = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
    expected = losses[first.shape[1] - 1 :].mean().item()
    assert numbers["losses"][0]["loss"] == pytest.approx(expected, rel=1e-3)
    assert numbers["trained_tokens"] == ids.shape[1]


def test_settings_and_data_that_cannot_work_are_named(instructs, conversations, make_artifact, tmp_path) -> None:
    def refuse(error: type[Exception], message: str, **changes: Any) -> None:
        with pytest.raises(error, match=message):
            make_artifact(settings(instructs["tied"], conversations).model_copy(update=changes), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refuse(UsageError, "micro_batch_size 3 × 1 process does not divide batch_size 8", micro_batch_size=3)
    refuse(DataError, "every conversation is longer than maximum_length=5 tokens", maximum_length=5)
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


def test_data_of_several_sources_is_told_by_name(
    instructs, conversations, corpus, run_room, tmp_path, texts, monkeypatch
) -> None:
    """Rows that cannot be learnt from are counted, held-out items in the data are told, copy tasks are mixed in."""
    other = tmp_path / "other.jsonl"
    rows = [{"instruction": texts["en"][i], "output": texts["en"][i + 1] if i else " ", "score": i} for i in range(6)]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"skills": conversations, "alpaca": {"files": [other], "minimum": {"score": 2}}}
    copies = {"corpus": corpus, "count": 4}
    monkeypatch.setattr("lep.data.copy_tasks.copy_tasks", partial(copy_tasks, measured=0))
    monkeypatch.setattr("lep.data.copy_tasks.SHORTEST", 100)
    wanted = settings(instructs["untied"], conversations, epochs=1, skills=conversations)
    wanted = Tune.model_validate(wanted.model_dump() | {"data": data, "copies": copies})
    numbers = run_room(wanted, tmp_path / "out")
    assert {name: source["rows"] for name, source in numbers["sources"].items()} == {
        "skills": 16,
        "alpaca": 4,
        "copy": 4,
    }
    assert sum(source["share"] for source in numbers["sources"].values()) == pytest.approx(1)
    assert numbers["skipped"] == {"skills": {}, "alpaca": {"score below 2": 2}}
    assert numbers["examples"] == 24 and numbers["passes"] == 1
    assert any("16 of 16 texts of skills stand in the data" in remark for remark in numbers["remarks"])


@pytest.mark.parametrize(("way", "step"), [("dora", 2), ("packed", 1), ("dpo", 2), ("kto", 2)])
def test_every_way_of_tuning_goes_on_as_if_unbroken(
    instructs, ways, make_artifact, interrupt, tensors, tmp_path, way, step
) -> None:
    wanted = ways[way]
    numbers = make_artifact(wanted, tmp_path / "unbroken").numbers
    losses = numbers["losses"]
    assert len(losses) == 4 and losses[-1]["loss"] < losses[0]["loss"]
    if way in ("dpo", "kto"):  # where the model is the reference still
        assert losses[0]["loss"] == pytest.approx({"dpo": math.log(2), "kto": 0.5}[way], abs=1e-3)
        assert losses[0]["margin"] == pytest.approx(0, abs=1e-3) and losses[-1]["margin"] > 0.1
    interrupt(step)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(wanted, tmp_path / "out")
    interrupt(0)
    assert make_artifact(wanted, tmp_path / "out").numbers["losses"] == numbers["losses"]
    expected, found = tensors(tmp_path / "unbroken"), tensors(tmp_path / "out")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    log = [json.loads(line) for line in (tmp_path / "out" / "training.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def ways(instructs, conversations, texts, tmp_path_factory) -> dict[str, Tune]:
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
        "dora": settings(instructs["untied"], conversations, adapters="dora", layers="first_last", tables="head"),
        "packed": settings(model, conversations, packing=True, maximum_length=300, batch_size=2, micro_batch_size=1),
        "dpo": settings(model, root / "dpo.jsonl", method="dpo"),
        "kto": settings(model, root / "kto.jsonl", method="kto", adapters="none", dtype="bfloat16", lr=1e-3),
    }


def test_how_the_work_is_done_does_not_change_what_is_learnt(unbroken, run_room, tensors, tmp_path) -> None:
    wanted, numbers, folder = unbroken["untied"]
    assert {"micro_batch_size", "gradient_checkpointing", "parallel"} == free(wanted)
    other = wanted.model_copy(update={"gradient_checkpointing": True, "micro_batch_size": 2})
    losses = [row["loss"] for row in run_room(other, tmp_path / "out")["losses"]]
    assert losses == pytest.approx([row["loss"] for row in numbers["losses"]], rel=1e-4)
    expected, found = tensors(folder), tensors(tmp_path / "out")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].float(), tensor.float(), rtol=2e-2, atol=1e-3, msg=name)
