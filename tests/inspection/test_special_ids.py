"""Special token ids by role: whether they are tokens, and whether files agree."""

from __future__ import annotations

import shutil
from pathlib import Path

from lep.inspection.inspect import inspect


def read_facts(folder: Path) -> dict[str, str]:
    return {fact.name: fact.value for fact in inspect(folder).facts if fact.group == "special ids"}


def test_each_role_with_its_token(model: Path, change) -> None:
    facts = read_facts(model)
    assert facts["bos"] == facts["pad"].split(";")[0] == "0 '<|endoftext|>'" and facts["unk"] == "none"
    assert "generation_config.json: 0 '<|endoftext|>', 2 '<|im_end|>'" in facts["eos"]
    change(model / "config.json", eos_token_id=[0, 2])
    change(model / "tokenizer_config.json", eos_token=None)
    assert read_facts(model)["eos"] == "0 '<|endoftext|>', 2 '<|im_end|>'"


def test_an_id_outside_the_vocabulary(model: Path, change) -> None:
    change(model / "config.json", pad_token_id=500)
    assert any(
        "config.json: pad_token_id 500 is not a token; the tokenizer has 500" in p for p in inspect(model).problems
    )


def test_a_negative_id_means_none(model: Path, change) -> None:
    change(model / "config.json", pad_token_id=-1)
    assert not inspect(model).problems


def test_a_special_token_that_the_tokenizer_lacks(model: Path, change) -> None:
    change(model / "tokenizer_config.json", pad_token={"content": "<pad>", "special": True})
    (message,) = [problem for problem in inspect(model).problems if "<pad>" in problem]
    assert "names pad_token '<pad>', which the tokenizer lacks: transformers adds it as id 500" in message


def test_generation_that_does_not_stop(model: Path, change) -> None:
    change(model / "generation_config.json", eos_token_id=[2])
    remarks = inspect(model).remarks
    assert any("does not stop at 0 '<|endoftext|>', an eos_token_id of config.json" in remark for remark in remarks)
    assert any("add 0 to eos_token_id in generation_config.json" in remark for remark in remarks)


def test_special_tokens_of_a_sentencepiece_file(tokenizers: dict[str, Path], change, tmp_path: Path) -> None:
    facts = read_facts(tokenizers["sentencepiece_bpe"])
    assert facts == {"bos": "1 '<s>'", "eos": "2 '</s>'", "pad": "none", "unk": "0 '<unk>'"}
    folder = Path(shutil.copytree(tokenizers["sentencepiece_bpe"], tmp_path / "settings"))
    change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", eos_token="<s>")
    assert read_facts(folder) == facts | {"eos": "1 '<s>'"}
