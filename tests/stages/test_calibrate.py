"""A model learns another one's answers, whoever serves it and whatever breaks off on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from lep.config import Calibrate
from lep.data.copy_tasks import copy_tasks
from lep.errors import DataError, EndpointError, TokenizerError, UsageError
from lep.io.model_folder import open_model
from lep.io.model_writer import ANSWERS
from lep.pipeline import room_steps
from lep.sampling import backends as answering
from lep.sampling import openai_backend as endpoint

Make = Callable[..., Calibrate]


@pytest.fixture(scope="module")
def prompts(texts, tmp_path_factory) -> Path:
    """Twelve questions, and a row that asks nothing."""
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [{"prompt": text} for text in (*texts["ru"][:12], " ")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def propagated(adapteds, instructs, tmp_path_factory) -> Path:
    """What `propagate` would make: the new vocabulary, with the instruct model's template and ends."""
    folder = tmp_path_factory.mktemp("propagated") / "model"
    shutil.copytree(adapteds["untied"], folder)
    for name in ("chat_template.jinja", "generation_config.json"):
        shutil.copyfile(instructs["untied"] / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def settings(propagated, instructs, prompts) -> Make:
    """`settings(key=value, …)`: the model has the new vocabulary, the teacher the old one; whatever it says is kept."""
    values: dict[str, Any] = {
        "model": propagated,
        "teacher": instructs["untied"],
        "prompts": prompts,
        "answer_tokens": 12,
        "answer_batch": 4,
        "threshold": 1,
        "lr": 1e-2,
        "epochs": 2,
        "batch_size": 6,
        "micro_batch_size": 3,
        "dtype": "float32",
    }
    return lambda **changes: Calibrate.model_validate(values | changes)


@pytest.fixture(scope="module")
def unbroken(settings, make_artifact, tmp_path_factory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("calibrated") / "out"
    return make_artifact(settings(), out).numbers, out


def test_its_card_tells_what_it_learnt_from(unbroken) -> None:
    card = ModelCard.load(unbroken[1] / "README.md")
    assert card.data.license == "unknown" and "| prompts | `prompts.jsonl` | unknown: ask |" in card.text
    assert "12 of the instruct model's own 12 answers kept" in card.text and "/tmp" not in card.content


def answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ANSWERS).read_text(encoding="utf-8").splitlines()]


def assert_same(folder: Path, expected: Path, tensors: Any) -> None:
    assert (folder / ANSWERS).read_bytes() == (expected / ANSWERS).read_bytes()
    wanted, found = tensors(expected), tensors(folder)
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def test_the_result_is_the_model_and_its_answers(unbroken, propagated, prompts, tensors) -> None:
    numbers, folder = unbroken
    before, after = tensors(propagated), tensors(folder)
    assert {k: (v.shape, v.dtype) for k, v in before.items()} == {k: (v.shape, v.dtype) for k, v in after.items()}
    assert all(torch.equal(tensor, after[name]) is ("norm" in name) for name, tensor in before.items())
    assert not open_model(folder).tied
    left = {item.name for item in folder.iterdir()} - {item.name for item in propagated.iterdir()}
    assert left - {"model-tables.safetensors"} == {"README.md", "manifest.json", "training.jsonl", ANSWERS}
    assert numbers["answers"] == 12 == numbers["kept"] + numbers["grades"].get("none", 0)
    assert numbers["skipped"] == {"empty question": 1}
    assert numbers["sources"].keys() == {"answers"} and numbers["examples"] == numbers["kept"]
    rows = answers(folder)
    assert [row["place"] for row in rows] == [f"{prompts}:{number}" for number in range(1, 13)]
    assert len({row["completion"][0]["content"] for row in rows}) > 2
    assert numbers["losses"][-1]["loss"] < numbers["losses"][0]["loss"]


@pytest.mark.parametrize("calls", [1, 2])
def test_broken_off_answers_are_gone_on_with(unbroken, settings, make_artifact, tensors, tmp_path, monkeypatch, calls):
    generate, batches = answering.generate, []

    def breaking(*given: Any, **more: Any) -> Any:
        batches.append(1)
        if len(batches) == calls + 1:
            raise KeyboardInterrupt
        return generate(*given, **more)

    monkeypatch.setattr(answering, "generate", breaking)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(settings(), tmp_path / "out")
    assert len((tmp_path / "out.partial" / "answering.jsonl").read_text().splitlines()) == 4 * calls
    make_artifact(settings(), tmp_path / "out")
    assert len(batches) == 3 + 1
    assert_same(tmp_path / "out", unbroken[1], tensors)


def test_broken_off_training_is_gone_on_with(
    unbroken, settings, make_artifact, interrupt, tensors, tmp_path, monkeypatch
) -> None:
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(settings(), tmp_path / "out")
    interrupt(0)
    monkeypatch.setattr(answering, "generate", lambda *_, **__: pytest.fail("nothing is left to answer"))
    again = make_artifact(settings(), tmp_path / "out").numbers
    assert again["losses"] == unbroken[0]["losses"]
    assert_same(tmp_path / "out", unbroken[1], tensors)


def test_a_served_teacher_teaches_the_same(
    unbroken, settings, instructs, server, make_artifact, tensors, tmp_path, monkeypatch
) -> None:
    """Its server dies in the middle, and comes again at another address; the key stands nowhere."""
    monkeypatch.setattr(endpoint, "RETRIES", 1)
    monkeypatch.setenv("MY_KEY", "sk-secret")
    teacher = {"url": server.url, "model": str(instructs["untied"]), "key_variable": "MY_KEY", "requests": 2}
    ask = endpoint._Line.ask
    asked: list[int] = []

    async def dying(self: Any, one: Any, **more: Any) -> Any:
        asked.append(one.row)
        if len(asked) == 6:
            server.kill()
        return await ask(self, one, **more)

    monkeypatch.setattr(endpoint._Line, "ask", dying)
    with pytest.raises(EndpointError, match=r"does not answer .*; [45] of 12 answers are kept, and the same command"):
        make_artifact(settings(teacher=teacher), tmp_path / "out")
    server.start()
    moved = teacher | {"url": server.url.replace("127.0.0.1", "localhost"), "requests": 3}
    numbers = make_artifact(settings(teacher=moved), tmp_path / "out").numbers
    assert numbers["kept"] == unbroken[0]["kept"] and asked.count(0) == 1
    assert_same(tmp_path / "out", unbroken[1], tensors)
    written = [item.read_bytes() for item in (tmp_path / "out").iterdir()]
    assert not any(b"sk-secret" in text for text in written)


def test_the_best_of_several_is_learnt_beside_copies(settings, corpus, run_room, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("lep.data.copy_tasks.copy_tasks", partial(copy_tasks, measured=0))
    monkeypatch.setattr("lep.data.copy_tasks.SHORTEST", 100)
    wanted = settings(candidates=3, temperature=1.5, prompts_limit=6, epochs=1, copies={"corpus": corpus, "count": 4})
    numbers = run_room(wanted, tmp_path / "out")
    rows = answers(tmp_path / "out")
    assert numbers["answers"] == len(rows) == 18 and numbers["kept"] == 6
    assert {name: source["rows"] for name, source in numbers["sources"].items()} == {"answers": 6, "copy": 4}
    for at in range(0, 18, 3):
        grades = [row["grade"] or 0 for row in rows[at : at + 3]]
        assert [row["kept"] for row in rows[at : at + 3]].index(True) == grades.index(max(grades))
        assert sum(row["kept"] for row in rows[at : at + 3]) == 1
    assert sum(numbers["dropped"].values()) >= 12


def test_a_judge_without_a_grade_keeps_nothing(settings, instructs, make_artifact, tmp_path, monkeypatch) -> None:
    """A random model is no judge."""
    monkeypatch.setattr("lep.sampling.llm_judge._VERDICT", 8)
    generate = answering.generate

    def whole(*given: Any, **more: Any) -> Any:
        return [answering.Answer(answer.text, answer.tokens) for answer in generate(*given, **more)]

    monkeypatch.setattr(answering, "generate", whole)
    wanted = settings(judge=instructs["untied"], prompts_limit=3, threshold=4)
    with pytest.raises(DataError, match=r"no answer reaches threshold=4; no grade: 3; the answers stand in "):
        make_artifact(wanted, tmp_path / "out")
    assert len((tmp_path / "out.partial" / "judging.jsonl").read_text().splitlines()) == 3


def test_a_teacher_that_is_neither_folder_nor_endpoint_is_named() -> None:
    with pytest.raises(UsageError) as told:
        room_steps("calibrate", ["model=m", "prompts=p", "teacher.url=u", "out=o"])
    assert str(told.value).splitlines() == [
        "calibrate:",
        "  calibrate.teacher: Input is not a valid path for <class 'pathlib.Path'>",
        "  calibrate.teacher.Endpoint.model: Field required",
        "  `lep explain calibrate` says what each knob takes",
    ]


def test_what_cannot_work_is_named(settings, instructs, adapteds, corpus, make_artifact, tmp_path, monkeypatch) -> None:
    def refuse(error: type[Exception], message: str, **changes: Any) -> None:
        with pytest.raises(error, match=message):
            make_artifact(settings(**changes), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    data = tmp_path / "data.jsonl"
    data.write_text("")
    refuse(DataError, "data.jsonl: holds no rows", prompts=data)
    data.write_text('{"question": "?"}\n')
    refuse(DataError, r"data.jsonl:1: expected a row with .*; it has: question", prompts=data)
    data.write_text('{"prompt": " "}\n')
    refuse(DataError, r"none of 1 rows can be used \(empty question: 1\)", prompts=data)
    data.write_text('{"prompt": "?", "score": 7}\n')
    scored = {"files": [data], "minimum": {"score": 8}}
    refuse(DataError, r"none of 1 rows can be used \(score below 8: 1\)", prompts=scored)
    bare = tmp_path / "bare"
    shutil.copytree(instructs["untied"], bare)
    (bare / "chat_template.jinja").unlink()
    refuse(TokenizerError, "bare: its tokenizer has no chat template to ask with", teacher=bare)
    refuse(DataError, "no answer reaches threshold=5; .*cut: 12", threshold=5)
    monkeypatch.setattr(answering, "generate", lambda *_, **__: pytest.fail("all was for nothing"))
    refuse(TokenizerError, "no answer would teach the model to stop", model=adapteds["untied"])
    refuse(DataError, "every conversation is longer than maximum_length=5 tokens", maximum_length=5)
    refuse(DataError, "are needed for copy tasks, of what is held out", copies={"corpus": corpus, "count": 10_000})
