"""Every recipe resolves, agrees with the paper, and is estimated from its models' published shapes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lep import pipeline
from lep.cli.main import main as cli
from lep.config import Initialize, Pretrain, Report, Retokenize
from lep.estimation.hardware import named_machine
from lep.estimation.report import Expected, estimate, remarks, summed
from lep.pipeline import Step

ROOT = Path(__file__).parents[2]
RECIPES = sorted(file for file in (ROOT / "recipes").glob("*.yaml") if not file.stem.startswith("demo"))
MACHINES = {
    "llama3-8b-ru-extended": "8xH100",
    "llama3-8b-ru-cluster": "32xH100",
    "llama3.2-1b-ru-one-gpu": "RTX 4090",
    "mistral-7b-ru-extended": "8xH100",
    "qwen2.5-7b-ru": "8xH100",
    "qwen3-4b-ru": "8xH100",
}
"""Where the recipe says that it runs; recipes that only change the vocabulary have the shapes of another."""
PAPER = json.loads((ROOT / "src/lep/reporting/paper_tables.json").read_text(encoding="utf-8"))


@pytest.fixture
def recipe(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    """The steps of a recipe, seen from a folder that has what it needs but for weights."""
    monkeypatch.chdir(workplace)
    return lambda name: pipeline.load_recipe(ROOT / "recipes" / f"{name}.yaml")


def of(steps: list[Step], kind: type):
    return next(step.settings for step in steps if isinstance(step.settings, kind))


@pytest.mark.parametrize("name", [file.stem for file in RECIPES])
def test_every_recipe_finds_all_but_weights_and_names_rows_of_the_paper(name: str, recipe) -> None:
    steps = recipe(name)
    assert [step.room for step in steps][:4] == ["collect", "retokenize", "initialize", "pretrain"]
    assert steps[0].out == Path("runs") / name / "collect"
    assert all("no weights" in problem for problem in pipeline.check(steps))
    rows = {row for table in PAPER.values() if isinstance(table, dict) for row in table}
    paper = of(steps, Report).paper or {}
    assert set(paper.values()) <= rows and set(paper) <= set(steps[-2].settings.model_dump()["models"])


@pytest.mark.parametrize("name", [file.stem for file in RECIPES])
def test_every_recipe_begins_by_saying_what_it_takes(name: str) -> None:
    head = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
    for words in ("Needs", "GPU-hours", "GiB", "GB of disk"):
        assert words in head, f"{name} does not say {words}"


@pytest.mark.parametrize("model", ["LLaMa-3-8B", "Mistral-7B"])
def test_vocabularies_are_the_paper_s(model: str, recipe) -> None:
    prefix = {"LLaMa-3-8B": "llama3-8b", "Mistral-7B": "mistral-7b"}[model]
    for kind, size in PAPER["vocab_sizes"][model].items():
        if kind != "Original":
            settings = of(recipe(f"{prefix}-ru-{kind.lower()}"), Retokenize)
            assert (settings.kind, settings.vocabulary_size) == (kind.lower(), size)


@pytest.mark.parametrize(("name", "rate"), [("llama3-8b-ru-optimized", 2e-4), ("mistral-7b-ru-unigram", 1e-4)])
def test_training_is_the_paper_s(name: str, rate: float, recipe) -> None:
    settings = of(recipe(name), Pretrain)
    found = (settings.learn, settings.lr, settings.block, settings.batch_size, settings.schedule, settings.warmup_steps)
    assert found == ("embeddings", rate, 1024, 256, "cosine", 100)
    assert (settings.betas, settings.epsilon, settings.weight_decay) == ((0.9, 0.95), 1e-5, 0.1)


@pytest.mark.parametrize("name", MACHINES)
def test_a_recipe_fits_where_it_says_and_all_rooms_are_estimated(name: str, recipe) -> None:
    machine = named_machine(MACHINES[name])
    steps = recipe(name)
    found = estimate(steps, machine)
    assert [one.why for one in found] == [""] * len(steps)
    assert not [words for words in remarks(found, machine) if "do not fit" in words]
    assert all(one.cost and one.cost.seconds > 0 and one.cost.memory_bytes > 1e8 for one in found)
    assert head_agrees(name, summed(found, machine))


def head_agrees(name: str, sentence: str) -> bool:
    """The numbers in the recipe's head are those that the command prints, within a tenth."""
    text = " ".join((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8").replace("#", " ").split())
    unit = r"([\d.,]+) (GPU-hours|GB of disk)"
    said, found = ({b: float(a.replace(",", "")) for a, b in re.findall(unit, it)} for it in (text, sentence))
    return said.keys() == found.keys() and all(abs(said[key] / found[key] - 1) < 0.1 for key in found)


def test_what_is_divided_among_more_processes_takes_less_of_each(recipe) -> None:
    steps = [step for step in recipe("llama3-8b-ru-cluster") if not isinstance(step.settings, Report)]
    few, many = (pretrained(estimate(steps, named_machine(name))) for name in ("8xH100", "64xH100"))
    assert many.device_bytes < few.device_bytes and many.seconds < few.seconds / 6


def pretrained(found: list[Expected]):
    return next(one.cost for one in found if one.address == "pretrain" and one.cost)


def test_what_is_not_there_is_named_and_the_rest_is_estimated(recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = pipeline.load_recipe(ROOT / "recipes/llama3-8b-ru-extended.yaml")
    found = estimate(steps, named_machine("H100"))
    assert "texts/ru: is not there" in found[0].why
    assert "models/llama-3-8b/config.json: is not there" in found[2].why
    assert "too little is known" in summed(found, named_machine("H100"))
    assert found[-1].cost and "at least" in summed(found[-2:], named_machine("H100"))
    told = remarks(found, named_machine("H100"))
    assert sum("models/llama-3-8b/config.json" in words for words in told) == 1  # one reason of four rooms
    assert any("of each model its config.json alone" in words for words in told)


def test_the_command_prints_the_estimate_before_what_is_missing(workplace, monkeypatch, capsys) -> None:
    monkeypatch.chdir(workplace)
    recipe = str(ROOT / "recipes/llama3-8b-ru-bpe.yaml")
    assert cli.main(["check", recipe, "--on", "2xA100"]) == 2
    told = capsys.readouterr()
    assert "pretrain" in told.out and "on 2xA100" in told.out and "GPU-hours" in told.out
    assert told.err.count("no weights") == 2
    assert cli.main(["check", recipe, "--on", "3xA100"]) == 2
    assert "does not divide batch_size" in capsys.readouterr().out
    assert cli.main(["check", recipe, "--on", "abacus"]) == 2
    assert "no known machine" in capsys.readouterr().err


def test_tables_get_the_rows_that_initialize_will_give_them(recipe) -> None:
    steps = recipe("qwen2.5-7b-ru")
    assert of(steps, Initialize).pad_to_multiple == 64
    cost = next(one.cost for one in estimate(steps, named_machine("H100")) if one.address == "initialize")
    assert cost and cost.bytes_written > 2 * 2 * 3584 * (152_064 + 48_000)
