"""A corpus is clean, without duplicates, split by content, and says what was dropped and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lep.config import Collect
from lep.errors import DataError
from lep.io.corpus import corpus_documents, corpus_languages
from lep.stages.collect import script_share


def write(file: Path, documents: list[Any]) -> Path:
    lines = [
        document if isinstance(document, bytes) else json.dumps({"text": document}).encode() for document in documents
    ]
    file.write_bytes(b"\n".join(lines) + b"\n")
    return file


def settings(file: Path, *, script: str | None = None, **changes: Any) -> Collect:
    return Collect.model_validate(
        {"sources": {"ru": {"files": [file], "script": script}}, "heldout_share": 0.2} | changes
    )


def halves(out: Path) -> tuple[list[str], list[str]]:
    return list(corpus_documents(out, "ru", "train")), list(corpus_documents(out, "ru", "heldout"))


def test_every_document_is_kept_once_or_dropped_for_a_reason(texts, run_room, tmp_path) -> None:
    good = texts["ru"][:80]
    bad = ["кратко", texts["en"][0], good[0], b"{not json", b'{"other": 1}', b'{"text": "\\ud800' + b"x" * 50 + b'"}']
    found = run_room(settings(write(tmp_path / "a.jsonl", [*good, *bad]), script="Cyrillic"), tmp_path / "out")
    numbers = found["languages"]["ru"]
    train, heldout = halves(tmp_path / "out")
    assert sorted(train + heldout) == sorted(set(good))
    reasons = {"too short", "wrong script", "duplicate", "not JSON", "no text in 'text'", "invalid UTF-8"}
    assert numbers["dropped"].keys() == reasons
    assert numbers["documents_train"] + numbers["documents_heldout"] + sum(numbers["dropped"].values()) == len(
        good + bad
    )
    assert numbers["documents_read"] == len(good + bad)
    assert numbers["characters_heldout"] == sum(map(len, heldout))
    assert corpus_languages(tmp_path / "out") == ["ru"]


def test_what_is_held_out_depends_on_text_and_seed_alone(texts, run_room, tmp_path) -> None:
    sentences = sorted(set(texts["ru"][:100]))
    forward, backward = write(tmp_path / "a.jsonl", sentences), write(tmp_path / "b.jsonl", [*sentences[::-1], "мало"])
    run_room(settings(forward), tmp_path / "forward")
    run_room(settings(backward), tmp_path / "backward")
    run_room(settings(forward, seed=1), tmp_path / "seed")
    assert set(halves(tmp_path / "forward")[1]) == set(halves(tmp_path / "backward")[1])
    assert set(halves(tmp_path / "forward")[1]) != set(halves(tmp_path / "seed")[1])


def test_control_characters_go_and_the_rest_stays(run_room, texts, tmp_path) -> None:
    text = "  Строка\u0000 с\tтабуляцией\n  и отступом\u0007, «ёлки» — \u00a0конец 😀 " + texts["ru"][0] + " \n"
    run_room(settings(write(tmp_path / "a.jsonl", [text, *texts["ru"][:60]])), tmp_path / "out")
    wanted = text.replace("\u0000", "").replace("\u0007", "").strip()
    train, heldout = halves(tmp_path / "out")
    assert wanted in train + heldout


def test_reading_stops_at_the_limit(texts, run_room, tmp_path) -> None:
    source = {"files": [write(tmp_path / "a.jsonl", sorted(set(texts["ru"])))], "maximum_characters": 3000}
    numbers = run_room(Collect.model_validate({"sources": {"ru": source}, "heldout_share": 0.2}), tmp_path / "out")
    kept = sum(numbers["languages"]["ru"][f"characters_{half}"] for half in ("train", "heldout"))
    assert 3000 <= kept < 3200


def test_too_little_text_says_what_was_dropped(make_artifact, tmp_path) -> None:
    with pytest.raises(DataError, match=r"ru: 0 documents to train on .*left of 1 \(dropped: \{'too short': 1\}\)"):
        make_artifact(settings(write(tmp_path / "a.jsonl", ["мало"])), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_share_of_letters() -> None:
    assert script_share("Да no", "Cyrillic") == 0.5
    assert script_share("123 …", "Cyrillic") == 0.0
