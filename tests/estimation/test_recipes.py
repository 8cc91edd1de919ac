"""Every recipe resolves, agrees with the paper, and is estimated from published configurations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lep import pipeline
from lep.cli.main import main
from lep.config import InitializeSettings, PretrainSettings, ReportSettings, RetokenizeSettings
from lep.estimation.hardware import parse_machine
from lep.estimation.report import StepEstimate, estimate, format_total, list_remarks
from lep.pipeline import PipelineStep

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
"""The machine that each recipe is for; recipes that differ only in the vocabulary are left out."""
PAPER = json.loads((ROOT / "src/lep/reporting/tables/paper_tables.json").read_text(encoding="utf-8"))


@pytest.fixture
def recipe(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    """`recipe(name)`: the steps of a recipe, in a folder with all of its inputs but weights."""
    monkeypatch.chdir(workplace)
    return lambda name: pipeline.load_recipe(ROOT / "recipes" / f"{name}.yaml")


def get_settings(steps: list[PipelineStep], kind: type):
    return next(step.settings for step in steps if isinstance(step.settings, kind))


@pytest.mark.parametrize("name", [file.stem for file in RECIPES])
def test_every_recipe_lacks_only_weights_and_names_rows_of_the_paper(name: str, recipe) -> None:
    steps = recipe(name)
    assert [step.stage.name for step in steps][:4] == ["collect", "retokenize", "initialize", "pretrain"]
    assert steps[0].out == Path("runs") / name / "collect"
    assert all("no weights" in problem for problem in pipeline.check_steps(steps))
    rows = {row for table in PAPER.values() if isinstance(table, dict) for row in table}
    paper = get_settings(steps, ReportSettings).paper_rows or {}
    assert set(paper.values()) <= rows and set(paper) <= set(steps[-2].settings.model_dump()["models"])


@pytest.mark.parametrize("name", [file.stem for file in RECIPES])
def test_every_recipe_starts_with_its_cost(name: str) -> None:
    head = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
    for words in ("Needs", "GPU-hours", "GiB", "GB of disk"):
        assert words in head, f"{name} does not say {words}"


@pytest.mark.parametrize("model", ["LLaMa-3-8B", "Mistral-7B"])
def test_vocabularies_equal_those_of_the_paper(model: str, recipe) -> None:
    prefix = {"LLaMa-3-8B": "llama3-8b", "Mistral-7B": "mistral-7b"}[model]
    for kind, size in PAPER["vocab_sizes"][model].items():
        if kind != "Original":
            settings = get_settings(recipe(f"{prefix}-ru-{kind.lower()}"), RetokenizeSettings)
            assert (settings.kind, settings.vocab_size) == (kind.lower(), size)


@pytest.mark.parametrize(("name", "rate"), [("llama3-8b-ru-optimized", 2e-4), ("mistral-7b-ru-unigram", 1e-4)])
def test_training_settings_equal_those_of_the_paper(name: str, rate: float, recipe) -> None:
    settings = get_settings(recipe(name), PretrainSettings)
    assert (settings.trainable, settings.learning_rate) == ("embeddings", rate)
    assert (settings.sequence_length, settings.batch_size) == (1024, 256)
    assert (settings.lr_scheduler_type, settings.warmup_steps) == ("cosine", 100)
    assert (settings.betas, settings.epsilon, settings.weight_decay) == ((0.9, 0.95), 1e-5, 0.1)


@pytest.mark.parametrize("name", MACHINES)
def test_a_recipe_fits_its_machine_and_every_step_is_estimated(name: str, recipe) -> None:
    machine = parse_machine(MACHINES[name])
    steps = recipe(name)
    estimates = estimate(steps, machine)
    assert [item.unknown_reason for item in estimates] == [""] * len(steps)
    assert not [remark for remark in list_remarks(estimates, machine) if "do not fit" in remark]
    assert all(item.cost and item.cost.seconds > 0 and item.cost.memory_bytes > 1e8 for item in estimates)
    assert agrees_with_header(name, format_total(estimates, machine))


def agrees_with_header(name: str, total: str) -> bool:
    """Whether the numbers in the header of a recipe are those that the command prints, within a tenth."""
    text = " ".join((ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8").replace("#", " ").split())
    unit = r"([\d.,]+) (GPU-hours|GB of disk)"
    header, printed = ({b: float(a.replace(",", "")) for a, b in re.findall(unit, it)} for it in (text, total))
    return header.keys() == printed.keys() and all(abs(header[key] / printed[key] - 1) < 0.1 for key in printed)


def test_more_devices_need_less_memory_and_time_each(recipe) -> None:
    steps = [step for step in recipe("llama3-8b-ru-cluster") if not isinstance(step.settings, ReportSettings)]
    few, many = (get_pretrain_cost(estimate(steps, parse_machine(name))) for name in ("8xH100", "64xH100"))
    assert many.device_memory_bytes < few.device_memory_bytes and many.seconds < few.seconds / 6


def get_pretrain_cost(estimates: list[StepEstimate]):
    return next(item.cost for item in estimates if item.step_name == "pretrain" and item.cost)


def test_missing_inputs_are_named_and_the_rest_is_estimated(recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = pipeline.load_recipe(ROOT / "recipes/llama3-8b-ru-extended.yaml")
    estimates = estimate(steps, parse_machine("H100"))
    assert "texts/ru does not exist" in estimates[0].unknown_reason
    assert "models/llama-3-8b/config.json: is not there" in estimates[2].unknown_reason
    assert "too little is known" in format_total(estimates, parse_machine("H100"))
    assert estimates[-1].cost and "at least" in format_total(estimates[-2:], parse_machine("H100"))
    remarks = list_remarks(estimates, parse_machine("H100"))
    assert sum("models/llama-3-8b/config.json" in remark for remark in remarks) == 1  # one reason for four steps
    assert any("needs each model's config.json" in remark for remark in remarks)


def test_the_command_prints_the_estimate_before_what_is_missing(workplace, monkeypatch, capsys) -> None:
    monkeypatch.chdir(workplace)
    recipe = str(ROOT / "recipes/llama3-8b-ru-bpe.yaml")
    assert main(["check", recipe, "--on", "2xA100"]) == 2
    output = capsys.readouterr()
    assert "pretrain" in output.out and "on 2xA100" in output.out and "GPU-hours" in output.out
    assert output.err.count("no weights") == 2
    assert main(["check", recipe, "--on", "3xA100"]) == 2
    assert "does not divide batch_size" in capsys.readouterr().out
    assert main(["check", recipe, "--on", "abacus"]) == 2
    assert "unknown machine" in capsys.readouterr().err


def test_padding_rows_of_initialize_are_estimated(recipe) -> None:
    steps = recipe("qwen2.5-7b-ru")
    assert get_settings(steps, InitializeSettings).pad_to_multiple_of == 64
    cost = next(item.cost for item in estimate(steps, parse_machine("H100")) if item.step_name == "initialize")
    assert cost and cost.bytes_written > 2 * 2 * 3584 * (152_064 + 48_000)
