"""Shapes of the matrices, and sizes that do not agree."""

from __future__ import annotations

from pathlib import Path

from lep.inspection.inspect import inspect


def read_facts(folder: Path) -> dict[str, str]:
    return {fact.name: fact.value for fact in inspect(folder).facts if fact.group == "model"}


def test_shapes_of_a_tied_and_of_an_untied_model(healthy: Path, make_model, tokenizers, tmp_path: Path) -> None:
    facts = read_facts(healthy)
    assert facts["architecture"] == "llama, LlamaForCausalLM" and "tensors, F32" in facts["parameters"]
    assert facts["files"] == "0.00 GB in 1 file" and "padding" not in facts
    assert facts["embed"] == "500 × 32 F32, tied, also the head" and "head" not in facts
    facts = read_facts(
        make_model(tmp_path / "untied", tokenizers["byte_level"], tied=False, shards=3, dtype="bfloat16")
    )
    assert facts["embed"] == "500 × 32 BF16, untied" and facts["head"] == "500 × 32 BF16"
    assert facts["files"].endswith("in 3 files")


def test_padding_is_a_fact(model: Path, change, change_rows) -> None:
    change_rows(model, lambda table: table[list(range(500)) + [3] * 12])
    change(model / "config.json", vocab_size=512)
    assert read_facts(model)["padding"] == "12 rows beyond the 500 ids of the tokenizer" and not inspect(model).problems


def test_a_matrix_with_too_few_rows(model: Path, change, change_rows) -> None:
    change_rows(model, lambda table: table[:400])
    problems = inspect(model).problems
    assert any("sizes differ: config.json 500, embed 400; vocab_size must be" in problem for problem in problems)
    assert any("embed has 400 rows for 500 tokens; is this the model's own tokenizer?" in p for p in problems)
    change(model / "config.json", vocab_size=400)
    problems = inspect(model).problems
    assert any("config.json has vocab_size 400 for 500 tokens" in problem for problem in problems)


def test_a_nested_configuration_must_agree_too(model: Path, change) -> None:
    change(model / "config.json", text_config={"vocab_size": 499})
    message = "sizes differ: config.json 500, config.json, nested 499, embed 500"
    assert any(message in problem for problem in inspect(model).problems)


def test_a_family_that_transformers_lacks(model: Path, change) -> None:
    change(model / "config.json", model_type="unheard-of")
    assert any("unheard-of" in problem for problem in inspect(model).problems)
