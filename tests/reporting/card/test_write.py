"""A model's card says where it comes from, what may be done with it, and nothing of the machine it was made on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from lep.config import Calibrate, Propagate
from lep.errors import ArtifactError
from lep.io.artifact import read_manifest
from lep.reporting.card.write import add_numbers, required_beginning, write_card
from lep.reporting.card.write import write as cards

from ..made_up import Write, calibrated, collected, evaluated, pretrained, propagated, retokenized

BASE, INSTRUCT = "models/Meta-Llama-3-8B", "models/Meta-Llama-3-8B-Instruct"
SOURCES = {
    "ru": {"dataset": "owner/texts", "license": "cc-by-sa-4.0"},
    "en": {"files": ["/home/me/secret/en.jsonl"], "dataset": None},
}


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr("lep.reporting.card.write.note", told.append)
    cards._tell.cache_clear()
    return told


def publish(folder: Path, front: str, *, name: str | None = None) -> None:
    """A vendor's model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A model\n\n`{name or 'a model'}` is meant for research.\n")
    (folder / "LICENSE").write_text("The licence.")


@pytest.fixture
def run(tmp_path: Path, write: Write) -> Path:
    """The run of a LLaMa: from a corpus to a propagated model."""
    for place in (BASE, INSTRUCT):
        publish(tmp_path / place, "license: llama3\nlanguage: [en]", name=f"meta-llama/{Path(place).name}")
    corpus = {"corpus": "run/collect"}
    files = {"sources.en.files.0": "texts/en.jsonl"}
    write("run/collect", room="collect", numbers=collected(), inputs=files, settings={"sources": SOURCES})
    share = {"mixture": {"en": 1, "ru": 9}, "base": str(tmp_path / BASE)}
    write("run/retokenize", room="retokenize", numbers=retokenized(), inputs={"base": BASE, **corpus}, settings=share)
    rows = {"copied": 49152, "composed": 3000, "mean_pieces": 2.43}
    write("run/initialize", room="initialize", numbers=rows, inputs={"base": BASE, "tokenizer": "run/retokenize"})
    seen = {"new_tokens": {"known": 3000, "never_seen": 23, "seen_less_than_100_times": 210}}
    learning = {"model": "run/initialize", **corpus}
    write(
        "run/pretrain",
        room="pretrain",
        numbers=pretrained() | seen,
        inputs=learning,
        settings={"mixture": share["mixture"]},
    )
    three = {"base": BASE, "adapted": "run/pretrain", "instruct": INSTRUCT}
    place = write("run/propagate", room="propagate", numbers=propagated("conversion"), inputs=three)
    paths = {role: tmp_path / where for role, where in three.items()}
    change(place, settings=Propagate.model_validate({**paths, "ridge": 0.5}).model_dump(mode="json"))
    (place / "chat_template.jinja").write_text("{{ messages }}")
    return tmp_path / "run"


def change(folder: Path, **values: Any) -> None:
    """Other values in a manifest."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def made(folder: Path) -> ModelCard:
    write_card(folder, read_manifest(folder))
    return ModelCard.load(folder / "README.md")


def test_the_front_matter_is_the_hubs(run: Path) -> None:
    assert made(run / "propagate").data.to_dict() == {
        "base_model": ["meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-8B"],
        "base_model_relation": "merge",
        "language": ["ru", "en"],
        "license": "llama3",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "datasets": ["owner/texts"],
        "tags": ["lep"],
    }
    data = made(run / "pretrain").data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == (["meta-llama/Meta-Llama-3-8B"], "finetune")


def test_it_tells_the_walk_in_its_order_with_settings_and_numbers(run: Path) -> None:
    text = made(run / "propagate").text
    walk = [text.index(f". **{room}**") for room in ("collect", "retokenize", "initialize", "pretrain", "propagate")]
    assert walk == sorted(walk)
    for words in (
        "a token in Russian is 2.62 symbols, before 1.31",
        "(base `Meta-Llama-3-8B`, adapted `pretrain`, instruct `Meta-Llama-3-8B-Instruct`)",
        "`method=conversion`, `ridge=0.5`",
        "| Russian | 2.620 | 1.726 |",
        "| embed | conversion | 40.2 % | 41.3 % | 100.0 % | 91 |",
        "of 3,000 new tokens it saw 23 never and 210 less than 100 times",
        "apply_chat_template",
        "vllm serve",
        "lep 0.1.0, torch 2.13.0",
        "2412.21140",
    ):
        assert words in text.replace("\u00a0", " "), words


def test_a_model_without_a_chat_template_continues_text(run: Path) -> None:
    text = made(run / "pretrain").text
    assert "It has no chat template: it continues text." in text and "apply_chat_template" not in text


def test_nothing_of_the_machine_is_in_it(run: Path, tmp_path: Path) -> None:
    for room in ("initialize", "pretrain", "propagate"):
        text = made(run / room).content
        assert str(tmp_path) not in text and tmp_path.name not in text and "secret" not in text and "/home" not in text
        assert "`en.jsonl`" in text


def test_an_address_of_a_served_teacher_is_not_told_but_its_name_is(run: Path, write: Write, tmp_path: Path) -> None:
    asked = tmp_path / "prompts.jsonl"
    teacher = {"url": "http://inside.example:8000/v1", "model": "llama-3-8b"}
    settings = Calibrate.model_validate({"model": run / "propagate", "teacher": teacher, "prompts": asked})
    inputs = {"model": "run/propagate", "prompts": "prompts.jsonl"}
    values = settings.model_dump(mode="json")
    folder = write("run/calibrate", room="calibrate", numbers=calibrated(), inputs=inputs, settings=values)
    text = made(folder).content
    assert "inside.example" not in text and str(tmp_path) not in text
    assert "| answers | `llama-3-8b` | unknown: ask |" in text and "`candidates=1`" in text


def test_a_licence_says_how_a_model_must_be_called(run: Path, notes: list[str]) -> None:
    text = made(run / "propagate").content
    assert "# Llama 3: Meta-Llama-3-8B-Instruct with a vocabulary for Russian\n" in text
    assert "**Built with Meta Llama 3**" in text and required_beginning(text) == "Llama 3"
    made(run / "propagate")
    assert len(notes) == 1 and "the licence of Meta-Llama-3-8B-Instruct and Meta-Llama-3-8B, llama3, has" in notes[0]


def test_what_a_parent_forbids_is_said_aloud(run: Path, tmp_path: Path, notes: list[str]) -> None:
    publish(tmp_path / INSTRUCT, "license: cc-by-nc-4.0")
    card = made(run / "propagate")
    words = "the licence of Meta-Llama-3-8B-Instruct, cc-by-nc-4.0, forbids commercial use; name who made it"
    assert card.data.license == "cc-by-nc-4.0" and words in notes
    assert f"> **T{words[1:]}.**" in card.text and required_beginning(card.text) == "Llama 3"


def test_a_licence_that_the_hub_does_not_know_has_a_name_and_a_link(run: Path, tmp_path: Path) -> None:
    publish(tmp_path / BASE, "license: other\nlicense_name: own-terms\nlicense_link: https://example.org/terms")
    publish(tmp_path / INSTRUCT, "license: apache-2.0")
    data = made(run / "propagate").data
    assert (data.license, data.license_name, data.license_link) == ("other", "own-terms", "https://example.org/terms")


@pytest.mark.parametrize("front", ["language: en", "license: unknown", "license: other"])
def test_an_unknown_licence_stays_unknown(front: str, run: Path, tmp_path: Path, notes: list[str]) -> None:
    publish(tmp_path / BASE, front)
    card = made(run / "propagate")
    assert card.data.license == "unknown"
    assert "the licence of Meta-Llama-3-8B is unknown: ask who published it before you share this model" in notes
    assert "| base | `Meta-Llama-3-8B` | unknown: ask |" in card.text


def test_the_parents_cards_are_kept(run: Path, tmp_path: Path) -> None:
    for room, parents in {"pretrain": [BASE], "propagate": [BASE, INSTRUCT]}.items():
        made(run / room)
        for parent in map(Path, parents):
            for name in ("README.md", "LICENSE"):
                kept = run / room / "parents" / parent.name / name
                assert kept.read_bytes() == (tmp_path / parent / name).read_bytes()


def test_a_model_on_the_way_speaks_for_what_is_gone(run: Path) -> None:
    made(run / "pretrain")
    shutil.rmtree(run / "initialize")
    card = made(run / "propagate")
    assert set(card.data.base_model) == {"meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-8B"}
    assert (run / "propagate/parents/pretrain/README.md").exists()
    assert (run / "propagate/parents/Meta-Llama-3-8B/LICENSE").exists()
    assert card.data.license == "llama3" and "| adapted | `pretrain`" in card.text


def test_an_evaluation_comes_into_its_place_and_what_people_wrote_stays(run: Path, write: Write) -> None:
    measured = {"models.conversion": "run/propagate"}
    evaluation = write("run/evaluate", room="evaluate", numbers=evaluated(), inputs=measured)
    identity = read_manifest(run / "propagate").fingerprint
    change(evaluation, inputs={"models.conversion": {"path": "../propagate", "fingerprint": identity}})
    for room in ("propagate", "pretrain"):
        assert "Not evaluated yet." in made(run / room).text
    file = run / "propagate" / "README.md"
    file.write_text(file.read_text().replace("## Limitations", "Ask us anything.\n\n## Limitations"))
    before = file.read_text()
    add_numbers(run / "propagate", evaluation)
    text = file.read_text()
    assert "Ask us anything." in text and "Not evaluated yet." not in text and "| **conversion** |" in text
    add_numbers(run / "propagate", evaluation)
    assert file.read_text() == text and sorted(run.glob("propagate/README*")) == [file]
    file.write_text(before)
    with pytest.raises(ArtifactError, match=r"measured conversion, and .*pretrain as it is now is none of them"):
        add_numbers(run / "pretrain", evaluation)
    with pytest.raises(ArtifactError, match="expected an evaluation, found an artifact of 'collect'"):
        add_numbers(run / "propagate", run / "collect")
    assert file.read_text() == before
    file.write_text("# Mine alone\n")
    with pytest.raises(ArtifactError, match="has no place for numbers; put the lines"):
        add_numbers(run / "propagate", evaluation)
