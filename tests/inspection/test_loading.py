"""Whether transformers 5 loads a folder, by trying; and whether 4 would, by the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file, save_file

from lep.inspection.inspect import inspect
from lep.io.tokenizer_file import read_tokenizer

NAME = f"transformers {transformers.__version__}"


def told(folder: Path) -> dict[str, str]:
    return {fact.name: fact.value for fact in inspect(folder).facts if fact.group == "loading"}


def remarks_on_4(folder: Path) -> list[str]:
    return [remark for remark in inspect(folder).remarks if remark.startswith("transformers 4 ")]


def test_a_healthy_model_loads(healthy: Path) -> None:
    facts = told(healthy)
    assert facts[NAME] == "loads, 20 tensors, none missing"
    assert facts["transformers 4"] == "its files say nothing against it" and not remarks_on_4(healthy)
    assert facts["tokenizer"].endswith("with the ids of tokenizer.json")


def test_missing_and_superfluous_tensors(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    norm = tensors.pop("model.norm.weight")
    save_file(tensors | {"another.weight": norm}, model / "model.safetensors", metadata={"format": "pt"})
    found = inspect(model)
    assert any(f"{NAME} finds 1 missing tensor, filled with chance: model.norm.weight" in p for p in found.problems)
    assert any(f"{NAME} leaves 1 tensor unread: another.weight" in remark for remark in found.remarks)


def test_tensors_of_another_shape_do_not_load(model: Path, change) -> None:
    change(model / "config.json", intermediate_size=52)
    assert any(f"{NAME} does not load the model: " in problem for problem in inspect(model).problems)


def test_a_tokenizer_class_that_is_unknown_or_broken(model: Path, change) -> None:
    change(model / "tokenizer_config.json", extra_special_tokens=7)
    found = inspect(model)
    assert sum("transformers does not load the tokenizer: " in problem for problem in found.problems) == 1


def test_unigram_under_the_name_of_a_bpe_class(tokenizers: dict[str, Path], tmp_path: Path) -> None:
    state = read_tokenizer(tokenizers["sentencepiece_unigram"]).state
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    (words,) = inspect(tmp_path).problems
    assert "transformers loads the tokenizer as LlamaTokenizer and reads a test text in" in words
    assert "write tokenizer_class PreTrainedTokenizerFast into tokenizer_config.json" in words
    settings.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    assert not inspect(tmp_path).problems


def test_a_class_that_splits_as_it_likes(model: Path, change) -> None:
    """GPT2Tokenizer puts GPT-2's own pre-tokenizer in the place of the file's."""
    letters = {"type": "Split", "pattern": {"Regex": r"\p{L}"}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    change(model / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [letters, bytes_]})
    change(model / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    found = inspect(model)
    assert any("transformers loads the tokenizer as GPT2Tokenizer" in problem for problem in found.problems)
    assert told(model)["llama.cpp"].startswith("not told: transformers, which its converter uses, misreads")


def test_without_settings_transformers_cannot_tell(tokenizers: dict[str, Path]) -> None:
    assert any("no tokenizer_config.json" in remark for remark in inspect(tokenizers["tiktoken"]).remarks)


@pytest.mark.parametrize("name", ["TokenizersBackend", "SentencePieceBackend"])
def test_classes_that_only_5_has(name: str, model: Path, change) -> None:
    change(model / "tokenizer_config.json", tokenizer_class=name)
    (words,) = remarks_on_4(model)
    assert f"has no tokenizer_class {name} and stops; write PreTrainedTokenizerFast" in words
    assert told(model)["transformers 4"] == "see the remarks"


def test_a_list_where_4_wants_a_mapping(model: Path, change) -> None:
    change(model / "tokenizer_config.json", extra_special_tokens=["<|im_end|>"])
    (words,) = remarks_on_4(model)
    assert "stops at the list in tokenizer_config.json; name the list additional_special_tokens" in words


def test_rope_parameters_alone(model: Path, change) -> None:
    change(model / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, rope_theta=None)
    (words,) = remarks_on_4(model)
    assert "takes rope_theta 10,000 where rope_parameters say 500,000; write rope_theta beside them" in words
    change(model / "config.json", rope_theta=500000.0)
    assert not remarks_on_4(model)
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}
    change(model / "config.json", rope_parameters=scaled)
    (words,) = remarks_on_4(model)
    assert "does not scale positions as rope_parameters say (linear); write rope_scaling too" in words
    change(model / "config.json", rope_parameters=scaled | {"rope_type": "default"}, rope_theta=None)
    change(model / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    assert not remarks_on_4(model)  # what 4 takes anyway


def test_dtype_by_its_new_name_only(model: Path, change) -> None:
    change(model / "config.json", torch_dtype=None)
    (words,) = remarks_on_4(model)
    assert "before 4.56 does not know dtype and loads float32; write torch_dtype beside it" in words
