"""How large a vocabulary becomes, what text it is learnt from, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lep.config import Retokenize
from lep.core.vocabulary import Kind
from lep.data.corpus import heldout_excerpt
from lep.errors import DataError, TokenizerError
from lep.io.tokenizer_file import read_tokenizer


@pytest.fixture
def make(tokenizers, corpus, make_artifact, tmp_path) -> Callable[..., tuple[dict[str, Any], Path]]:
    """`make(**changes)`: byte_level, extended by Russian; returns the manifest's numbers and the folder."""
    made = []

    def make(**changes: object) -> tuple[dict[str, Any], Path]:
        made.append(tmp_path / f"made{len(made)}")
        values = {"base": tokenizers["byte_level"], "corpus": corpus, "mixture": {"ru": 1}} | changes
        return make_artifact(Retokenize.model_validate(values), made[-1]).numbers, made[-1]

    return make


@pytest.fixture
def refuse(make, tmp_path) -> Callable[..., None]:
    """`refuse(error, message, **changes)`: it fails with these words and leaves no artifact."""

    def refuse(error: type[Exception], message: str, **changes: object) -> None:
        with pytest.raises(error, match=message):
            make(**changes)
        assert not [path for path in tmp_path.glob("made*") if (path / "manifest.json").exists()]
        assert not [path for path in tmp_path.glob("made*") if not path.name.endswith(".partial")]

    return refuse


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "size", "kept"),
    [
        ({"new_tokens": 1}, 501, 500),
        ({"vocabulary_size": 550}, 550, 500),
        ({"kind": "optimized", "kept_tokens": 260, "new_tokens": 40}, 300, None),
        ({"kind": "optimized", "kept_tokens": 300, "vocabulary_size": 350}, 350, None),
        ({"kind": "bpe", "vocabulary_size": 300}, 300, None),
        ({"kind": "unigram", "vocabulary_size": 333}, 333, None),
    ],
)
def test_the_size_is_the_one_asked_for(make, changes, size, kept) -> None:
    numbers, out = make(**changes)
    assert numbers["vocabulary_size"] == len(read_tokenizer(out).vocabulary) == size
    assert kept in (None, numbers["kept_tokens"])


def test_optimized_keeps_half_unless_told(make, tokenizers, texts, tmp_path, train_sentencepiece) -> None:
    """Of sentencepiece_bpe's 440 tokens 259 are always kept, so half of a larger one is asked for."""
    (tmp_path / "larger").mkdir()
    train_sentencepiece(tmp_path / "larger", texts["en"] + texts["ru"], kind="bpe", size=640)
    numbers, _ = make(base=tmp_path / "larger", kind="optimized", new_tokens=10)
    assert numbers["vocabulary_size"] == 330
    assert 0 < numbers["base_tokens_used"] < 640 and 0.5 < numbers["share_of_base_tokens_kept"] <= 1


@pytest.mark.parametrize("kind", ["extended", "optimized", "bpe"])
def test_a_target_of_symbols_per_token_is_reached_by_the_fewest_tokens(make, corpus, kind) -> None:
    more = {"kept_tokens": 400} if kind == "optimized" else {}
    numbers, out = make(kind=kind, symbols_per_token=2.5, **more)
    size = numbers["vocabulary_size"]
    assert numbers["symbols_per_token"]["ru"]["after"] >= 2.5
    fewer, _ = make(kind=kind, vocabulary_size=size - 1, **more)
    assert fewer["symbols_per_token"]["ru"]["after"] < 2.5
    _, again = make(kind=kind, vocabulary_size=size, **more)
    assert (again / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()


def test_a_target_is_that_of_the_mixture(make) -> None:
    """Tokens of a text with so much of each language: the mean is harmonic, and weighed."""
    shares = {"ru": 1, "en": 3}

    def reached(numbers: dict[str, Any]) -> float:
        after = {language: told["after"] for language, told in numbers["symbols_per_token"].items()}
        return sum(shares.values()) / sum(share / after[language] for language, share in shares.items())

    enough, _ = make(symbols_per_token=3.5, mixture=shares)
    fewer, _ = make(vocabulary_size=enough["vocabulary_size"] - 1, mixture=shares)
    assert reached(fewer) < 3.5 <= reached(enough)


def test_a_target_that_the_base_reaches_needs_no_new_token(make, tokenizers) -> None:
    numbers, out = make(symbols_per_token=0.01)
    assert numbers["new_tokens"] == 0
    assert read_tokenizer(out).vocabulary.tokens == read_tokenizer(tokenizers["byte_level"]).vocabulary.tokens


def test_foreign_pieces_are_taken_whole_or_as_many_as_asked(make, tokenizers) -> None:
    pieces = read_tokenizer(tokenizers["russian_byte_level"]).vocabulary
    whole, out = make(pieces=tokenizers["russian_byte_level"])
    new = read_tokenizer(out).vocabulary
    assert whole["new_tokens"] > 200 and set(new.tokens[500:]) <= set(pieces.tokens)
    assert whole["new_tokens"] + sum(whole["dropped"].values()) == pieces.kinds.count(Kind.NORMAL)
    few, out = make(pieces=tokenizers["russian_byte_level"], new_tokens=30)
    assert few["new_tokens"] == 30 and read_tokenizer(out).vocabulary.tokens == new.tokens[:530]
    aimed, _ = make(pieces=tokenizers["sentencepiece_bpe"], base=tokenizers["russian_byte_level"], vocabulary_size=560)
    assert aimed["vocabulary_size"] == 560 and {p["name"] for p in aimed["proofs"]} >= {"base_ids", "reachable"}


def test_what_the_mixture_weighs_is_what_is_kept(make, tokenizers) -> None:
    """Cut to Russian alone, English words fall apart; with English in the mixture they stay."""
    small = {"base": tokenizers["sentencepiece_bpe"], "kind": "optimized", "kept_tokens": 350, "new_tokens": 5}
    (alone, _), (mixed, _) = make(**small), make(**small, mixture={"ru": 1, "en": 1})
    english = [numbers["symbols_per_token"]["en"]["after"] for numbers in (alone, mixed)]
    assert english[0] * 1.2 < english[1]
    russian, more = make(new_tokens=60), make(new_tokens=60, mixture={"ru": 1, "en": 1})
    assert russian[0]["symbols_per_token"]["ru"]["after"] > more[0]["symbols_per_token"]["ru"]["after"]
    for kind in ("bpe", "unigram"):
        told = [
            make(kind=kind, vocabulary_size=345, mixture=mixture)[0]["symbols_per_token"]["en"]["after"]
            for mixture in ({"ru": 9, "en": 1}, {"ru": 1, "en": 9})
        ]
        assert told[0] < told[1], kind


def test_a_plain_file_and_a_folder_are_corpora(make, texts, tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    file = write(tmp_path / "folder" / "ru.jsonl", texts["ru"])
    (tmp_path / "folder" / "en.txt").write_text("\n\n".join(texts["en"]))
    alone, one = make(corpus=file, mixture=None, new_tokens=50)
    both, two = make(corpus=tmp_path / "folder", new_tokens=50)
    assert (one / "tokenizer.json").read_bytes() == (two / "tokenizer.json").read_bytes()
    assert alone["symbols_per_token"].keys() == {"ru"} and both["symbols_per_token"].keys() == {"en", "ru"}
    heldout = heldout_excerpt(file, "ru", characters=10_000)
    assert 0 < len(heldout) < 60 and alone["examples"][0]["text"] == heldout[0]


def test_bad_documents_are_skipped_and_counted(make, texts, tmp_path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    good, bad = write(tmp_path / "good" / "ru.jsonl", texts["ru"]), tmp_path / "bad" / "ru.jsonl"
    bad.write_bytes(
        b'{"text": "\xff\xfe"}\n' * 3 + good.read_bytes() + b"not JSON\n" + b'{"text": "\\ud800"}\n{"x": 1}\n'
    )
    clean, one = make(corpus=good, new_tokens=50)
    numbers, two = make(corpus=bad, new_tokens=50)
    assert clean["documents_skipped"] == {}
    assert numbers["documents_skipped"] == {"invalid UTF-8": 4, "not JSON": 1, "no text in 'text'": 1}
    assert (one / "tokenizer.json").read_bytes() == (two / "tokenizer.json").read_bytes()


def test_text_that_is_missing_or_too_little_is_named(refuse, texts, tmp_path) -> None:
    (tmp_path / "nothing").mkdir()
    refuse(DataError, "nothing: no text; expected", corpus=tmp_path / "nothing", new_tokens=20)
    empty = write(tmp_path / "ru.jsonl", [])
    refuse(DataError, "nothing of 'ru' is held out; give more text", corpus=empty, new_tokens=20)
    refuse(DataError, "no text of language 'de'; it has: en, ru", mixture={"de": 1}, new_tokens=20)
    refuse(DataError, r"yields \d+ new tokens of the 100000 asked for; give more text or ask", new_tokens=100_000)
    refuse(DataError, r"yields \d+ new tokens of the \d+ asked for", kind="bpe", vocabulary_size=9000)
    refuse(DataError, r"does not yield \d+ Unigram pieces", kind="unigram", vocabulary_size=9000)
    refuse(DataError, r"\d+ new tokens, all that the text yields, reach .*, not 999", symbols_per_token=999)


def test_sizes_that_leave_nothing_to_learn_are_named(refuse, tokenizers) -> None:
    nothing = "leaves nothing to learn: there are {} tokens anyway"
    refuse(DataError, "vocabulary_size 500 " + nothing.format(500), vocabulary_size=500)
    refuse(DataError, "vocabulary_size 200 " + nothing.format(259), kind="bpe", vocabulary_size=200)
    refuse(DataError, nothing.format(r"\d+"), kind="unigram", vocabulary_size=20)
    refuse(DataError, "ask for more tokens than these", kind="unigram", vocabulary_size=260)
    refuse(DataError, nothing.format(400), kind="optimized", kept_tokens=400, vocabulary_size=400)
    refuse(DataError, "give another kept_tokens", kind="optimized", kept_tokens=258, new_tokens=5)
    refuse(DataError, "give another kept_tokens", kind="optimized", kept_tokens=501, new_tokens=5)


@pytest.mark.parametrize("kind", ["extended", "optimized"])
def test_a_unigram_base_cannot_be_continued(refuse, tokenizers, kind) -> None:
    base = tokenizers["sentencepiece_unigram"]
    message = "a Unigram tokenizer without merges cannot be continued or cut; give kind=bpe or kind=unigram"
    refuse(TokenizerError, message, base=base, kind=kind, new_tokens=20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give one of vocabulary_size, new_tokens, symbols_per_token; found none"),
        ({"new_tokens": 5, "vocabulary_size": 9}, "found .*vocabulary_size.*new_tokens"),
        ({"new_tokens": 5, "kept_tokens": 9}, "kept_tokens belongs to kind=optimized"),
        ({"kind": "optimized", "new_tokens": 5, "pieces": "p"}, "pieces belongs to kind=extended"),
        ({"kind": "bpe", "new_tokens": 5}, "kind=bpe adds nothing to the base; give vocabulary_size"),
        ({"kind": "unigram", "symbols_per_token": 3}, "kind=unigram must know its size; give vocabulary_size"),
    ],
)
def test_settings_that_do_not_agree_are_refused(changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        Retokenize.model_validate({"base": "b", "corpus": "c"} | changes)
