"""The looks together: what a folder must hold for each, what is told, the order, and the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lep.cli.main import main
from lep.errors import UsageError
from lep.inspection.inspect import inspect


def test_a_healthy_model_has_facts_and_nothing_else(healthy: Path) -> None:
    found = inspect(healthy)
    assert found.problems == () and found.remarks[1:] == ()
    assert "llama.cpp's converter stops" in found.remarks[0]  # of this tokenizer it has no hash
    groups = list(dict.fromkeys(fact.group for fact in found.facts))
    assert groups == ["model", "tokenizer", "special ids", "chat", "rows", "loading"]


@pytest.mark.parametrize("name", ["byte_level", "metaspace", "sentencepiece_bpe", "sentencepiece_unigram", "tiktoken"])
def test_a_tokenizer_alone_is_enough(name: str, tokenizers: dict[str, Path]) -> None:
    found = inspect(tokenizers[name])
    groups = {fact.group for fact in found.facts}
    assert found.problems == () and groups >= {"tokenizer", "special ids"} and not groups & {"model", "rows"}


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither an artifact, a model nor a tokenizer folder"):
        inspect(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"folder; in it are a$"):
        inspect(tmp_path)
    (tmp_path / "a.gguf").touch()
    for path, words in ((tmp_path, "that it was written from"), (tmp_path / "none", "no such folder")):
        with pytest.raises(UsageError, match=words):
            inspect(path)


def test_a_file_that_cannot_be_read_is_told_once(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-4])
    assert sum("fetch the file again" in problem for problem in inspect(model).problems) == 1
    (model / "model.safetensors").write_bytes(whole)
    (model / "tokenizer.json").write_text("{}")
    found = inspect(model)
    assert sum("not a tokenizer.json of the tokenizers library" in problem for problem in found.problems) == 1
    assert any(fact.name == "architecture" for fact in found.facts)  # the other looks go on


def test_the_command_prints_groups_then_notes_then_what_is_wrong(model: Path, change, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["inspect", str(model)]) == 0
    out = capsys.readouterr().out
    assert "\nspecial ids" in out and "\n  eos" in out and "note: llama.cpp" in out and "wrong: " not in out
    assert 'if chkhsh == "' in out  # brackets and quotes are no markup
    change(model / "config.json", eos_token_id=999)
    assert main(["inspect", str(model)]) == 1
    out = capsys.readouterr().out
    assert out.index("\nloading") < out.index("\nnote: ") < out.index("\nwrong: config.json: eos_token_id 999 is not")


def test_an_artifact_tells_its_room_and_its_proofs(model: Path, tmp_path: Path) -> None:
    manifest = {"room": "retokenize", "finished": "today", "seconds": 2.0, "fingerprint": "abc", "settings": {}}
    proof = {"name": "base_ids", "held": 29, "of": 30, "promised": False}
    folder = Path(shutil.copytree(model, tmp_path / "artifact"))
    whole = manifest | {"numbers": {"proofs": [proof]}, "inputs": {}, "versions": {}}
    (folder / "manifest.json").write_text(json.dumps(whole | {"peak_memory_bytes": 1}))
    facts = {fact.name: fact.value for fact in inspect(folder).facts if fact.group == "artifact"}
    assert facts["room"] == "retokenize, finished today, 2 s" and facts["proof: base ids"] == "29 of 30 (not promised)"
