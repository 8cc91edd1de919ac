"""A model is trained on a teacher's answers, however it is served and whatever interrupts it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from lep.config import CalibrateSettings
from lep.data.copy_tasks import build_copy_tasks
from lep.errors import DataError, EndpointError, TokenizerError, UsageError
from lep.io.model_folder import open_model
from lep.io.model_writer import ANSWERS_FILE
from lep.modeling import generation
from lep.pipeline import build_stage_steps
from lep.results.stages import CalibrationResult
from lep.sampling import openai_backend as endpoint
from lep.sampling.best_of_n import COMPLETIONS_FILE, JUDGMENTS_FILE

Make = Callable[..., CalibrateSettings]


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
def build_settings(propagated, instructs, prompts) -> Make:
    """`settings(key=value, …)`: the model has the new vocabulary, the teacher the old one; whatever it says is kept."""
    values: dict[str, Any] = {
        "model": propagated,
        "teacher": instructs["untied"],
        "prompts": prompts,
        "max_new_tokens": 12,
        "generation_batch_size": 4,
        "min_score": 1,
        "learning_rate": 1e-2,
        "epochs": 2,
        "batch_size": 6,
        "micro_batch_size": 3,
        "dtype": "float32",
    }
    return lambda **changes: CalibrateSettings.model_validate(values | changes)


@pytest.fixture(scope="module")
def uninterrupted(build_settings, make_result, tmp_path_factory) -> tuple[CalibrationResult, Path]:
    out = tmp_path_factory.mktemp("calibrated") / "out"
    return make_result(build_settings(), out), out


def test_its_card_names_the_training_data(uninterrupted) -> None:
    card = ModelCard.load(uninterrupted[1] / "README.md")
    assert card.data.license == "unknown" and "| prompts | `prompts.jsonl` | unknown: ask |" in card.text
    assert re.search(r"12 of [^|\n]*12 answers", card.text) and "/tmp" not in card.content


def answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ANSWERS_FILE).read_text(encoding="utf-8").splitlines()]


def assert_same(folder: Path, expected: Path, tensors: Any) -> None:
    assert (folder / ANSWERS_FILE).read_bytes() == (expected / ANSWERS_FILE).read_bytes()
    reference, actual = tensors(expected), tensors(folder)
    assert reference.keys() == actual.keys()
    for name, tensor in reference.items():
        assert torch.equal(actual[name], tensor), name


def test_the_result_is_the_model_and_its_answers(uninterrupted, propagated, prompts, tensors) -> None:
    result, folder = uninterrupted
    before, after = tensors(propagated), tensors(folder)
    assert {k: (v.shape, v.dtype) for k, v in before.items()} == {k: (v.shape, v.dtype) for k, v in after.items()}
    assert all(torch.equal(tensor, after[name]) is ("norm" in name) for name, tensor in before.items())
    assert not open_model(folder).tied
    left = {item.name for item in folder.iterdir()} - {item.name for item in propagated.iterdir()}
    assert left - {"model-embeddings.safetensors"} == {"README.md", "manifest.json", "training.jsonl", ANSWERS_FILE}
    assert result.answers == 12 == result.kept_answers + result.score_counts.get("none", 0)
    assert result.skipped == {"empty question": 1}
    assert result.sources.keys() == {"answers"} and result.examples == result.kept_answers
    rows = answers(folder)
    assert [row["place"] for row in rows] == [f"{prompts}:{number}" for number in range(1, 13)]
    assert len({row["completion"][0]["content"] for row in rows}) > 2
    assert result.losses[-1].loss < result.losses[0].loss


@pytest.mark.parametrize("calls", [1, 2])
def test_interrupted_generation_is_resumed(
    uninterrupted, build_settings, make_result, tensors, tmp_path, monkeypatch, calls
):
    generate, batches = generation.generate, []

    def interrupting(*args: Any, **kwargs: Any) -> Any:
        batches.append(1)
        if len(batches) == calls + 1:
            raise KeyboardInterrupt
        return generate(*args, **kwargs)

    monkeypatch.setattr(generation, "generate", interrupting)
    with pytest.raises(KeyboardInterrupt):
        make_result(build_settings(), tmp_path / "out")
    assert len((tmp_path / "out.partial" / COMPLETIONS_FILE).read_text().splitlines()) == 4 * calls
    make_result(build_settings(), tmp_path / "out")
    assert len(batches) == 3 + 1
    assert_same(tmp_path / "out", uninterrupted[1], tensors)


def test_interrupted_training_is_resumed(
    uninterrupted, build_settings, make_result, interrupt, tensors, tmp_path, monkeypatch
) -> None:
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        make_result(build_settings(), tmp_path / "out")
    interrupt(0)
    monkeypatch.setattr(generation, "generate", lambda *_, **__: pytest.fail("nothing is left to answer"))
    again = make_result(build_settings(), tmp_path / "out")
    assert again.losses == uninterrupted[0].losses
    assert_same(tmp_path / "out", uninterrupted[1], tensors)


def test_a_served_teacher_gives_the_same_model(
    uninterrupted, build_settings, instructs, server, make_result, tensors, tmp_path, monkeypatch
) -> None:
    """Its server dies, and is started again at another address; the key is not written anywhere."""
    monkeypatch.setattr(endpoint, "MAX_RETRIES", 1)
    monkeypatch.setenv("MY_KEY", "sk-secret")
    teacher = {"base_url": server.url, "model": str(instructs["untied"]), "api_key_env": "MY_KEY"}
    teacher |= {"max_concurrent_requests": 2}
    ask = endpoint._Client.complete
    indices: list[int] = []

    async def dying(self: Any, one: Any, **more: Any) -> Any:
        indices.append(one.prompt_index)
        if len(indices) == 6:
            server.kill()
        return await ask(self, one, **more)

    monkeypatch.setattr(endpoint._Client, "complete", dying)
    with pytest.raises(EndpointError, match=r"does not answer .*; [45] of 12 answers are kept, and the same command"):
        make_result(build_settings(teacher=teacher), tmp_path / "out")
    server.start()
    moved = teacher | {"base_url": server.url.replace("127.0.0.1", "localhost"), "max_concurrent_requests": 3}
    result = make_result(build_settings(teacher=moved), tmp_path / "out")
    assert result.kept_answers == uninterrupted[0].kept_answers and indices.count(0) == 1
    assert_same(tmp_path / "out", uninterrupted[1], tensors)
    written = [item.read_bytes() for item in (tmp_path / "out").iterdir()]
    assert not any(b"sk-secret" in text for text in written)


def test_the_best_of_several_candidates_and_copy_tasks_are_trained_on(
    build_settings, corpus, run_stage, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("lep.stages._finetuning.build_copy_tasks", partial(build_copy_tasks, evaluated_characters=0))
    monkeypatch.setattr("lep.data.copy_tasks.MIN_ARTICLE_LENGTH", 100)
    settings = build_settings(
        num_candidates=3, temperature=1.5, max_prompts=6, epochs=1, copy_tasks={"corpus": corpus, "count": 4}
    )
    result = run_stage(settings, tmp_path / "out")
    rows = answers(tmp_path / "out")
    assert result.answers == len(rows) == 18 and result.kept_answers == 6
    assert {name: source.rows for name, source in result.sources.items()} == {"answers": 6, "copy": 4}
    for at in range(0, 18, 3):
        scores = [row["score"] or 0 for row in rows[at : at + 3]]
        assert [row["selected"] for row in rows[at : at + 3]].index(True) == scores.index(max(scores))
        assert sum(row["selected"] for row in rows[at : at + 3]) == 1
    assert sum(result.rejected.values()) >= 12


def test_without_a_score_no_answer_is_kept(build_settings, instructs, make_result, tmp_path, monkeypatch) -> None:
    """A random model is no judge."""
    monkeypatch.setattr("lep.sampling.llm_judge._MAX_JUDGE_TOKENS", 8)
    generate = generation.generate

    def untruncated(*args: Any, **kwargs: Any) -> Any:
        return [generation.GeneratedText(answer.text, answer.tokens) for answer in generate(*args, **kwargs)]

    monkeypatch.setattr(generation, "generate", untruncated)
    settings = build_settings(judge=instructs["untied"], max_prompts=3, min_score=4)
    with pytest.raises(DataError, match=r"no answer reaches min_score=4; no score: 3; the answers are in "):
        make_result(settings, tmp_path / "out")
    assert len((tmp_path / "out.partial" / JUDGMENTS_FILE).read_text().splitlines()) == 3


def test_a_teacher_that_is_neither_folder_nor_endpoint_is_refused() -> None:
    with pytest.raises(UsageError) as raised:
        build_stage_steps("calibrate", ["model=m", "prompts=p", "teacher.base_url=u", "out=o"])
    assert str(raised.value).splitlines() == [
        "calibrate:",
        "  calibrate.teacher: Input is not a valid path for <class 'pathlib.Path'>",
        "  calibrate.teacher.Endpoint.model: Field required",
        "  `lep explain calibrate` describes its settings",
    ]


def test_unusable_settings_and_data_are_refused(
    build_settings, instructs, adapteds, corpus, make_result, tmp_path, monkeypatch
) -> None:
    def refuse(error: type[Exception], message: str, **changes: Any) -> None:
        with pytest.raises(error, match=message):
            make_result(build_settings(**changes), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    data = tmp_path / "data.jsonl"
    data.write_text("")
    refuse(DataError, "data.jsonl: holds no rows", prompts=data)
    data.write_text('{"question": "?"}\n')
    refuse(DataError, r"data.jsonl:1: expected a row with .*; it has: question", prompts=data)
    data.write_text('{"prompt": " "}\n')
    refuse(DataError, r"none of 1 rows can be used \(empty question: 1\)", prompts=data)
    data.write_text('{"prompt": "?", "score": 7}\n')
    scored = {"files": [data], "min_scores": {"score": 8}}
    refuse(DataError, r"none of 1 rows can be used \(score below 8: 1\)", prompts=scored)
    bare = tmp_path / "bare"
    shutil.copytree(instructs["untied"], bare)
    (bare / "chat_template.jinja").unlink()
    refuse(TokenizerError, "bare: the tokenizer has no chat template; name an instruct model", teacher=bare)
    refuse(DataError, "no answer reaches min_score=5; .*truncated: 12", min_score=5)
    monkeypatch.setattr(generation, "generate", lambda *_, **__: pytest.fail("all was for nothing"))
    refuse(TokenizerError, "no answer would teach the model to stop", model=adapteds["untied"])
    refuse(DataError, "every conversation is longer than max_length=5 tokens", max_length=5)
    refuse(
        DataError,
        "are needed for copy tasks, but the held-out text gives",
        copy_tasks={"corpus": corpus, "count": 10_000},
    )
