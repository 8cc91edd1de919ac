"""A recipe becomes steps: references, sweeps, overrides, and every error at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lep import pipeline
from lep.config import PropagateSettings
from lep.errors import UsageError
from lep.io.artifact import ArtifactPlan, build_artifact, is_finished
from lep.registry import STAGES
from lep.results.embeddings import PropagationResult


@pytest.fixture
def write(tmp_path: Path):
    """Write a recipe: `write(collect={...})`."""

    def write(**stages: Any) -> Path:
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({"out": str(tmp_path / "run"), **stages}, sort_keys=False))
        return file

    return write


SOURCES = {"sources": {"ru": {"files": ["ru.jsonl"]}}}
RETOKENIZE = {"base": "base", "corpus": "collect", "mixture": {"ru": 1}, "new_tokens": 10}
PROPAGATE = {"base": "base", "adapted": "adapted", "instruct": "instruct"}


def error_message(file: Path, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        pipeline.load_recipe(file, overrides)
    return str(caught.value)


def test_name_of_an_earlier_stage_refers_to_its_artifact(write, tmp_path) -> None:
    collect, retokenize = pipeline.load_recipe(write(collect=SOURCES, retokenize=RETOKENIZE))
    assert collect.out == tmp_path / "run" / "collect"
    assert retokenize.plan.inputs == {"base": Path("base"), "corpus": collect.out}
    assert retokenize.plan.partial_folder == tmp_path / "run" / "retokenize.partial"


def test_a_list_makes_one_artifact_for_each_value(write, tmp_path) -> None:
    evaluate = {"models": {"a": "propagate/swap", "b": "propagate/overlap"}, "corpus": "c"}
    file = write(propagate=PROPAGATE | {"method": ["swap", "overlap"]}, evaluate=evaluate)
    steps = pipeline.load_recipe(file)
    assert [step.name for step in steps] == ["propagate/swap", "propagate/overlap", "evaluate"]
    assert [step.settings.model_dump().get("method") for step in steps] == ["swap", "overlap", None]
    assert steps[2].plan.inputs["models.b"] == tmp_path / "run" / "propagate" / "overlap"


def test_overrides_beat_the_file_which_beats_the_defaults(write) -> None:
    file = write(collect=SOURCES | {"seed": 3})
    read = [pipeline.load_recipe(file, over)[0].settings.model_dump() for over in ([], ["collect.seed=4"])]
    assert [(values["seed"], values["min_characters"]) for values in read] == [(3, 40), (4, 40)]
    nested = pipeline.load_recipe(file, ["collect.sources.en.files=[en.txt]", "out=elsewhere"])[0]
    assert nested.plan.inputs["sources.en.files.0"] == Path("en.txt") and nested.out == Path("elsewhere/collect")


def test_all_errors_come_at_once_and_no_others(write) -> None:
    retokenize = RETOKENIZE | {"new_tokens": "many", "colour": "red"}
    initialize = {"base": "base", "tokenizer": "retokenize"}
    message = error_message(
        write(colect=SOURCES, collect=SOURCES, retokenize=retokenize, initialize=initialize, tune=3)
    )
    lines = message.splitlines()
    assert len(lines) == 6 and "`lep explain retokenize`" in lines[4]
    assert lines[1] == f"  colect: no such stage; stages: {', '.join(STAGES)}"
    assert any("retokenize.new_tokens: Input should be a valid integer" in line for line in lines)
    assert any("retokenize.colour: Extra inputs are not permitted; settings: base, corpus" in line for line in lines)
    assert "tune: expected settings, found 3" in lines[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"new_tokens": 0},
        {"new_tokens": 1.5},
        {"kind": "unigram"},
        {"base": None},
        {"kind": "wordpiece"},
        {"mixture": ["ru", "en"]},
        {"mixture": {"ru": 0}},
    ],
)
def test_values_outside_of_their_range_are_refused(write, changes) -> None:
    assert "retokenize" in error_message(write(retokenize=RETOKENIZE | changes))


@pytest.mark.parametrize(
    ("stages", "reference"),
    [
        ({"retokenize": RETOKENIZE, "collect": SOURCES}, "retokenize.corpus: collect"),
        ({"retokenize": RETOKENIZE | {"corpus": "retokenize"}}, "retokenize.corpus: retokenize"),
        (
            {
                "propagate": PROPAGATE | {"method": ["swap", "overlap"]},
                "evaluate": {"models": {"a": "propagate"}, "corpus": "c"},
            },
            "evaluate.models.a: propagate",
        ),
        (
            {
                "propagate": PROPAGATE | {"method": ["swap"]},
                "evaluate": {"models": {"a": "propagate/x"}, "corpus": "c"},
            },
            "evaluate.models.a: propagate/x",
        ),
    ],
)
def test_unresolved_references_are_named(write, stages, reference) -> None:
    message = error_message(write(**stages))
    assert f"{reference} is a stage that comes later" in message and "name an earlier stage" in message


def test_two_sweeps_in_a_stage_are_refused(write) -> None:
    message = error_message(write(propagate=PROPAGATE | {"method": ["swap"], "ridge": [0, 1]}))
    assert "propagate: only one setting can have several values; these have: method, ridge" in message


@pytest.mark.parametrize("text", ["a: [1", "- a", "words", "", "\x00"])
def test_an_invalid_recipe_is_named(tmp_path, text) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert "bad.yaml" in error_message(tmp_path / "bad.yaml")


def test_a_recipe_that_cannot_be_read_is_named(tmp_path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"out: \xff\xfe")
    assert "bad.yaml: cannot be read" in error_message(tmp_path / "bad.yaml")
    assert "none.yaml: no such file" in error_message(tmp_path / "none.yaml")


@pytest.mark.parametrize("override", ["collect", "=3", "collect.seed.x=1", "collect.seed=[1", "nowhere.x=1"])
def test_invalid_overrides_are_named(write, override) -> None:
    assert override.split("=")[0].split(".")[0] in error_message(write(collect=SOURCES | {"seed": 0}), override)


def test_selected_stages_include_the_first_and_the_last(write) -> None:
    tune = {"model": "m", "data": "d"}
    steps = pipeline.load_recipe(
        write(
            collect=SOURCES,
            tune=tune,
            propagate=PROPAGATE | {"method": ["swap", "overlap"]},
            report={"evaluation": "e"},
        )
    )

    def names(first: str | None, last: str | None) -> list[str]:
        return [step.name for step in pipeline.select_steps(steps, first_stage=first, last_stage=last)]

    swept = ["propagate/swap", "propagate/overlap"]
    assert names(None, None) == ["collect", "tune", *swept, "report"]
    assert names("tune", "propagate") == ["tune", *swept]
    assert names("propagate", "propagate") == swept
    assert names(None, "tune") == ["collect", "tune"]
    for first, last in [("evaluate", None), (None, "nowhere"), ("report", "collect")]:
        with pytest.raises(UsageError):
            names(first, last)


def test_missing_inputs_are_all_named_and_nothing_starts(write, tmp_path) -> None:
    steps = pipeline.load_recipe(write(collect=SOURCES, retokenize=RETOKENIZE))
    problems = pipeline.check_steps(steps)
    assert len(problems) == 2
    assert problems[0].startswith("collect.sources.ru.files.0: ru.jsonl does not exist")
    assert problems[1].startswith("retokenize.base: base does not exist")
    with pytest.raises(UsageError, match="cannot start") as caught:
        pipeline.run_steps(steps, replace=False, on_start=lambda _: pytest.fail("started"), on_end=lambda *_: None)
    assert all(problem in str(caught.value) for problem in problems)
    assert not (tmp_path / "run").exists()


def test_one_stage_from_the_command_line(tmp_path) -> None:
    (step,) = pipeline.build_stage_steps(
        "retokenize", ["base=b", "corpus=c", "mixture={ru: 1}", "new_tokens=5", f"out={tmp_path}/x"]
    )
    assert (step.stage.name, step.out) == ("retokenize", tmp_path / "x")
    with pytest.raises(UsageError, match="retokenize: out= is missing"):
        pipeline.build_stage_steps("retokenize", ["base=b"])
    with pytest.raises(UsageError) as caught:
        pipeline.build_stage_steps("retokenize", ["base=b", "out=x", "colour=red"])
    assert all(name in str(caught.value) for name in ("corpus", "colour"))
    with pytest.raises(UsageError, match="give one of vocab_size, new_tokens, characters_per_token; found none"):
        pipeline.build_stage_steps("retokenize", ["base=b", "corpus=c", "out=x"])


@pytest.mark.parametrize(
    ("instruct", "expected"),
    [
        ({"chat": "a/model", "tools": "b/model"}, {"chat": "a/model", "tools": "b/model"}),
        (["a/chat", "b/tools"], {"chat": "a/chat", "tools": "b/tools"}),
        (["a/chat"], {"chat": "a/chat"}),
        ({"chat": "initialize", "own": "b"}, {"chat": "RUN/initialize", "own": "b"}),
    ],
)
def test_each_of_several_instruct_models_is_an_artifact(write, tmp_path, instruct, expected) -> None:
    """Named by a mapping, or by the last part of their paths; a stage's name still refers to its artifact."""
    stages = {"initialize": {"base": "base", "tokenizer": "t"}, "propagate": PROPAGATE | {"instruct": instruct}}
    evaluate = {"models": {name: f"propagate/{name}" for name in expected}, "corpus": "c"}
    _, *steps, last = pipeline.load_recipe(write(**stages, evaluate=evaluate))
    paths = {name: Path(path.replace("RUN", str(tmp_path / "run"))) for name, path in expected.items()}
    assert {step.name: step.plan.inputs["instruct"] for step in steps} == {
        f"propagate/{name}": path for name, path in paths.items()
    }
    assert {step.out for step in steps} == {last.plan.inputs[f"models.{name}"] for name in expected}
    assert all(step.settings.model_dump()["method"] == "conversion" for step in steps)


def test_several_instruct_models_from_the_command_line(tmp_path) -> None:
    words = ["base=b", "adapted=a", f"out={tmp_path}"]
    for several in (["instruct={x: m/x, y: n}"], ["instruct.x=m/x", "instruct.y=n"]):
        steps = pipeline.build_stage_steps("propagate", [*words, *several])
        assert {step.name: step.out for step in steps} == {f"propagate/{name}": tmp_path / name for name in ("x", "y")}
        assert [step.plan.inputs["instruct"] for step in steps] == [Path("m/x"), Path("n")]
    steps = pipeline.build_stage_steps("propagate", [*words, "instruct=m/x", "method=[swap, overlap]"])
    assert [(step.out.name, step.settings.model_dump()["method"]) for step in steps] == [
        ("swap",) * 2,
        ("overlap",) * 2,
    ]
    (step,) = pipeline.build_stage_steps("propagate", [*words, "instruct=[m/x]"])
    assert step.out == tmp_path / "x"


def test_two_values_of_one_name_are_refused(write) -> None:
    message = error_message(write(propagate=PROPAGATE | {"instruct": ["a/model", "b/model"]}))
    assert "propagate.instruct: two values have the same name; name them: {first: …, second: …}" in message
    with pytest.raises(UsageError, match="two values have the same name"):
        pipeline.build_stage_steps("propagate", ["base=b", "adapted=a", "instruct=[a/model, b/model]", "out=x"])


@pytest.mark.parametrize("instruct", [{}, []])
def test_no_value_is_refused(write, instruct) -> None:
    assert "propagate.instruct: no value" in error_message(write(propagate=PROPAGATE | {"instruct": instruct}))


def test_two_sweeps_of_which_one_is_named_are_refused(write) -> None:
    message = error_message(write(propagate=PROPAGATE | {"instruct": {"a": "b"}, "method": ["swap"]}))
    assert "only one setting can have several values; these have: instruct, method" in message


def test_nested_settings_are_not_a_sweep(write) -> None:
    tables = {"embed": "e.weight", "head": "h.weight"}
    (step,) = pipeline.load_recipe(write(propagate=PROPAGATE | {"embedding_names": tables}))
    assert (step.name, step.settings.model_dump()["embedding_names"]) == ("propagate", tables)
    (step,) = pipeline.build_stage_steps(
        "initialize", ["base=b", "tokenizer=t", "out=x", "embedding_names.embed=e", "embedding_names.head=h"]
    )
    assert (step.out, step.settings.model_dump()["embedding_names"]) == (Path("x"), {"embed": "e", "head": "h"})
    assert "propagate.embedding_names.colour" in error_message(
        write(propagate=PROPAGATE | {"embedding_names": tables | {"colour": "red"}})
    )


@pytest.mark.parametrize("name", ["..", "a/../..", ".", "", "/tmp/x"])
def test_a_name_outside_of_the_run_is_refused(write, name) -> None:
    assert "propagate.instruct" in error_message(write(propagate=PROPAGATE | {"instruct": {name: "model", "b": "b"}}))


@pytest.mark.parametrize("changes", [{"ridge": float("inf")}, {"layers_scale": float("nan")}])
def test_a_number_that_is_not_finite_is_refused(write, changes) -> None:
    """One would be a traceback later, the other a model whose layers are not finite."""
    assert f"propagate.{next(iter(changes))}" in error_message(write(propagate=PROPAGATE | changes))


RESULT = PropagationResult(method="conversion", fits={})
CHANGES: dict[str, Any] = {
    "method": "overlap",
    "ridge": 0.5,
    "weights": "uniform",
    "layers_scale": 0.5,
    "embedding_names": {"embed": "a", "head": "b"},
    "link": "copy",
    "device": "cuda",
}


@pytest.mark.parametrize("name", PropagateSettings.model_fields)
def test_one_changed_setting_changes_the_fingerprint(tmp_path, name) -> None:
    """An input is identified by its contents: the same contents at another path are the same input."""
    files = {key: tmp_path / key for key in ("base", "adapted", "instruct", "corpus", "adapter_base", "other")}
    for key, file in files.items():
        file.write_text(key)
    settings: dict[str, Any] = {key: file for key, file in files.items() if key != "other"}
    settings |= {"weights": "frequency"}

    def plan(**changes: Any) -> ArtifactPlan:
        return pipeline.PipelineStep(
            "x", STAGES["propagate"], PropagateSettings(**settings | changes), tmp_path / "out"
        ).plan

    build_artifact(plan(), lambda _: RESULT)
    assert is_finished(plan())
    if name in files:
        (tmp_path / "elsewhere").write_text(name)
        assert is_finished(plan(**{name: tmp_path / "elsewhere"}))
    change = {name: files["other"] if name in files else CHANGES[name]}
    assert not is_finished(plan(**change | ({"corpus": None} if name == "weights" else {})))
