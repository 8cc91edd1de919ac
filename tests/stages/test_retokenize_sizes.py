"""The size of a new vocabulary, the text that it is learned from, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from lep.config import RetokenizeSettings
from lep.core.vocabulary import TokenKind
from lep.data.corpus import read_heldout_excerpt
from lep.errors import DataError, TokenizerError
from lep.io.tokenizer_file import read_tokenizer
from lep.registry import parse_stage_result
from lep.results.stages import RetokenizationResult


@pytest.fixture
def make(tokenizers, corpus, make_artifact, tmp_path) -> Callable[..., tuple[RetokenizationResult, Path]]:
    """`make(**changes)`: byte_level, extended by Russian; returns the result and the folder."""
    folders = []

    def make(**changes: object) -> tuple[RetokenizationResult, Path]:
        folders.append(tmp_path / f"made{len(folders)}")
        values = {"base": tokenizers["byte_level"], "corpus": corpus, "mixture": {"ru": 1}} | changes
        manifest = make_artifact(RetokenizeSettings.model_validate(values), folders[-1])
        result = parse_stage_result(manifest.result, stage="retokenize")
        assert isinstance(result, RetokenizationResult)
        return result, folders[-1]

    return make


@pytest.fixture
def refuse(make, tmp_path) -> Callable[..., None]:
    """`refuse(error, message, **changes)`: it fails with this message and leaves no artifact."""

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
        ({"vocab_size": 501}, 501, 500),
        ({"vocab_size": 550}, 550, 500),
        ({"kind": "optimized", "kept_tokens": 260, "new_tokens": 40}, 300, None),
        ({"kind": "optimized", "kept_tokens": 300, "vocab_size": 350}, 350, None),
        ({"kind": "bpe", "vocab_size": 300}, 300, None),
        ({"kind": "unigram", "vocab_size": 333}, 333, None),
    ],
)
def test_the_size_is_the_requested_one(make, changes, size, kept) -> None:
    result, out = make(**changes)
    assert result.vocab_size == len(read_tokenizer(out).vocabulary) == size
    assert kept in (None, result.kept_tokens)


def test_optimized_keeps_half_by_default(make, tokenizers, texts, tmp_path, train_sentencepiece) -> None:
    """Of sentencepiece_bpe's 440 tokens 259 are always kept, so a larger base is used."""
    (tmp_path / "larger").mkdir()
    train_sentencepiece(tmp_path / "larger", texts["en"] + texts["ru"], kind="bpe", size=640)
    result, _ = make(base=tmp_path / "larger", kind="optimized", new_tokens=10)
    assert result.vocab_size == 330
    assert 0 < result.statistics.base_tokens_used < 640 and 0.5 < result.statistics.kept_fraction <= 1


@pytest.mark.parametrize("kind", ["extended", "optimized", "bpe"])
def test_a_target_of_characters_per_token_is_reached_by_the_fewest_tokens(make, corpus, kind) -> None:
    options = {"kept_tokens": 400} if kind == "optimized" else {}
    result, out = make(kind=kind, characters_per_token=2.5, **options)
    size = result.vocab_size
    assert result.characters_per_token["ru"].after >= 2.5
    fewer, _ = make(kind=kind, vocab_size=size - 1, **options)
    assert fewer.characters_per_token["ru"].after < 2.5
    _, again = make(kind=kind, vocab_size=size, **options)
    assert (again / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()


def test_a_target_is_that_of_the_mixture(make) -> None:
    """The mean over languages is harmonic, weighted by their shares."""
    shares = {"ru": 1, "en": 3}

    def reached(result: RetokenizationResult) -> float:
        after = {language: change.after for language, change in result.characters_per_token.items()}
        return sum(shares.values()) / sum(share / after[language] for language, share in shares.items())

    enough, _ = make(characters_per_token=3.5, mixture=shares)
    fewer, _ = make(vocab_size=enough.vocab_size - 1, mixture=shares)
    assert reached(fewer) < 3.5 <= reached(enough)


def test_a_target_that_the_base_reaches_needs_no_new_token(make, tokenizers) -> None:
    result, out = make(characters_per_token=0.01)
    assert result.new_tokens == 0
    assert read_tokenizer(out).vocabulary.tokens == read_tokenizer(tokenizers["byte_level"]).vocabulary.tokens


def test_all_importable_tokens_or_the_requested_number_are_taken(make, tokenizers) -> None:
    source = read_tokenizer(tokenizers["russian_byte_level"]).vocabulary
    all_tokens, out = make(import_tokens_from=tokenizers["russian_byte_level"])
    new = read_tokenizer(out).vocabulary
    assert all_tokens.new_tokens > 200 and set(new.tokens[500:]) <= set(source.tokens)
    assert all_tokens.new_tokens + sum(all_tokens.statistics.dropped.values()) == source.kinds.count(TokenKind.NORMAL)
    few, out = make(import_tokens_from=tokenizers["russian_byte_level"], new_tokens=30)
    assert few.new_tokens == 30 and read_tokenizer(out).vocabulary.tokens == new.tokens[:530]
    source, base = tokenizers["sentencepiece_bpe"], tokenizers["russian_byte_level"]
    sized, _ = make(import_tokens_from=source, base=base, vocab_size=560)
    assert sized.vocab_size == 560 and {check.name for check in sized.checks} >= {"base_ids", "reachable"}


def test_the_mixture_determines_what_is_kept(make, tokenizers) -> None:
    """Pruned to Russian alone, English words fall apart; with English in the mixture they stay."""
    small = {"base": tokenizers["sentencepiece_bpe"], "kind": "optimized", "kept_tokens": 350, "new_tokens": 5}
    (alone, _), (mixed, _) = make(**small), make(**small, mixture={"ru": 1, "en": 1})
    english = [result.characters_per_token["en"].after for result in (alone, mixed)]
    assert english[0] * 1.2 < english[1]
    russian, mixed = make(new_tokens=60), make(new_tokens=60, mixture={"ru": 1, "en": 1})
    assert russian[0].characters_per_token["ru"].after > mixed[0].characters_per_token["ru"].after
    for kind in ("bpe", "unigram"):
        english = [
            make(kind=kind, vocab_size=345, mixture=mixture)[0].characters_per_token["en"].after
            for mixture in ({"ru": 9, "en": 1}, {"ru": 1, "en": 9})
        ]
        assert english[0] < english[1], kind


def test_a_plain_file_and_a_folder_are_corpora(make, texts, tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    file = write(tmp_path / "folder" / "ru.jsonl", texts["ru"])
    (tmp_path / "folder" / "en.txt").write_text("\n\n".join(texts["en"]))
    alone, first = make(corpus=file, mixture=None, new_tokens=50)
    both, second = make(corpus=tmp_path / "folder", new_tokens=50)
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()
    assert alone.characters_per_token.keys() == {"ru"} and both.characters_per_token.keys() == {"en", "ru"}
    heldout = read_heldout_excerpt(file, "ru", max_characters=10_000)
    assert 0 < len(heldout) < 60 and alone.examples[0].text == heldout[0]


def test_invalid_documents_are_skipped_and_counted(make, texts, tmp_path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    good, bad = write(tmp_path / "good" / "ru.jsonl", texts["ru"]), tmp_path / "bad" / "ru.jsonl"
    bad.write_bytes(
        b'{"text": "\xff\xfe"}\n' * 3 + good.read_bytes() + b"not JSON\n" + b'{"text": "\\ud800"}\n{"x": 1}\n'
    )
    clean, first = make(corpus=good, new_tokens=50)
    result, second = make(corpus=bad, new_tokens=50)
    assert clean.documents_skipped == {}
    assert result.documents_skipped == {"invalid UTF-8": 4, "not JSON": 1, "no text in 'text'": 1}
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()


def test_text_that_is_missing_or_too_little_is_named(refuse, texts, tmp_path) -> None:
    (tmp_path / "nothing").mkdir()
    refuse(DataError, "nothing: no text; expected", corpus=tmp_path / "nothing", new_tokens=20)
    empty = write(tmp_path / "ru.jsonl", [])
    refuse(DataError, "no text of 'ru' is held out; give more text", corpus=empty, new_tokens=20)
    refuse(DataError, "no text of language 'de'; it has: en, ru", mixture={"de": 1}, new_tokens=20)
    refuse(DataError, r"yields \d+ new tokens of the 100000 requested; give more text or request", new_tokens=100_000)
    refuse(DataError, r"yields \d+ new tokens of the \d+ requested", kind="bpe", vocab_size=9000)
    refuse(DataError, r"does not yield \d+ Unigram pieces", kind="unigram", vocab_size=9000)
    refuse(DataError, r"\d+ new tokens, all that the text yields, reach .*, not 999", characters_per_token=999)


def test_sizes_that_leave_nothing_to_learn_are_named(refuse, tokenizers) -> None:
    no_token = "leaves no token to learn: {} tokens are fixed"
    refuse(DataError, "vocab_size=500 " + no_token.format(500), vocab_size=500)
    refuse(DataError, "vocab_size=200 " + no_token.format(259), kind="bpe", vocab_size=200)
    refuse(DataError, no_token.format(r"\d+"), kind="unigram", vocab_size=20)
    refuse(DataError, "ask for more tokens than these", kind="unigram", vocab_size=260)
    refuse(DataError, no_token.format(400), kind="optimized", kept_tokens=400, vocab_size=400)
    refuse(DataError, "give another kept_tokens", kind="optimized", kept_tokens=258, new_tokens=5)
    refuse(DataError, "give another kept_tokens", kind="optimized", kept_tokens=501, new_tokens=5)


@pytest.mark.parametrize("kind", ["extended", "optimized"])
def test_a_unigram_base_cannot_be_extended(refuse, tokenizers, kind) -> None:
    base = tokenizers["sentencepiece_unigram"]
    message = "a Unigram tokenizer without merges cannot be extended or pruned; give kind=bpe or kind=unigram"
    refuse(TokenizerError, message, base=base, kind=kind, new_tokens=20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give one of vocab_size, new_tokens, characters_per_token; found none"),
        ({"new_tokens": 5, "vocab_size": 9}, "found .*vocab_size.*new_tokens"),
        ({"new_tokens": 5, "kept_tokens": 9}, "kept_tokens belongs to kind=optimized"),
        (
            {"kind": "optimized", "new_tokens": 5, "import_tokens_from": "p"},
            "import_tokens_from belongs to kind=extended",
        ),
        ({"kind": "bpe", "new_tokens": 5}, "kind=bpe replaces the vocabulary; give vocab_size"),
        ({"kind": "unigram", "characters_per_token": 3}, "kind=unigram .* give vocab_size"),
    ],
)
def test_inconsistent_settings_are_refused(changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        RetokenizeSettings.model_validate({"base": "b", "corpus": "c"} | changes)
