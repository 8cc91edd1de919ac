"""Every kind of vocabulary from every base: it loads, is the base's in all else, and keeps its promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lep.config import Retokenize
from lep.data.corpus import corpus_documents
from lep.errors import TokenizerError
from lep.io.artifact import Manifest, read_manifest
from lep.io.tokenizer_file import read_tokenizer
from lep.stages import retokenize

BASES = ("byte_level", "sentencepiece_bpe", "metaspace", "sentencepiece_unigram")
CONTINUED = ("extended", "optimized")
CASES = [(b, k) for b in BASES for k in (*CONTINUED, "bpe", "unigram") if b != BASES[-1] or k not in CONTINUED]
PROMISED = {"special_tokens", "settings", "round_trips"}


def settings(base: str, kind: str) -> dict[str, int | str]:
    if kind == "extended":
        return {"kind": kind, "new_tokens": 60}
    if kind == "optimized":
        return {"kind": kind, "new_tokens": 60, "kept_tokens": 380}
    return {"kind": kind, "vocabulary_size": 340 if base == "byte_level" else 430}


@pytest.fixture(scope="module")
def made(bases, tokenizers, corpus, make_artifact, tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Each kind from each base, learnt from Russian; byte_level with its model around it."""
    root, folders = tmp_path_factory.mktemp("retokenized"), tokenizers | {"byte_level": bases["tied"]}
    for base, kind in CASES:
        values = settings(base, kind) | {"base": folders[base], "corpus": corpus, "mixture": {"ru": 1}}
        make_artifact(Retokenize.model_validate(values), root / f"{base}-{kind}")
    return {case: root / "-".join(case) for case in CASES}


def manifest(made, case) -> Manifest:
    return read_manifest(made[case])


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_it_loads_by_every_door_with_the_same_ids(made, texts, case) -> None:
    own = Tokenizer.from_file(str(made[case] / "tokenizer.json"))
    loaded = [kind.from_pretrained(made[case]) for kind in (AutoTokenizer, PreTrainedTokenizerFast)]
    size = manifest(made, case).numbers["vocabulary_size"]
    for text in [*texts["ru"][:40], *texts["en"][:40], "", "  a\n\tб 😀 €5 <s>", "<|im_end|>"]:
        for tokenizer in loaded:
            assert tokenizer(text)["input_ids"] == own.encode(text).ids
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == own.decode(ids, skip_special_tokens=False)
    assert [len(tokenizer) for tokenizer in loaded] == [size, size]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_special_tokens_and_the_chat_template_are_the_bases(made, bases, case) -> None:
    said = json.loads((made[case] / "tokenizer_config.json").read_text())
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast"
    tokenizer = AutoTokenizer.from_pretrained(made[case])
    if case[0] == "byte_level":
        base = AutoTokenizer.from_pretrained(bases["tied"])
        assert tokenizer.chat_template == base.chat_template != None  # noqa: E711 (both, and some)
        assert tokenizer.special_tokens_map == base.special_tokens_map
        talk = [{"role": "user", "content": "Да?"}]
        assert tokenizer.apply_chat_template(talk, tokenize=False) == base.apply_chat_template(talk, tokenize=False)
    elif case[0] != "metaspace":  # a bare SentencePiece file names them itself
        names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        assert tokenizer.special_tokens_map == names
        assert json.loads((made[case] / "special_tokens_map.json").read_text()) == names
        assert tokenizer("да")["input_ids"][0] == tokenizer.bos_token_id
    assert (made[case] / "tokenizer.model").exists() == case[0].startswith("sentencepiece")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_proofs_hold_and_the_numbers_are_right(made, tokenizers, corpus, case) -> None:
    numbers = manifest(made, case).numbers
    proofs = {proof["name"]: proof for proof in numbers["proofs"]}
    promised = PROMISED | ({"base_ids"} if case[1] in CONTINUED else set())
    promised |= {"special_ids", "old_ids"} if case[1] == "extended" else set()
    promised |= {"reachable"} if case[1] != "unigram" else set()
    promised |= {"sentencepiece"} if case[0].startswith("sentencepiece") else set()
    assert {name for name, proof in proofs.items() if proof["promised"]} == promised
    assert all(proofs[name]["held"] == proofs[name]["of"] > 0 for name in promised)
    base, new = read_tokenizer(tokenizers[case[0]]), read_tokenizer(made[case])
    assert numbers["kind"] == case[1] and numbers["old_tokens"] == len(base.vocabulary)
    assert numbers["vocabulary_size"] == len(new.vocabulary) == numbers["kept_tokens"] + numbers["new_tokens"]
    expected = {"extended": len(base.vocabulary) + 60, "optimized": 440}
    assert numbers["vocabulary_size"] == expected.get(case[1], settings(*case).get("vocabulary_size"))
    for language, told in numbers["symbols_per_token"].items():
        texts = list(corpus_documents(corpus, language, "heldout"))
        for tokenizer, name in ((base, "before"), (new, "after")):
            tokens = sum(len(tokenizer.tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
            assert told[name] == pytest.approx(sum(map(len, texts)) / tokens)
    assert numbers["symbols_per_token"].keys() == {"ru", "en"} and numbers["documents_skipped"] == {}
    assert (case[1] in CONTINUED) == ("dropped" in numbers)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_language_needs_fewer_tokens(made, case) -> None:
    told = manifest(made, case).numbers["symbols_per_token"]["ru"]
    assert told["after"] > told["before"] * (1.5 if case[0] == "byte_level" else 0.9)
    example = manifest(made, case).numbers["examples"][0]
    assert example["text"] and len(example["after"]) < len(example["before"]) * (1 if case[0] == "byte_level" else 1.2)


def test_old_text_keeps_its_ids_and_the_language_needs_fewer(bases, extended, corpus) -> None:
    base, new = (AutoTokenizer.from_pretrained(path) for path in (bases["tied"], extended))
    texts = {language: list(corpus_documents(corpus, language, "heldout")) for language in ("ru", "en")}
    count = {k: [sum(len(t(text)["input_ids"]) for text in v) for t in (base, new)] for k, v in texts.items()}
    assert count["ru"][1] < count["ru"][0] and count["en"][0] == count["en"][1]
    assert new.chat_template == base.chat_template and new.special_tokens_map == base.special_tokens_map
    for text in texts["ru"] + texts["en"]:
        assert new.decode(new(text)["input_ids"]) == text


def test_two_runs_make_the_same_tokenizer(made, bases, corpus, run_room, tmp_path) -> None:
    for kind in ("extended", "optimized", "bpe", "unigram"):
        values = settings("byte_level", kind) | {"base": bases["tied"], "corpus": corpus, "mixture": {"ru": 1}}
        run_room(Retokenize.model_validate(values), tmp_path / kind)
        again, first = ((path / "tokenizer.json").read_bytes() for path in (tmp_path / kind, made["byte_level", kind]))
        assert again == first


def test_a_broken_promise_stops_the_room(bases, corpus, make_artifact, tmp_path, monkeypatch) -> None:
    original = retokenize._draft

    def careless(*arguments: object) -> object:
        draft = original(*arguments)
        build = draft.build

        def swapped(count: int) -> object:
            built = build(count)
            vocab = built.tokenizer.state["model"]["vocab"]
            built.tokenizer.state["model"]["vocab"] = {k: (v ^ 1 if v >= 500 else v) for k, v in vocab.items()}
            return built

        object.__setattr__(draft, "build", swapped)
        return draft

    monkeypatch.setattr(retokenize, "_draft", careless)
    with pytest.raises(TokenizerError, match=r"the extended tokenizer breaks a promise: base_ids: [\d,]+ of [\d,]+$"):
        make_artifact(Retokenize(base=bases["tied"], corpus=corpus, mixture={"ru": 1}, new_tokens=20), tmp_path / "out")
    assert not (tmp_path / "out").exists()
