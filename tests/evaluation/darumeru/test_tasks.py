"""The task files run in plain lm-evaluation-harness, and score as the paper says."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from lep.errors import DataError, UsageError
from lep.evaluation.darumeru import TASK_FILES
from lep.evaluation.darumeru.aggregation import GROUPS, TASKS, compute_averages
from lep.evaluation.darumeru.documents import load_documents


def read_scores(results: dict[str, Any]) -> dict[str, float]:
    return {name: result["score,none"] for name, result in results["results"].items()}


def compute_scores(results: dict[str, Any]) -> dict[str, float]:
    """Score the results of the documents as `lep` does."""
    return {
        name: task.aggregate(task.group_units([sample["score"] for sample in results["samples"][name]]))
        for name, task in TASKS.items()
    }


@pytest.mark.parametrize("variant", ["paper", "scripts"])
def test_a_perfect_model_gets_1_on_every_task(run, perfect, variant: str) -> None:
    scores = read_scores(run(perfect, "Darumeru", metadata={"variant": variant}))
    assert scores == dict.fromkeys((*TASKS, *GROUPS, "Darumeru"), 1.0)


def test_a_model_that_guesses_gets_less(run, guessing) -> None:
    scores = read_scores(run(guessing, "Darumeru"))
    for name in ("multiq", "use", "abstractive", "cp_para_en", "cp_para_ru"):
        assert scores[f"darumeru_{name}"] == 0
    for name in ("cp_sent_en", "cp_sent_ru"):  # one word for a sentence of n words and marks: 1 / n
        lengths = {"cp_sent_en": (14, 6), "cp_sent_ru": (14, 5)}[name]
        assert scores[f"darumeru_{name}"] == pytest.approx(fmean(1 / n for n in lengths))
    choices = [name for name, task in TASKS.items() if not task.generative]
    assert all(scores[name] < 1 for name in choices)
    assert 0 < fmean(scores[name] for name in choices) < 0.7


def test_lep_and_the_harness_compute_the_same_scores(run, guessing) -> None:
    results = run(guessing, "Darumeru")
    expected, scores = read_scores(results), compute_scores(results)
    assert scores == pytest.approx({name: expected[name] for name in TASKS})
    averages = compute_averages(scores)
    assert averages.groups == pytest.approx({group: expected[group] for group in GROUPS})
    assert averages.micro_average == pytest.approx(expected["Darumeru"])


def test_without_a_template_a_space_precedes_the_option(run, perfect) -> None:
    perfect.requests.clear()
    run(perfect, "darumeru_rwsd", limit=1)
    assert [continuation for _, continuation in perfect.requests] == [" Да", " Нет"]
    assert perfect.requests[0][0].endswith("Ответ:")


def test_with_a_template_examples_are_turns_and_options_follow_the_generation_prompt(run, perfect) -> None:
    perfect.requests.clear()
    run(perfect, "darumeru_rwsd", limit=1, num_fewshot=2, apply_chat_template=True, fewshot_as_multiturn=True)
    assert [continuation for _, continuation in perfect.requests] == ["Да", "Нет"]
    context = perfect.requests[0][0]
    assert context.count("<user>") == 3
    assert context.count("<assistant>Да</>") == context.count("<assistant>Нет</>") == 1
    assert context.endswith("Ответ:</><assistant>")


def test_examples_of_mmlu_are_of_the_subject(run, perfect) -> None:
    perfect.requests.clear()
    run(perfect, "darumeru_mmlu_en", num_fewshot=5)
    for context, _ in perfect.requests[-4:]:  # the last question is one of anatomy
        assert context.count("about anatomy?") == 5
        assert context.count("Sample question") == 5


def test_a_prompt_that_is_too_long_has_fewer_examples(run, perfect, monkeypatch: pytest.MonkeyPatch) -> None:
    perfect.requests.clear()
    run(perfect, "darumeru_rucola", limit=1, num_fewshot=5)
    long = perfect.requests[0][0]
    assert long.count("Предложение:") == 6
    monkeypatch.setattr(
        "lep.evaluation.darumeru.lm_eval_task.MAX_PROMPT_TOKENS", 100
    )  # an example has about 30 words and marks
    run(perfect, "darumeru_rucola", limit=1, num_fewshot=5)
    short = perfect.requests[-1][0]
    assert 1 < short.count("Предложение:") < 6
    assert long.startswith(short[: short.index("\n\n")])  # the first examples are kept
    monkeypatch.setattr("lep.evaluation.darumeru.lm_eval_task.MAX_PROMPT_TOKENS", 1)
    run(perfect, "darumeru_rucola", limit=1, num_fewshot=5)
    assert perfect.requests[-1][0].count("Предложение:") == 1


def test_more_examples_than_there_are_are_refused(run, perfect) -> None:
    with pytest.raises(DataError, match="darumeru_rcb: 6 few-shot examples asked for, the data have 5"):
        run(perfect, "darumeru_rcb", num_fewshot=6)


def test_an_environment_variable_can_name_the_data(
    harness, perfect, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARUMERU_DATA", data)
    manager = harness.tasks.TaskManager(include_path=str(TASK_FILES.parent), include_defaults=False)
    results = harness.evaluator.simple_evaluate(model=perfect, tasks=["darumeru_parus"], task_manager=manager)
    assert read_scores(results) == {"darumeru_parus": 1.0}


def test_every_task_has_one_file_and_every_group_its_tasks() -> None:
    files: dict[str, Path] = {}
    for file in TASK_FILES.glob("*.yaml"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(("task: ", "group: ")):
                files[line.split(": ")[1]] = file
    assert files.keys() == {*TASKS, *GROUPS, "Darumeru"}
    for group in GROUPS:
        tasks = yaml.safe_load(files[group].read_text(encoding="utf-8"))["task"]
        assert tasks == [name for name, task in TASKS.items() if task.group == group]


def test_every_generative_task_stops_where_the_paper_says() -> None:
    limits = {
        file.stem: int(line.split(":")[1])
        for file in TASK_FILES.glob("*.yaml")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "max_gen_toks" in line
    }
    assert {f"darumeru_{name}" for name in limits} == {name for name, task in TASKS.items() if task.generative}
    assert limits["multiq"] == 64
    assert limits["abstractive"] == 512
    assert limits["cp_sent_en"] == limits["cp_sent_ru"] == 128
    assert limits["cp_para_en"] == limits["cp_para_ru"] == 1024


def test_the_scripts_let_a_copy_pass_that_stops_early(run, model) -> None:
    half = model(lambda request: 0.0, lambda request: request.doc["target"].split(". ")[0])
    paper = read_scores(run(half, "darumeru_cp_para_ru"))
    scripts = read_scores(run(half, "darumeru_cp_para_ru", metadata={"variant": "scripts"}))
    assert (paper, scripts) == ({"darumeru_cp_para_ru": 0.0}, {"darumeru_cp_para_ru": 1.0})


def test_an_unknown_variant_is_refused(data: str) -> None:
    with pytest.raises(UsageError, match="variant='text': expected one of paper, scripts"):
        load_documents(task="darumeru_parus", data=data, variant="text")
