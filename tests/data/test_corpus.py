"""A corpus is read by language and split; plain files and folders are split by hashes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lep.data.corpus import find_corpus_file, list_corpus_languages, read_corpus_documents, read_heldout_excerpt
from lep.errors import DataError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for language in ("ru", "en"):
        for split in ("train", "heldout"):
            lines = [json.dumps({"text": f"{language} {split} {i}"}) for i in range(3)]
            (tmp_path / f"{language}.{split}.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_a_corpus_is_read_by_language_and_split(corpus: Path) -> None:
    assert list_corpus_languages(corpus) == ["en", "ru"]
    assert list(read_corpus_documents(corpus, "ru", "heldout")) == ["ru heldout 0", "ru heldout 1", "ru heldout 2"]
    assert find_corpus_file(corpus, "en", "train").name == "en.train.jsonl"


def test_a_corpus_without_the_language_says_which_it_has(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text of language 'de'; it has: en, ru"):
        find_corpus_file(corpus, "de", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no text; expected"):
        list_corpus_languages(tmp_path / "empty")


def test_an_invalid_document_in_a_finished_corpus_is_an_error(corpus: Path) -> None:
    (corpus / "ru.train.jsonl").write_text("{broken")
    with pytest.raises(DataError, match=r"ru.train.jsonl.*not JSON"):
        list(read_corpus_documents(corpus, "ru", "train"))


def test_an_excerpt_has_exactly_the_requested_characters(corpus: Path) -> None:
    assert read_heldout_excerpt(corpus, "ru", max_characters=17) == ["ru heldout 0", "ru he"]
    assert len(read_heldout_excerpt(corpus, "ru", max_characters=10_000)) == 3
    (corpus / "ru.heldout.jsonl").write_text("")
    with pytest.raises(DataError, match="no text of 'ru' is held out"):
        read_heldout_excerpt(corpus, "ru", max_characters=5)


def test_a_plain_file_is_split_by_its_texts_and_invalid_documents_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "wiki.v2.jsonl"
    texts = [f"document {i}" for i in range(500)]
    lines = [json.dumps({"text": text}) for text in texts]
    file.write_text("\n".join(["{broken", *lines, '{"text": "\\ud800"}']))
    skipped: Counter[str] = Counter()
    assert list_corpus_languages(file) == ["wiki.v2"]
    train = list(read_corpus_documents(file, "wiki.v2", "train", skipped=skipped))
    heldout = list(read_corpus_documents(file, "wiki.v2", "heldout"))
    assert sorted(train + heldout) == sorted(texts) and 0 < len(heldout) < 40
    assert skipped == {"not JSON": 1, "invalid UTF-8": 1}
    with pytest.raises(DataError, match=r"wiki.v2.jsonl: its splits are not separate files"):
        find_corpus_file(file, "wiki.v2", "train")


def test_each_file_of_a_folder_is_a_language(tmp_path: Path) -> None:
    for name in ("prose.txt", "news.jsonl.gz", "README.md"):
        (tmp_path / name).touch()
    assert list_corpus_languages(tmp_path) == ["news", "prose"]
    with pytest.raises(DataError, match="no such file or folder"):
        list_corpus_languages(tmp_path / "absent")


@pytest.mark.parametrize(
    "names", [("ru.jsonl", "ru.txt"), ("ru.jsonl", "ru.train.jsonl"), ("ru.train.jsonl", "ru.txt")]
)
def test_two_files_of_one_language_are_an_error(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="are the same text twice"):
        list_corpus_languages(tmp_path)
