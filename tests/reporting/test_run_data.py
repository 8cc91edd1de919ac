"""Gathering: every room once, who is compared with whom, and errors that say what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lep.errors import ArtifactError
from lep.reporting import run_data as reporting
from lep.reporting.run_data import gather
from lep.results.stages import Propagated

from .made_up import NAMES, Write, evaluated, propagated


def test_finds_every_room_once_in_the_order_of_the_walk(run: Path) -> None:
    facts = gather(run)
    keys = ["collect", "retokenize", "initialize", "pretrain", "tune"]
    assert [room.key for room in facts.rooms] == [*keys, *(f"propagate/{name}" for name in NAMES[3:]), "evaluate"]
    assert [numbers.method for _, numbers in facts.of(Propagated)] == ["swap", "overlap", "conversion"]
    assert (facts.language, facts.result, facts.reference) == ("ru", "conversion", "instruct")


def test_reference_is_the_instruct_model_that_the_result_came_from(write: Write) -> None:
    numbers = {"models": dict(zip(("old", "chat", "mine"), list(evaluated()["models"].values())[:3], strict=True))}
    three = {"base": "published", "adapted": "published", "instruct": "chatty"}
    write("made/mine", room="propagate", numbers=propagated("overlap"), inputs=three)
    models = {"models.old": "published", "models.chat": "chatty", "models.mine": "made/mine"}
    facts = gather(write("numbers", room="evaluate", numbers=numbers, inputs=models))
    assert (facts.result, facts.reference) == ("mine", "chat")


def test_rooms_of_another_home_are_called_by_room_and_name(run: Path, write: Write) -> None:
    models = {"models.base": "inputs/published", "models.mine": "run/propagate/overlap"}
    numbers = {"models": dict(zip(("base", "mine"), evaluated()["models"].values(), strict=False))}
    keys = [room.key for room in gather(write("again/evaluate", room="evaluate", numbers=numbers, inputs=models)).rooms]
    assert keys == ["collect", "retokenize", "initialize", "pretrain", "tune", "propagate/overlap", "evaluate"]


def test_without_lineage_the_first_model_is_the_reference(write: Write) -> None:
    numbers = {"models": dict(list(evaluated()["models"].items())[:2])}
    facts = gather(write("alone", room="evaluate", numbers=numbers))
    assert (facts.result, facts.reference, facts.language) == ("adapted", "base", "ru")


def test_a_missing_manifest_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere.*manifest\.json.*lep run"):
        gather(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"room": "evaluate"}'])
def test_a_broken_manifest_says_where_and_what_to_do(run: Path, text: str) -> None:
    (run / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json: not a manifest.*lep run"):
        gather(run)


def test_a_broken_manifest_further_up_is_not_passed_over(run: Path) -> None:
    (run.parent / "tune" / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="tune"):
        gather(run)


def test_a_number_that_is_missing_is_named(run: Path) -> None:
    path = run.parent / "initialize" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["numbers"]["composed"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"initialize.manifest\.json: .*numbers\.composed"):
        gather(run)


def test_another_room_is_not_an_evaluation(run: Path) -> None:
    with pytest.raises(ArtifactError, match="expected an evaluation, found an artifact of 'tune'"):
        gather(run.parent / "tune")


def test_an_evaluation_of_nothing_is_an_error(write: Write) -> None:
    with pytest.raises(ArtifactError, match="at least one model"):
        gather(write("empty", room="evaluate", numbers={"models": {}}))


def test_inputs_that_are_gone_are_only_names(run: Path) -> None:
    shutil.rmtree(run.parent / "tune")
    assert "tune" not in [room.key for room in gather(run).rooms]


@pytest.mark.parametrize(("mixture", "language"), [({"ru": 9, "en": 1}, "ru"), ({"de": 1}, "en"), (None, "en")])
def test_the_page_is_about_the_language_that_was_learnt_most(mixture, language) -> None:
    room = SimpleNamespace(manifest=SimpleNamespace(room="retokenize", settings={"mixture": mixture}))
    assert reporting._language((room,), SimpleNamespace(languages=lambda: ["en", "ru"])) == language
