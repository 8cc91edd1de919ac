"""The extended tokenizer comes with the base's files, and with proofs."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from lep.config import Retokenize
from lep.errors import DataError, TokenizerError
from lep.io.corpus import corpus_documents
from lep.stages import retokenize


def test_old_text_keeps_its_ids_and_the_language_needs_fewer(bases, extended, corpus) -> None:
    base, new = (AutoTokenizer.from_pretrained(path) for path in (bases["tied"], extended))
    texts = {language: list(corpus_documents(corpus, language, "heldout")) for language in ("ru", "en")}
    count = {k: [sum(len(t(text)["input_ids"]) for text in v) for t in (base, new)] for k, v in texts.items()}
    assert count["ru"][1] < count["ru"][0] and count["en"][0] == count["en"][1]
    assert new.chat_template == base.chat_template and new.special_tokens_map == base.special_tokens_map
    for text in texts["ru"] + texts["en"]:
        assert new.decode(new(text)["input_ids"]) == text


def test_what_cannot_be_extended_is_named(bases, tokenizers, corpus, make_artifact, tmp_path) -> None:
    def refuse(error: type[Exception], message: str, **changes: object) -> None:
        values = {"base": bases["tied"], "corpus": corpus, "language": "ru", "new_tokens": 20}
        with pytest.raises(error, match=message):
            make_artifact(Retokenize.model_validate(values | changes), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refuse(DataError, "no text of language 'de'; it has: en, ru", language="de")
    refuse(DataError, "new tokens of the 100000 asked for", new_tokens=100_000)
    refuse(TokenizerError, "continues byte-level BPE", base=tokenizers["metaspace"])


def test_a_broken_promise_stops_the_room(bases, corpus, make_artifact, tmp_path, monkeypatch) -> None:
    original = retokenize.extend

    def careless(*arguments: object, **more: object) -> object:
        made = original(*arguments, **more)
        made.state["model"]["vocab"] = {k: (v ^ 1 if v >= 500 else v) for k, v in made.state["model"]["vocab"].items()}
        return made

    monkeypatch.setattr(retokenize, "extend", careless)
    with pytest.raises(TokenizerError, match="breaks a promise"):
        make_artifact(Retokenize(base=bases["tied"], corpus=corpus, language="ru", new_tokens=20), tmp_path / "out")
    assert not (tmp_path / "out").exists()
