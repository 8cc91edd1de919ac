from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from lep.errors import DataError, UsageError
from lep.evaluation.darumeru import TASK_FILES
from lep.evaluation.darumeru.aggregation import GROUPS, TASKS, summarize
from lep.evaluation.darumeru.documents import documents


def scores(results: dict[str, Any]) -> dict[str, float]:
    return {name: result["score,none"] for name, result in results["results"].items()}


def ours(results: dict[str, Any]) -> dict[str, float]:
    """From the results of the documents, by our own table of tasks."""
    return {
        name: task.score(task.units([sample["score"] for sample in results["samples"][name]]))
        for name, task in TASKS.items()
    }


@pytest.mark.parametrize("variant", ["paper", "scripts"])
def test_a_perfect_model_gets_all_of_every_task(run, perfect, variant: str) -> None:
    found = scores(run(perfect, "Darumeru", metadata={"variant": variant}))
    assert found == dict.fromkeys((*TASKS, *GROUPS, "Darumeru"), 1.0)


def test_a_model_that_guesses_is_told_apart(run, guessing, data: str) -> None:
    found = scores(run(guessing, "Darumeru"))
    for name in ("multiq", "use", "abstractive", "cp_para_en", "cp_para_ru"):
        assert found[f"darumeru_{name}"] == 0
    for name in ("cp_sent_en", "cp_sent_ru"):  # one word for a sentence of n words and marks: 1 / n
        lengths = {"cp_sent_en": (14, 6), "cp_sent_ru": (14, 5)}[name]
        assert found[f"darumeru_{name}"] == pytest.approx(fmean(1 / n for n in lengths))
    choices = [name for name, task in TASKS.items() if not task.generative]
    assert all(found[name] < 1 for name in choices)
    assert 0 < fmean(found[name] for name in choices) < 0.7


def test_our_table_and_the_harness_agree(run, guessing) -> None:
    results = run(guessing, "Darumeru")
    found, own = scores(results), ours(results)
    assert own == pytest.approx({name: found[name] for name in TASKS})
    summary = summarize(own)
    assert summary.groups == pytest.approx({group: found[group] for group in GROUPS})
    assert summary.micro == pytest.approx(found["Darumeru"])


def test_without_a_template_a_space_stands_before_the_option(run, perfect) -> None:
    perfect.asked.clear()
    run(perfect, "darumeru_rwsd", limit=1)
    assert [continuation for _, continuation in perfect.asked] == [" Да", " Нет"]
    assert perfect.asked[0][0].endswith("Ответ:")


def test_with_a_template_examples_are_turns_and_options_follow_the_generation_prompt(run, perfect) -> None:
    perfect.asked.clear()
    run(perfect, "darumeru_rwsd", limit=1, num_fewshot=2, apply_chat_template=True, fewshot_as_multiturn=True)
    assert [continuation for _, continuation in perfect.asked] == ["Да", "Нет"]
    context = perfect.asked[0][0]
    assert context.count("<user>") == 3
    assert context.count("<assistant>Да</>") == context.count("<assistant>Нет</>") == 1
    assert context.endswith("Ответ:</><assistant>")


def test_examples_of_mmlu_are_of_the_subject(run, perfect) -> None:
    perfect.asked.clear()
    run(perfect, "darumeru_mmlu_en", num_fewshot=5)
    for context, _ in perfect.asked[-4:]:  # the last question is one of anatomy
        assert context.count("about anatomy?") == 5
        assert context.count("Sample question") == 5


def test_examples_give_way_when_the_prompt_is_too_long(run, perfect, monkeypatch: pytest.MonkeyPatch) -> None:
    perfect.asked.clear()
    run(perfect, "darumeru_rucola", limit=1, num_fewshot=5)
    long = perfect.asked[0][0]
    assert long.count("Предложение:") == 6
    monkeypatch.setattr("lep.evaluation.darumeru.lm_eval_task.ROOM", 100)  # an example has about thirty words and marks
    run(perfect, "darumeru_rucola", limit=1, num_fewshot=5)
    short = perfect.asked[-1][0]
    assert 1 < short.count("Предложение:") < 6
    assert long.startswith(short[: short.index("\n\n")])  # the first examples stay
    monkeypatch.setattr("lep.evaluation.darumeru.lm_eval_task.ROOM", 1)
    run(perfect, "darumeru_rucola", limit=1, num_fewshot=5)
    assert perfect.asked[-1][0].count("Предложение:") == 1


def test_more_examples_than_there_are_are_refused(run, perfect) -> None:
    with pytest.raises(DataError, match="darumeru_rcb: 6 few-shot examples asked for, the data have 5"):
        run(perfect, "darumeru_rcb", num_fewshot=6)


def test_the_data_may_be_named_by_the_environment(harness, perfect, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARUMERU_DATA", data)
    manager = harness.tasks.TaskManager(include_path=str(TASK_FILES.parent), include_defaults=False)
    results = harness.evaluator.simple_evaluate(model=perfect, tasks=["darumeru_parus"], task_manager=manager)
    assert scores(results) == {"darumeru_parus": 1.0}


def test_every_task_has_one_file_and_every_group_its_tasks() -> None:
    read: dict[str, Path] = {}
    for file in TASK_FILES.glob("*.yaml"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(("task: ", "group: ")):
                read[line.split(": ")[1]] = file
    assert read.keys() == {*TASKS, *GROUPS, "Darumeru"}
    for group in GROUPS:
        listed = yaml.safe_load(read[group].read_text(encoding="utf-8"))["task"]
        assert listed == [name for name, task in TASKS.items() if task.group == group]


def test_every_generative_task_stops_where_the_paper_says() -> None:
    room = {
        file.stem: int(line.split(":")[1])
        for file in TASK_FILES.glob("*.yaml")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "max_gen_toks" in line
    }
    assert {f"darumeru_{name}" for name in room} == {name for name, task in TASKS.items() if task.generative}
    assert room["multiq"] == 64
    assert room["abstractive"] == 512
    assert room["cp_sent_en"] == room["cp_sent_ru"] == 128
    assert room["cp_para_en"] == room["cp_para_ru"] == 1024


def test_the_scripts_let_a_copy_pass_that_stops_early(run, model) -> None:
    half = model(lambda request: 0.0, lambda request: request.doc["target"].split(". ")[0])
    paper = scores(run(half, "darumeru_cp_para_ru"))
    scripts = scores(run(half, "darumeru_cp_para_ru", metadata={"variant": "scripts"}))
    assert (paper, scripts) == ({"darumeru_cp_para_ru": 0.0}, {"darumeru_cp_para_ru": 1.0})


def test_an_unknown_variant_is_refused(data: str) -> None:
    with pytest.raises(UsageError, match="variant='text': expected one of paper, scripts"):
        documents(task="darumeru_parus", data=data, variant="text")
