"""Whether transformers 5 loads a folder, by loading; and whether version 4 would, by the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file, save_file

from lep.inspection.inspect import inspect
from lep.io.tokenizer_file import read_tokenizer

NAME = f"transformers {transformers.__version__}"


def read_facts(folder: Path) -> dict[str, str]:
    return {fact.name: fact.value for fact in inspect(folder).facts if fact.group == "loading"}


def remarks_on_4(folder: Path) -> list[str]:
    return [remark for remark in inspect(folder).remarks if remark.startswith("transformers 4 ")]


def test_a_healthy_model_loads(healthy: Path) -> None:
    facts = read_facts(healthy)
    assert facts[NAME] == "loads 20 tensors, none missing"
    assert facts["transformers 4"] == "nothing in the files prevents loading" and not remarks_on_4(healthy)
    assert facts["tokenizer"].endswith("with the ids of tokenizer.json")


def test_missing_and_unexpected_tensors(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    norm = tensors.pop("model.norm.weight")
    save_file(tensors | {"another.weight": norm}, model / "model.safetensors", metadata={"format": "pt"})
    inspection = inspect(model)
    assert any(f"{NAME} initializes 1 missing tensor at random: model.norm.weight" in p for p in inspection.problems)
    assert any(f"{NAME} does not use 1 tensor: another.weight" in remark for remark in inspection.remarks)


def test_tensors_of_another_shape_do_not_load(model: Path, change) -> None:
    change(model / "config.json", intermediate_size=52)
    assert any(f"{NAME} does not load the model: " in problem for problem in inspect(model).problems)


def test_a_tokenizer_class_that_is_unknown_or_broken(model: Path, change) -> None:
    change(model / "tokenizer_config.json", extra_special_tokens=7)
    inspection = inspect(model)
    assert sum("transformers does not load the tokenizer: " in problem for problem in inspection.problems) == 1


def test_unigram_with_a_bpe_tokenizer_class(tokenizers: dict[str, Path], tmp_path: Path) -> None:
    state = read_tokenizer(tokenizers["sentencepiece_unigram"]).tokenizer_json
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    (remark,) = inspect(tmp_path).problems
    assert "transformers loads the tokenizer as LlamaTokenizer and encodes a test text in" in remark
    assert "set tokenizer_class to PreTrainedTokenizerFast in tokenizer_config.json" in remark
    settings.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    assert not inspect(tmp_path).problems


def test_a_tokenizer_class_with_its_own_pre_tokenizer(model: Path, change) -> None:
    """GPT2Tokenizer replaces the pre-tokenizer of the file by that of GPT-2."""
    letters = {"type": "Split", "pattern": {"Regex": r"\p{L}"}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    change(model / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [letters, bytes_]})
    change(model / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    inspection = inspect(model)
    assert any("transformers loads the tokenizer as GPT2Tokenizer" in problem for problem in inspection.problems)
    assert read_facts(model)["llama.cpp"].startswith(
        "not known: transformers, which the converter uses, gives other ids"
    )


def test_without_tokenizer_config_transformers_cannot_load(tokenizers: dict[str, Path]) -> None:
    assert any("no tokenizer_config.json" in remark for remark in inspect(tokenizers["tiktoken"]).remarks)


@pytest.mark.parametrize("name", ["TokenizersBackend", "SentencePieceBackend"])
def test_tokenizer_classes_of_version_5(name: str, model: Path, change) -> None:
    change(model / "tokenizer_config.json", tokenizer_class=name)
    (remark,) = remarks_on_4(model)
    assert f"has no tokenizer_class {name} and fails; use PreTrainedTokenizerFast" in remark
    assert read_facts(model)["transformers 4"] == "see the notes"


def test_a_list_where_version_4_expects_a_mapping(model: Path, change) -> None:
    change(model / "tokenizer_config.json", extra_special_tokens=["<|im_end|>"])
    (remark,) = remarks_on_4(model)
    assert "fails at the list in tokenizer_config.json; rename it to additional_special_tokens" in remark


def test_rope_parameters_alone(model: Path, change) -> None:
    change(model / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, rope_theta=None)
    (remark,) = remarks_on_4(model)
    assert "uses rope_theta 10,000, rope_parameters say 500,000; set rope_theta, too" in remark
    change(model / "config.json", rope_theta=500000.0)
    assert not remarks_on_4(model)
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}
    change(model / "config.json", rope_parameters=scaled)
    (remark,) = remarks_on_4(model)
    assert "ignores the scaling of rope_parameters (linear); set rope_scaling, too" in remark
    change(model / "config.json", rope_parameters=scaled | {"rope_type": "default"}, rope_theta=None)
    change(model / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    assert not remarks_on_4(model)  # the default of version 4


def test_dtype_without_torch_dtype(model: Path, change) -> None:
    change(model / "config.json", torch_dtype=None)
    (remark,) = remarks_on_4(model)
    assert "before 4.56 ignores dtype and loads float32; set torch_dtype, too" in remark
