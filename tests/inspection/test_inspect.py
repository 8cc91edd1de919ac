"""All checks together: their requirements, the order of the output, and the exit code."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from lep.cli.main import main
from lep.errors import UsageError
from lep.inspection.inspect import inspect
from lep.io.artifact import MANIFEST, Manifest
from lep.results.stages import RetokenizationResult, VocabularyCheck


def test_a_healthy_model_has_facts_only(healthy: Path) -> None:
    inspection = inspect(healthy)
    assert inspection.problems == () and inspection.remarks[1:] == ()
    assert "llama.cpp's converter fails" in inspection.remarks[0]  # it has no hash of this tokenizer
    groups = list(dict.fromkeys(fact.group for fact in inspection.facts))
    assert groups == ["model", "tokenizer", "special ids", "chat", "rows", "loading"]


@pytest.mark.parametrize("name", ["byte_level", "metaspace", "sentencepiece_bpe", "sentencepiece_unigram", "tiktoken"])
def test_a_tokenizer_alone_is_enough(name: str, tokenizers: dict[str, Path]) -> None:
    inspection = inspect(tokenizers[name])
    groups = {fact.group for fact in inspection.facts}
    assert inspection.problems == () and groups >= {"tokenizer", "special ids"} and not groups & {"model", "rows"}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither an artifact, a model nor a tokenizer folder"):
        inspect(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"folder; it contains a$"):
        inspect(tmp_path)
    (tmp_path / "a.gguf").touch()
    for path, message in ((tmp_path, "that it was exported from"), (tmp_path / "none", "no such folder")):
        with pytest.raises(UsageError, match=message):
            inspect(path)


def test_an_unreadable_file_is_one_problem(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-4])
    assert sum("fetch the file again" in problem for problem in inspect(model).problems) == 1
    (model / "model.safetensors").write_bytes(whole)
    (model / "tokenizer.json").write_text("{}")
    inspection = inspect(model)
    assert sum("not a tokenizer.json of the tokenizers library" in problem for problem in inspection.problems) == 1
    assert any(fact.name == "architecture" for fact in inspection.facts)  # the other checks still run


def test_the_command_prints_facts_then_notes_then_problems(model: Path, change, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["inspect", str(model)]) == 0
    out = capsys.readouterr().out
    assert "\nspecial ids" in out and "\n  eos" in out and "note: llama.cpp" in out and "wrong: " not in out
    assert 'if chkhsh == "' in out  # brackets and quotes are not markup
    change(model / "config.json", eos_token_id=999)
    assert main(["inspect", str(model)]) == 1
    out = capsys.readouterr().out
    assert out.index("\nloading") < out.index("\nnote: ") < out.index("\nwrong: config.json: eos_token_id 999 is not")


def test_an_artifact_has_its_stage_and_its_checks(model: Path, tmp_path: Path) -> None:
    check = VocabularyCheck("base_ids", passed=29, total=30, required=False)
    result = RetokenizationResult(
        "extended", old_tokens=2, kept_tokens=2, new_tokens=1, vocab_size=3, characters_per_token={}, checks=(check,)
    )
    manifest = Manifest(
        stage="retokenize",
        fingerprint="abc",
        settings={},
        inputs={},
        versions={},
        result=asdict(result),
        seconds=2.0,
        peak_memory_bytes=1,
        finished_at="today",
    )
    folder = Path(shutil.copytree(model, tmp_path / "artifact"))
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest)))
    facts = {fact.name: fact.value for fact in inspect(folder).facts if fact.group == "artifact"}
    assert facts["stage"] == "retokenize, finished today, 2 s" and facts["check: base ids"] == "29 of 30 (not required)"
