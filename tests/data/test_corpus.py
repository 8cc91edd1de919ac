"""Text by language in two halves: a corpus is read back, plain files and folders are halved by their texts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from lep.data.corpus import corpus_documents, corpus_file, corpus_languages, heldout_excerpt
from lep.errors import DataError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for language in ("ru", "en"):
        for split in ("train", "heldout"):
            lines = [json.dumps({"text": f"{language} {split} {i}"}) for i in range(3)]
            (tmp_path / f"{language}.{split}.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_a_corpus_is_read_by_language_and_half(corpus: Path) -> None:
    assert corpus_languages(corpus) == ["en", "ru"]
    assert list(corpus_documents(corpus, "ru", "heldout")) == ["ru heldout 0", "ru heldout 1", "ru heldout 2"]
    assert corpus_file(corpus, "en", "train").name == "en.train.jsonl"


def test_a_corpus_without_the_language_says_which_it_has(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text of language 'de'; it has: en, ru"):
        corpus_file(corpus, "de", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no text; expected"):
        corpus_languages(tmp_path / "empty")


def test_a_bad_document_in_a_finished_corpus_is_an_error(corpus: Path) -> None:
    (corpus / "ru.train.jsonl").write_text("{broken")
    with pytest.raises(DataError, match=r"ru.train.jsonl.*not JSON"):
        list(corpus_documents(corpus, "ru", "train"))


def test_an_excerpt_has_just_so_many_characters(corpus: Path) -> None:
    assert heldout_excerpt(corpus, "ru", characters=17) == ["ru heldout 0", "ru he"]
    assert len(heldout_excerpt(corpus, "ru", characters=10_000)) == 3
    (corpus / "ru.heldout.jsonl").write_text("")
    with pytest.raises(DataError, match="nothing of 'ru' is held out"):
        heldout_excerpt(corpus, "ru", characters=5)


def test_a_plain_file_is_halved_by_its_texts_and_bad_documents_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "wiki.v2.jsonl"
    texts = [f"document {i}" for i in range(500)]
    lines = [json.dumps({"text": text}) for text in texts]
    file.write_text("\n".join(["{broken", *lines, '{"text": "\\ud800"}']))
    skipped: Counter[str] = Counter()
    assert corpus_languages(file) == ["wiki.v2"]
    train = list(corpus_documents(file, "wiki.v2", "train", skipped=skipped))
    heldout = list(corpus_documents(file, "wiki.v2", "heldout"))
    assert sorted(train + heldout) == sorted(texts) and 0 < len(heldout) < 40
    assert skipped == {"not JSON": 1, "invalid UTF-8": 1}
    with pytest.raises(DataError, match=r"wiki.v2.jsonl: its halves are not apart"):
        corpus_file(file, "wiki.v2", "train")


def test_a_folder_has_a_language_a_file(tmp_path: Path) -> None:
    for name in ("prose.txt", "news.jsonl.gz", "README.md"):
        (tmp_path / name).touch()
    assert corpus_languages(tmp_path) == ["news", "prose"]
    with pytest.raises(DataError, match="no such file or folder"):
        corpus_languages(tmp_path / "absent")


@pytest.mark.parametrize(
    "names", [("ru.jsonl", "ru.txt"), ("ru.jsonl", "ru.train.jsonl"), ("ru.train.jsonl", "ru.txt")]
)
def test_two_files_of_one_language_are_an_error(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="are the same text twice"):
        corpus_languages(tmp_path)
