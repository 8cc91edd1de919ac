"""The whole walk by the command, on inputs made here: every artifact is whole, and a second run has nothing to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from lep.cli.main import main
from lep.io.artifact import read_manifest
from lep.io.model_folder import open_model
from lep.io.tokenizer_file import read_tokenizer

METHODS = ("swap", "overlap", "conversion")
ROOMS = ("collect", "retokenize", "initialize", "pretrain", "tune", *(f"propagate/{m}" for m in METHODS))
ARTIFACTS = (*ROOMS, "evaluate", "report")
SECTIONS = [
    "How to run it",
    "What it is made from",
    "How it was made",
    "Evaluation",
    "Limitations",
    "Versions",
    "Citation",
]
MODELS = ("initialize", "pretrain", "tune", *(f"propagate/{m}" for m in METHODS))


@pytest.fixture(scope="module")
def recipe(bases, instructs, text_files, conversations, tmp_path_factory) -> Path:
    base = str(bases["tied"])
    file = tmp_path_factory.mktemp("walk") / "tiny.yaml"
    rooms: dict[str, Any] = {
        "out": str(file.parent / "run"),
        "collect": {
            "sources": {
                "ru": {"files": [str(text_files["ru"])], "script": "Cyrillic"},
                "en": {"files": [str(text_files["en"])], "script": "Latin"},
            },
            "heldout_share": 0.1,
        },
        "retokenize": {"base": base, "corpus": "collect", "mixture": {"ru": 1}, "new_tokens": 60},
        "initialize": {"base": base, "tokenizer": "retokenize"},
        "pretrain": {
            "model": "initialize",
            "corpus": "collect",
            "mixture": {"ru": 3, "en": 1},
            "tokens": 6 * 8 * 32,
            "block": 32,
            "batch_size": 8,
            "micro_batch_size": 4,
            "lr": 1e-2,
            "learn": "new_rows",
            "warmup_steps": 1,
            "evaluations": 3,
            "evaluation_characters": 500,
            "dtype": "float32",
        },
        "tune": {
            "model": str(instructs["tied"]),
            "data": str(conversations),
            "lora_rank": 2,
            "lr": 1e-3,
            "batch_size": 8,
            "micro_batch_size": 8,
            "dtype": "float32",
        },
        "propagate": {"base": base, "adapted": "pretrain", "instruct": "tune", "method": list(METHODS)},
        "evaluate": {
            "models": {"base": base, "adapted": "pretrain", "instruct": "tune"}
            | {method: f"propagate/{method}" for method in METHODS},
            "corpus": "collect",
            "skills": str(conversations),
            "characters": 500,
            "continuations": 2,
            "efficiency": {"language": "ru", "prompts": 2, "prompt_tokens": 8, "new_tokens": 3},
            "side_effects": {},
            "dtype": "float32",
        },
        "report": {"evaluation": "evaluate", "title": "A tiny walk"},
    }
    file.write_text(yaml.safe_dump(rooms, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def walked(recipe: Path) -> Iterator[Path]:
    """The run's folder, after the walk."""
    assert main(["run", str(recipe)]) == 0
    yield recipe.parent / "run"


def test_every_artifact_is_whole(walked: Path) -> None:
    for name in ARTIFACTS:
        assert read_manifest(walked / name).room == name.split("/")[0]
    left = [path for path in walked.rglob("*") if ".partial" in path.name or path.name in (".work", "checkpoints")]
    assert not left


def test_the_page_is_there_and_says_its_title(walked: Path) -> None:
    page = (walked / "report" / "index.html").read_text()
    assert "A tiny walk" in page and page.rstrip().endswith("</html>")


def test_a_second_run_does_nothing(walked: Path, recipe: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in walked.rglob("*")}
    assert main(["run", str(recipe)]) == 0
    assert capsys.readouterr().out.count("was done") == len(ARTIFACTS)
    assert {path: path.stat().st_mtime_ns for path in walked.rglob("*")} == before


def test_a_changed_knob_is_refused_and_replaced_when_asked(walked: Path, recipe: Path, capsys) -> None:
    command = ["run", str(recipe), "report.title=Another", "--from", "report"]
    before = (walked / "report" / "index.html").read_bytes()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "title: A tiny walk → Another" in error and "--replace" in error
    assert (walked / "report" / "index.html").read_bytes() == before
    assert main([*command, "--replace"]) == 0
    assert "Another" in (walked / "report" / "index.html").read_text()
    assert main(["run", str(recipe), "--from", "report", "--replace"]) == 0


def test_the_curve_runs_from_the_start_to_the_end_and_falls(walked: Path) -> None:
    numbers = read_manifest(walked / "pretrain").numbers
    curve = numbers["curve"]
    assert [point["step"] for point in curve] == [0, 2, 4, 6]
    assert [row["step"] for row in numbers["losses"]] == [1, 2, 3, 4, 5, 6]
    assert curve[0]["tokens"] == 0 and curve[-1]["tokens"] == numbers["trained_tokens"]
    assert all(point["bits_per_byte"].keys() == {"ru", "en"} for point in curve)
    assert curve[-1]["bits_per_byte"]["ru"] < curve[0]["bits_per_byte"]["ru"]


@pytest.mark.parametrize("name", MODELS)
def test_results_load_and_generate_as_they_are(walked: Path, name: str) -> None:
    model, loading = AutoModelForCausalLM.from_pretrained(walked / name, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    tokenizer = AutoTokenizer.from_pretrained(walked / name)
    rows = 500 if name == "tune" else 576  # 560 tokens, padded to a multiple of 64
    assert len(tokenizer) == (500 if name == "tune" else 560)
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0] == rows
    text = "Маленькая девочка прочитала"
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    assert tokenizer.decode(inputs["input_ids"][0]) == text
    made = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert made.shape[1] <= inputs["input_ids"].shape[1] + 3


@pytest.mark.parametrize("name", MODELS)
def test_every_model_carries_its_card_whose_code_runs(walked: Path, name: str, capsys) -> None:
    card = ModelCard.load(walked / name / "README.md")
    assert card.data.license == "unknown" and card.data.base_model is None
    assert card.data.language == (None if name == "tune" else ["ru", "en"])
    assert re.findall(r"^## (.+)", card.text, re.MULTILINE) == SECTIONS
    assert "/tmp" not in card.content and str(walked.parent) not in card.content
    code = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)[0]
    exec(code.replace("path/to/this/folder", str(walked / name)).replace("=200", "=3").replace("…", "да"), {})
    assert capsys.readouterr().out and "apply_chat_template" in code


def test_the_numbers_of_an_evaluation_come_onto_a_card_by_command(walked: Path, recipe: Path, capsys) -> None:
    file = walked / "propagate/swap/README.md"
    before = file.read_bytes()
    file.unlink()
    assert main(["card", str(file.parent)]) == 0
    assert file.read_bytes() == before
    assert main(["card", str(file.parent), str(walked / "evaluate")]) == 0
    text = file.read_text()
    assert "This model is called **swap** here" in text and "| **swap** |" in text and "| instruct |" in text
    assert main(["run", str(recipe), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("(done)") == len(ARTIFACTS)
    file.write_bytes(before)


def test_the_new_vocabulary_needs_fewer_tokens(walked: Path) -> None:
    models = read_manifest(walked / "evaluate").numbers["models"]
    symbols = {name: found["symbols_per_token"]["ru"] for name, found in models.items()}
    assert symbols["base"] == symbols["instruct"] < symbols["adapted"]
    assert symbols["adapted"] == symbols["swap"] == symbols["overlap"] == symbols["conversion"]


@pytest.mark.parametrize("method", METHODS)
def test_a_propagated_model_is_the_instruct_model_in_all_else(walked: Path, instructs, method: str) -> None:
    result, instruct = walked / "propagate" / method, walked / "tune"
    original = AutoTokenizer.from_pretrained(instructs["tied"])
    tokenizer = AutoTokenizer.from_pretrained(result)
    assert tokenizer.chat_template == original.chat_template
    assert tokenizer.special_tokens_map == original.special_tokens_map
    generation = json.loads((result / "generation_config.json").read_text())
    assert generation == json.loads((instructs["tied"] / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, 0]
    own, rows = open_model(instruct).rows("embed")[:], open_model(result).rows("embed")[:]
    old, new = read_tokenizer(instruct).added, read_tokenizer(result).added
    assert old.keys() == new.keys() and len(old) == 3
    for text, id_ in old.items():
        assert torch.equal(rows[new[text]], own[id_]), text


def test_the_manifest_of_a_fit_says_how_it_went(walked: Path) -> None:
    found = {m: read_manifest(walked / "propagate" / m).numbers["tables"]["embed"] for m in METHODS}
    assert found["swap"]["rows"] == 0 and found["swap"]["distance_from_identity"] == 0
    assert (
        0
        < found["overlap"]["rows"]
        < found["conversion"]["rows"]
        <= read_manifest(walked / "retokenize").numbers["vocabulary_size"]
    )
    assert all(0 <= found[m]["residual"] <= 1 for m in ("overlap", "conversion"))


def test_the_evaluation_holds_every_model_and_answer(walked: Path) -> None:
    numbers = read_manifest(walked / "evaluate").numbers
    names = {"base", "adapted", "instruct", *METHODS}
    assert numbers["models"].keys() == names
    for found in numbers["models"].values():
        assert found["skills"]["all"]["items"] == 16 and found["skills"].keys() == {"all", "first", "last"}
        assert found["speed"]["tokens_per_second"] > 0
    assert len(numbers["answers"]) == 4 and all(shown["answers"].keys() == names for shown in numbers["answers"])
    assert numbers["continuations"] and all(shown["texts"].keys() == names for shown in numbers["continuations"])
