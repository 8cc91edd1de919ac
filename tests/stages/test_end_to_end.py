"""A whole recipe run by the command: every artifact is complete, and a second run has nothing to do."""

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
from lep.registry import parse_stage_result

METHODS = ("swap", "overlap", "conversion")
STAGES = ("collect", "retokenize", "initialize", "pretrain", "tune", *(f"propagate/{m}" for m in METHODS))
ARTIFACTS = (*STAGES, "evaluate", "report")
SECTIONS = [
    "Usage",
    "Sources",
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
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    recipe: dict[str, Any] = {
        "out": str(file.parent / "run"),
        "collect": {
            "sources": {
                "ru": {"files": [str(text_files["ru"])], "script": "Cyrillic"},
                "en": {"files": [str(text_files["en"])], "script": "Latin"},
            },
            "heldout_fraction": 0.1,
        },
        "retokenize": {"base": base, "corpus": "collect", "mixture": {"ru": 1}, "new_tokens": 60},
        "initialize": {"base": base, "tokenizer": "retokenize"},
        "pretrain": {
            "model": "initialize",
            "corpus": "collect",
            "mixture": {"ru": 3, "en": 1},
            "tokens": 6 * 8 * 32,
            "sequence_length": 32,
            "batch_size": 8,
            "micro_batch_size": 4,
            "learning_rate": 1e-2,
            "trainable": "new_tokens",
            "warmup_steps": 1,
            "num_evaluations": 3,
            "evaluation_characters": 500,
            "dtype": "float32",
        },
        "tune": {
            "model": str(instructs["tied"]),
            "data": str(conversations),
            "lora_rank": 2,
            "learning_rate": 1e-3,
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
            "heldout_characters": 500,
            "num_continuations": 2,
            "efficiency": {"language": "ru", "batch_size": 2, "prompt_tokens": 8, "generated_tokens": 3},
            "side_effects": {},
            "dtype": "float32",
        },
        "report": {"evaluation": "evaluate", "title": "A tiny recipe"},
    }
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def run(recipe: Path) -> Iterator[Path]:
    """The output folder of the recipe."""
    assert main(["run", str(recipe)]) == 0
    yield recipe.parent / "run"


def result_of(artifact: Path) -> Any:
    """The typed result of a finished stage."""
    manifest = read_manifest(artifact)
    return parse_stage_result(manifest.result, stage=manifest.stage)


def test_every_artifact_is_complete(run: Path) -> None:
    for name in ARTIFACTS:
        assert read_manifest(run / name).stage == name.split("/")[0]
    unfinished = [path for path in run.rglob("*") if ".partial" in path.name or path.name in (".work", "checkpoints")]
    assert not unfinished


def test_the_page_is_there_and_says_its_title(run: Path) -> None:
    page = (run / "report" / "index.html").read_text()
    assert "A tiny recipe" in page and page.rstrip().endswith("</html>")


def test_a_second_run_does_nothing(run: Path, recipe: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main(["run", str(recipe)]) == 0
    assert capsys.readouterr().out.count("was done") == len(ARTIFACTS)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_changed_setting_is_refused_or_replaced_on_request(run: Path, recipe: Path, capsys) -> None:
    command = ["run", str(recipe), "report.title=Another", "--from", "report"]
    before = (run / "report" / "index.html").read_bytes()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "title: A tiny recipe → Another" in error and "--replace" in error
    assert (run / "report" / "index.html").read_bytes() == before
    assert main([*command, "--replace"]) == 0
    assert "Another" in (run / "report" / "index.html").read_text()
    assert main(["run", str(recipe), "--from", "report", "--replace"]) == 0


def test_the_validation_curve_covers_the_training_and_falls(run: Path) -> None:
    result = result_of(run / "pretrain")
    curve = result.curve
    assert [point.step for point in curve] == [0, 2, 4, 6]
    assert [point.step for point in result.losses] == [1, 2, 3, 4, 5, 6]
    assert curve[0].tokens == 0 and curve[-1].tokens == result.trained_tokens
    assert all(point.bits_per_byte.keys() == {"ru", "en"} for point in curve)
    assert curve[-1].bits_per_byte["ru"] < curve[0].bits_per_byte["ru"]


@pytest.mark.parametrize("name", MODELS)
def test_results_load_and_generate_as_they_are(run: Path, name: str) -> None:
    model, loading = AutoModelForCausalLM.from_pretrained(run / name, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    tokenizer = AutoTokenizer.from_pretrained(run / name)
    rows = 500 if name == "tune" else 576  # 560 tokens, padded to a multiple of 64
    assert len(tokenizer) == (500 if name == "tune" else 560)
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0] == rows
    text = "Маленькая девочка прочитала"
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    assert tokenizer.decode(inputs["input_ids"][0]) == text
    generated = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert generated.shape[1] <= inputs["input_ids"].shape[1] + 3


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_card_whose_code_runs(run: Path, name: str, capsys) -> None:
    card = ModelCard.load(run / name / "README.md")
    assert card.data.license == "unknown" and card.data.base_model is None
    assert card.data.language == (None if name == "tune" else ["ru", "en"])
    assert re.findall(r"^## (.+)", card.text, re.MULTILINE) == SECTIONS
    assert "/tmp" not in card.content and str(run.parent) not in card.content
    code = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)[0]
    exec(code.replace("path/to/this/folder", str(run / name)).replace("=200", "=3").replace("…", "да"), {})
    assert capsys.readouterr().out and "apply_chat_template" in code


def test_the_card_command_adds_an_evaluation(run: Path, recipe: Path, capsys) -> None:
    file = run / "propagate/swap/README.md"
    before = file.read_bytes()
    file.unlink()
    assert main(["card", str(file.parent)]) == 0
    assert file.read_bytes() == before
    assert main(["card", str(file.parent), str(run / "evaluate")]) == 0
    text = file.read_text()
    assert "This model is called **swap** here" in text and "| **swap** |" in text and "| instruct |" in text
    assert main(["run", str(recipe), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("(done)") == len(ARTIFACTS)
    file.write_bytes(before)


def test_the_new_vocabulary_needs_fewer_tokens(run: Path) -> None:
    models = result_of(run / "evaluate").models
    characters = {name: model.characters_per_token["ru"] for name, model in models.items()}
    assert characters["base"] == characters["instruct"] < characters["adapted"]
    assert characters["adapted"] == characters["swap"] == characters["overlap"] == characters["conversion"]


@pytest.mark.parametrize("method", METHODS)
def test_a_propagated_model_is_the_instruct_model_in_all_else(run: Path, instructs, method: str) -> None:
    result, instruct = run / "propagate" / method, run / "tune"
    original = AutoTokenizer.from_pretrained(instructs["tied"])
    tokenizer = AutoTokenizer.from_pretrained(result)
    assert tokenizer.chat_template == original.chat_template
    assert tokenizer.special_tokens_map == original.special_tokens_map
    generation = json.loads((result / "generation_config.json").read_text())
    assert generation == json.loads((instructs["tied"] / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [2, 0]
    instruct_rows, rows = (
        open_model(instruct).embedding_matrix("embed")[:],
        open_model(result).embedding_matrix("embed")[:],
    )
    old, new = read_tokenizer(instruct).added_tokens, read_tokenizer(result).added_tokens
    assert old.keys() == new.keys() and len(old) == 3
    for text, id_ in old.items():
        assert torch.equal(rows[new[text]], instruct_rows[id_]), text


def test_the_result_of_a_fit_says_how_it_went(run: Path) -> None:
    fits = {method: result_of(run / "propagate" / method).fits["embed"] for method in METHODS}
    assert fits["swap"].rows == 0 and fits["swap"].distance_from_identity == 0
    vocab_size = result_of(run / "retokenize").vocab_size
    assert 0 < fits["overlap"].rows < fits["conversion"].rows <= vocab_size
    assert all(0 <= fits[method].residual <= 1 for method in ("overlap", "conversion"))


def test_the_evaluation_has_every_model_and_answer(run: Path) -> None:
    result = result_of(run / "evaluate")
    names = {"base", "adapted", "instruct", *METHODS}
    assert result.models.keys() == names
    for model in result.models.values():
        assert model.skills["all"].items == 16 and model.skills.keys() == {"all", "first", "last"}
        assert model.speed.tokens_per_second > 0
    assert len(result.answers) == 4 and all(item.answers.keys() == names for item in result.answers)
    assert result.continuations and all(prompt.outputs.keys() == names for prompt in result.continuations)
