"""Model cards: provenance, licenses, results, and no paths of the machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from lep.config import CalibrateSettings, PropagateSettings
from lep.errors import ArtifactError
from lep.io.artifact import read_manifest
from lep.io.model_card import read_card_metadata
from lep.reporting.card import write as write_module
from lep.reporting.card.write import add_evaluation, write_card

from ..made_up import Write, calibrated, collected, evaluated, pretrained, propagated, retokenized

BASE, INSTRUCT = "models/Meta-Llama-3-8B", "models/Meta-Llama-3-8B-Instruct"
SOURCES = {
    "ru": {"dataset": "owner/texts", "license": "cc-by-sa-4.0"},
    "en": {"files": ["/home/me/secret/en.jsonl"], "dataset": None},
}


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr("lep.reporting.card.write.log_message", messages.append)
    write_module._log_once.cache_clear()
    return messages


def publish(folder: Path, front: str, *, name: str | None = None) -> None:
    """Write a vendor's model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A model\n\n`{name or 'a model'}` is meant for research.\n")
    (folder / "LICENSE").write_text("The license.")


@pytest.fixture
def run(tmp_path: Path, write: Write) -> Path:
    """Write the run of a LLaMa, from a corpus to a propagated model."""
    for place in (BASE, INSTRUCT):
        publish(tmp_path / place, "license: llama3\nlanguage: [en]", name=f"meta-llama/{Path(place).name}")
    corpus = {"corpus": "run/collect"}
    files = {"sources.en.files.0": "texts/en.jsonl"}
    write("run/collect", stage="collect", result=collected(), inputs=files, settings={"sources": SOURCES})
    share = {"mixture": {"en": 1, "ru": 9}, "base": str(tmp_path / BASE)}
    write("run/retokenize", stage="retokenize", result=retokenized(), inputs={"base": BASE, **corpus}, settings=share)
    rows = {"copied_rows": 49152, "composed_rows": 3000, "mean_segmentation_length": 2.43}
    write("run/initialize", stage="initialize", result=rows, inputs={"base": BASE, "tokenizer": "run/retokenize"})
    seen = {"new_tokens": {"known": 3000, "never_seen": 23, "seen_less_than_100_times": 210}}
    learning = {"model": "run/initialize", **corpus}
    write(
        "run/pretrain",
        stage="pretrain",
        result=pretrained() | seen,
        inputs=learning,
        settings={"mixture": share["mixture"]},
    )
    three = {"base": BASE, "adapted": "run/pretrain", "instruct": INSTRUCT}
    place = write("run/propagate", stage="propagate", result=propagated("conversion"), inputs=three)
    paths = {role: tmp_path / where for role, where in three.items()}
    change(place, settings=PropagateSettings.model_validate({**paths, "ridge": 0.5}).model_dump(mode="json"))
    (place / "chat_template.jinja").write_text("{{ messages }}")
    return tmp_path / "run"


def change(folder: Path, **values: Any) -> None:
    """Change values in a manifest."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def make_card(folder: Path) -> ModelCard:
    write_card(folder, read_manifest(folder))
    return ModelCard.load(folder / "README.md")


def required_name_prefix(folder: Path) -> str | None:
    metadata = read_card_metadata(folder)
    return metadata.required_name_prefix if metadata else None


def test_the_front_matter_is_metadata_of_the_hub(run: Path) -> None:
    assert make_card(run / "propagate").data.to_dict() == {
        "base_model": ["meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-8B"],
        "base_model_relation": "merge",
        "language": ["ru", "en"],
        "license": "llama3",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "datasets": ["owner/texts"],
        "tags": ["lep"],
        "required_name_prefix": "Llama 3",
    }
    data = make_card(run / "pretrain").data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == (["meta-llama/Meta-Llama-3-8B"], "finetune")


def test_the_stages_are_listed_in_order_with_settings_and_results(run: Path) -> None:
    text = make_card(run / "propagate").text
    stages = ("collect", "retokenize", "initialize", "pretrain", "propagate")
    positions = [text.index(f". **{stage}**") for stage in stages]
    assert positions == sorted(positions)
    for expected in (
        "2.62 characters per token in Russian, 1.31 before",
        "(base `Meta-Llama-3-8B`, adapted `pretrain`, instruct `Meta-Llama-3-8B-Instruct`)",
        "`method=conversion`, `ridge=0.5`",
        "| Russian | 2.620 | 1.726 |",
        "| embed | conversion | 40.2 % | 41.3 % | 100.0 % | 91 |",
        "of 3,000 new tokens, 23 never occur in it and 210 occur less than 100 times",
        "apply_chat_template",
        "vllm serve",
        "lep 0.1.0, torch 2.13.0",
        "2412.21140",
    ):
        assert expected in text.replace("\u00a0", " "), expected


def test_a_model_without_a_chat_template_continues_text(run: Path) -> None:
    text = make_card(run / "pretrain").text
    assert "The model has no chat template: it continues text." in text and "apply_chat_template" not in text


def test_no_path_of_the_machine_is_in_the_card(run: Path, tmp_path: Path) -> None:
    for stage in ("initialize", "pretrain", "propagate"):
        text = make_card(run / stage).content
        assert str(tmp_path) not in text and tmp_path.name not in text and "secret" not in text and "/home" not in text
        assert "`en.jsonl`" in text


def test_the_name_of_a_served_teacher_is_in_the_card_and_its_address_is_not(
    run: Path, write: Write, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    teacher = {"base_url": "http://inside.example:8000/v1", "model": "llama-3-8b"}
    settings = CalibrateSettings.model_validate({"model": run / "propagate", "teacher": teacher, "prompts": prompts})
    inputs = {"model": "run/propagate", "prompts": "prompts.jsonl"}
    values = settings.model_dump(mode="json")
    folder = write("run/calibrate", stage="calibrate", result=calibrated(), inputs=inputs, settings=values)
    text = make_card(folder).content
    assert "inside.example" not in text and str(tmp_path) not in text
    assert "| answers | `llama-3-8b` | unknown: ask |" in text and "`num_candidates=1`" in text


def test_a_license_demands_a_prefix_of_the_name(run: Path, notes: list[str]) -> None:
    text = make_card(run / "propagate").content
    assert "# Llama 3: Meta-Llama-3-8B-Instruct with a vocabulary for Russian\n" in text
    assert "**Built with Meta Llama 3**" in text and required_name_prefix(run / "propagate") == "Llama 3"
    make_card(run / "propagate")
    assert len(notes) == 1 and "the license of Meta-Llama-3-8B-Instruct and Meta-Llama-3-8B, llama3: has" in notes[0]


def test_what_a_parents_license_forbids_is_a_warning(run: Path, tmp_path: Path, notes: list[str]) -> None:
    publish(tmp_path / INSTRUCT, "license: cc-by-nc-4.0")
    card = make_card(run / "propagate")
    warning = "the license of Meta-Llama-3-8B-Instruct, cc-by-nc-4.0: forbids commercial use; name the author"
    assert card.data.license == "cc-by-nc-4.0" and warning in notes
    assert f"> **T{warning[1:]}.**" in card.text and required_name_prefix(run / "propagate") == "Llama 3"


def test_a_license_that_the_hub_does_not_know_has_a_name_and_a_link(run: Path, tmp_path: Path) -> None:
    publish(tmp_path / BASE, "license: other\nlicense_name: own-terms\nlicense_link: https://example.org/terms")
    publish(tmp_path / INSTRUCT, "license: apache-2.0")
    data = make_card(run / "propagate").data
    assert (data.license, data.license_name, data.license_link) == ("other", "own-terms", "https://example.org/terms")


@pytest.mark.parametrize("front", ["language: en", "license: unknown", "license: other"])
def test_an_unknown_license_stays_unknown(front: str, run: Path, tmp_path: Path, notes: list[str]) -> None:
    publish(tmp_path / BASE, front)
    card = make_card(run / "propagate")
    assert card.data.license == "unknown"
    assert "the license of Meta-Llama-3-8B is unknown; ask its publisher before you share this model" in notes
    assert "| base | `Meta-Llama-3-8B` | unknown: ask |" in card.text


def test_the_parents_cards_are_copied(run: Path, tmp_path: Path) -> None:
    for stage, parents in {"pretrain": [BASE], "propagate": [BASE, INSTRUCT]}.items():
        make_card(run / stage)
        for parent in map(Path, parents):
            for name in ("README.md", "LICENSE"):
                copy = run / stage / "parents" / parent.name / name
                assert copy.read_bytes() == (tmp_path / parent / name).read_bytes()


def test_the_card_of_an_earlier_model_stands_in_for_deleted_inputs(run: Path) -> None:
    make_card(run / "pretrain")
    shutil.rmtree(run / "initialize")
    card = make_card(run / "propagate")
    assert set(card.data.base_model) == {"meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-8B"}
    assert (run / "propagate/parents/pretrain/README.md").exists()
    assert (run / "propagate/parents/Meta-Llama-3-8B/LICENSE").exists()
    assert card.data.license == "llama3" and "| adapted | `pretrain`" in card.text


def test_an_evaluation_is_inserted_and_the_rest_of_the_card_stays(run: Path, write: Write) -> None:
    measured = {"models.conversion": "run/propagate"}
    evaluation = write("run/evaluate", stage="evaluate", result=evaluated(), inputs=measured)
    identity = read_manifest(run / "propagate").fingerprint
    change(evaluation, inputs={"models.conversion": {"path": "../propagate", "fingerprint": identity}})
    for stage in ("propagate", "pretrain"):
        assert "Not evaluated yet." in make_card(run / stage).text
    file = run / "propagate" / "README.md"
    file.write_text(file.read_text().replace("## Limitations", "Ask us anything.\n\n## Limitations"))
    before = file.read_text()
    add_evaluation(run / "propagate", evaluation)
    text = file.read_text()
    assert "Ask us anything." in text and "Not evaluated yet." not in text and "| **conversion** |" in text
    add_evaluation(run / "propagate", evaluation)
    assert file.read_text() == text and sorted(run.glob("propagate/README*")) == [file]
    file.write_text(before)
    with pytest.raises(ArtifactError, match=r"measured conversion, but not .*pretrain as it is now"):
        add_evaluation(run / "pretrain", evaluation)
    with pytest.raises(ArtifactError, match="expected an evaluation, found an artifact of 'collect'"):
        add_evaluation(run / "propagate", run / "collect")
    assert file.read_text() == before
    file.write_text("# Mine alone\n")
    with pytest.raises(ArtifactError, match="no place for the evaluation; put the lines"):
        add_evaluation(run / "propagate", evaluation)


def test_a_stage_without_a_text_of_its_own_has_a_general_one(run: Path) -> None:
    change(run / "propagate", stage="dummy", result={})
    text = make_card(run / "propagate").text
    assert "A model made by lep." in text and ". **dummy**" in text and "of another version of lep" in text
