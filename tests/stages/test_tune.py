"""Tuning gives a whole model folder again, and an interruption changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lep.config import Tune
from lep.errors import DataError, TokenizerError, UsageError
from lep.io.model import open_model

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
    assert {item.name for item in folder.iterdir()} == {i.name for i in instructs[kind].iterdir()} | {"manifest.json"}
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

    refuse(UsageError, "micro_batch_size 3 does not divide batch_size 8", micro_batch_size=3)
    refuse(DataError, r"conversation 1 has \d+ tokens, maximum_length is 5", maximum_length=5)
    bare = tmp_path / "bare"
    shutil.copytree(instructs["tied"], bare)
    (bare / "chat_template.jinja").unlink()
    refuse(TokenizerError, "no chat template", model=bare)
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": []}\n')
    refuse(DataError, "data.jsonl:1: the row has no 'completion'", data=data)
    data.write_text("")
    refuse(DataError, "holds no rows", data=data)


@pytest.mark.parametrize("prompt", ["text alone", ["text alone"], [{"role": "user"}]])
def test_a_row_that_is_no_conversation_is_named(instructs, make_artifact, tmp_path, prompt) -> None:
    data = tmp_path / "data.jsonl"
    answer = [{"role": "assistant", "content": "yes"}]
    data.write_text(json.dumps({"prompt": prompt, "completion": answer}) + "\n")
    with pytest.raises(DataError, match=r"conversation 1|data.jsonl:1"):
        make_artifact(settings(instructs["tied"], data), tmp_path / "out")
