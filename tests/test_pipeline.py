"""A recipe becomes steps: references, sweeps, overrides, and every error at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lep import pipeline
from lep.config import ROOMS, Propagate
from lep.errors import UsageError
from lep.io.artifact import Plan, complete, is_finished


@pytest.fixture
def write(tmp_path: Path):
    """Writes a recipe: `write(collect={...})`."""

    def write(**rooms: Any) -> Path:
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({"out": str(tmp_path / "run"), **rooms}, sort_keys=False))
        return file

    return write


SOURCES = {"sources": {"ru": {"files": ["ru.jsonl"]}}}
RETOKENIZE = {"base": "base", "corpus": "collect", "mixture": {"ru": 1}, "new_tokens": 10}
PROPAGATE = {"base": "base", "adapted": "adapted", "instruct": "instruct"}


def refused(file: Path, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        pipeline.load_recipe(file, overrides)
    return str(caught.value)


def test_the_name_of_an_earlier_room_is_its_artifact(write, tmp_path) -> None:
    collect, retokenize = pipeline.load_recipe(write(collect=SOURCES, retokenize=RETOKENIZE))
    assert collect.out == tmp_path / "run" / "collect"
    assert retokenize.plan.inputs == {"base": Path("base"), "corpus": collect.out}
    assert retokenize.plan.partial == tmp_path / "run" / "retokenize.partial"


def test_a_list_makes_one_artifact_for_each_value(write, tmp_path) -> None:
    evaluate = {"models": {"a": "propagate/swap", "b": "propagate/overlap"}, "corpus": "c"}
    file = write(propagate=PROPAGATE | {"method": ["swap", "overlap"]}, evaluate=evaluate)
    steps = pipeline.load_recipe(file)
    assert [step.address for step in steps] == ["propagate/swap", "propagate/overlap", "evaluate"]
    assert [step.settings.model_dump().get("method") for step in steps] == ["swap", "overlap", None]
    assert steps[2].plan.inputs["models.b"] == tmp_path / "run" / "propagate" / "overlap"


def test_overrides_beat_the_file_which_beats_the_defaults(write) -> None:
    file = write(collect=SOURCES | {"seed": 3})
    read = [pipeline.load_recipe(file, over)[0].settings.model_dump() for over in ([], ["collect.seed=4"])]
    assert [(found["seed"], found["minimum_characters"]) for found in read] == [(3, 40), (4, 40)]
    nested = pipeline.load_recipe(file, ["collect.sources.en.files=[en.txt]", "out=elsewhere"])[0]
    assert nested.plan.inputs["sources.en.files.0"] == Path("en.txt") and nested.out == Path("elsewhere/collect")


def test_all_errors_come_at_once_and_no_others(write) -> None:
    retokenize = RETOKENIZE | {"new_tokens": "many", "colour": "red"}
    initialize = {"base": "base", "tokenizer": "retokenize"}
    message = refused(write(colect=SOURCES, collect=SOURCES, retokenize=retokenize, initialize=initialize, tune=3))
    lines = message.splitlines()
    assert len(lines) == 6 and "`lep explain retokenize`" in lines[4]
    assert lines[1] == f"  colect: no such room; rooms: {', '.join(ROOMS)}"
    assert any("retokenize.new_tokens: Input should be a valid integer" in line for line in lines)
    assert any("retokenize.colour: Extra inputs are not permitted; knobs: base, corpus" in line for line in lines)
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
    assert "retokenize" in refused(write(retokenize=RETOKENIZE | changes))


@pytest.mark.parametrize(
    ("rooms", "place"),
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
def test_references_that_lead_nowhere_are_named(write, rooms, place) -> None:
    message = refused(write(**rooms))
    assert f"{place} is a room that comes later" in message and "name an earlier room" in message


def test_two_sweeps_in_a_room_are_refused(write) -> None:
    message = refused(write(propagate=PROPAGATE | {"method": ["swap"], "ridge": [0, 1]}))
    assert "propagate: only one setting can have several values; these do: method, ridge" in message


@pytest.mark.parametrize("text", ["a: [1", "- a", "words", "", "\x00"])
def test_a_recipe_that_is_none_is_named(tmp_path, text) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert "bad.yaml" in refused(tmp_path / "bad.yaml")


def test_a_recipe_that_cannot_be_read_is_named(tmp_path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"out: \xff\xfe")
    assert "bad.yaml: cannot be read" in refused(tmp_path / "bad.yaml")
    assert "none.yaml: is not there" in refused(tmp_path / "none.yaml")


@pytest.mark.parametrize("override", ["collect", "=3", "collect.seed.x=1", "collect.seed=[1", "nowhere.x=1"])
def test_overrides_that_are_none_are_named(write, override) -> None:
    assert override.split("=")[0].split(".")[0] in refused(write(collect=SOURCES | {"seed": 0}), override)


def test_rooms_between_two_are_both_included(write) -> None:
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
        return [step.address for step in pipeline.between(steps, first=first, last=last)]

    swept = ["propagate/swap", "propagate/overlap"]
    assert names(None, None) == ["collect", "tune", *swept, "report"]
    assert names("tune", "propagate") == ["tune", *swept]
    assert names("propagate", "propagate") == swept
    assert names(None, "tune") == ["collect", "tune"]
    for first, last in [("evaluate", None), (None, "nowhere"), ("report", "collect")]:
        with pytest.raises(UsageError):
            names(first, last)


def test_inputs_that_nobody_makes_are_all_named_and_nothing_starts(write, tmp_path) -> None:
    steps = pipeline.load_recipe(write(collect=SOURCES, retokenize=RETOKENIZE))
    problems = pipeline.check(steps)
    assert len(problems) == 2
    assert problems[0].startswith("collect.sources.ru.files.0: ru.jsonl is not there")
    assert problems[1].startswith("retokenize.base: base is not there")
    with pytest.raises(UsageError, match="cannot start") as caught:
        pipeline.run(steps, replace=False, started=lambda _: pytest.fail("started"), ended=lambda *_: None)
    assert all(problem in str(caught.value) for problem in problems)
    assert not (tmp_path / "run").exists()


def test_one_room_from_words(tmp_path) -> None:
    (step,) = pipeline.room_steps(
        "retokenize", ["base=b", "corpus=c", "mixture={ru: 1}", "new_tokens=5", f"out={tmp_path}/x"]
    )
    assert (step.room, step.out) == ("retokenize", tmp_path / "x")
    with pytest.raises(UsageError, match="retokenize: out= is missing"):
        pipeline.room_steps("retokenize", ["base=b"])
    with pytest.raises(UsageError) as caught:
        pipeline.room_steps("retokenize", ["base=b", "out=x", "colour=red"])
    assert all(knob in str(caught.value) for knob in ("corpus", "colour"))
    with pytest.raises(UsageError, match="give one of vocabulary_size, new_tokens, symbols_per_token; found none"):
        pipeline.room_steps("retokenize", ["base=b", "corpus=c", "out=x"])


@pytest.mark.parametrize(
    ("instruct", "found"),
    [
        ({"chat": "a/model", "tools": "b/model"}, {"chat": "a/model", "tools": "b/model"}),
        (["a/chat", "b/tools"], {"chat": "a/chat", "tools": "b/tools"}),
        (["a/chat"], {"chat": "a/chat"}),
        ({"chat": "initialize", "own": "b"}, {"chat": "RUN/initialize", "own": "b"}),
    ],
)
def test_each_of_several_instruct_models_is_an_artifact(write, tmp_path, instruct, found) -> None:
    """Named by a mapping, or by the last part of their paths; a room's name still stands for its artifact."""
    rooms = {"initialize": {"base": "base", "tokenizer": "t"}, "propagate": PROPAGATE | {"instruct": instruct}}
    evaluate = {"models": {name: f"propagate/{name}" for name in found}, "corpus": "c"}
    _, *steps, last = pipeline.load_recipe(write(**rooms, evaluate=evaluate))
    places = {name: Path(path.replace("RUN", str(tmp_path / "run"))) for name, path in found.items()}
    assert {step.address: step.plan.inputs["instruct"] for step in steps} == {
        f"propagate/{name}": path for name, path in places.items()
    }
    assert {step.out for step in steps} == {last.plan.inputs[f"models.{name}"] for name in found}
    assert all(step.settings.model_dump()["method"] == "conversion" for step in steps)


def test_the_same_from_words(tmp_path) -> None:
    words = ["base=b", "adapted=a", f"out={tmp_path}"]
    for several in (["instruct={x: m/x, y: n}"], ["instruct.x=m/x", "instruct.y=n"]):
        steps = pipeline.room_steps("propagate", [*words, *several])
        assert {step.address: step.out for step in steps} == {
            f"propagate/{name}": tmp_path / name for name in ("x", "y")
        }
        assert [step.plan.inputs["instruct"] for step in steps] == [Path("m/x"), Path("n")]
    steps = pipeline.room_steps("propagate", [*words, "instruct=m/x", "method=[swap, overlap]"])
    assert [(step.out.name, step.settings.model_dump()["method"]) for step in steps] == [
        ("swap",) * 2,
        ("overlap",) * 2,
    ]
    (step,) = pipeline.room_steps("propagate", [*words, "instruct=[m/x]"])
    assert step.out == tmp_path / "x"


def test_two_values_of_one_name_are_refused(write) -> None:
    message = refused(write(propagate=PROPAGATE | {"instruct": ["a/model", "b/model"]}))
    assert "propagate.instruct: two values of one name; name them apart: {first: …, second: …}" in message
    with pytest.raises(UsageError, match="two values of one name"):
        pipeline.room_steps("propagate", ["base=b", "adapted=a", "instruct=[a/model, b/model]", "out=x"])


@pytest.mark.parametrize("instruct", [{}, []])
def test_no_value_is_refused(write, instruct) -> None:
    assert "propagate.instruct: no value" in refused(write(propagate=PROPAGATE | {"instruct": instruct}))


def test_two_sweeps_of_which_one_is_named_are_refused(write) -> None:
    message = refused(write(propagate=PROPAGATE | {"instruct": {"a": "b"}, "method": ["swap"]}))
    assert "only one setting can have several values; these do: instruct, method" in message


def test_a_group_of_settings_is_not_several_values(write) -> None:
    tables = {"embed": "e.weight", "head": "h.weight"}
    (step,) = pipeline.load_recipe(write(propagate=PROPAGATE | {"tables": tables}))
    assert (step.address, step.settings.model_dump()["tables"]) == ("propagate", tables)
    (step,) = pipeline.room_steps("initialize", ["base=b", "tokenizer=t", "out=x", "tables.embed=e", "tables.head=h"])
    assert (step.out, step.settings.model_dump()["tables"]) == (Path("x"), {"embed": "e", "head": "h"})
    assert "propagate.tables.colour" in refused(write(propagate=PROPAGATE | {"tables": tables | {"colour": "red"}}))


@pytest.mark.parametrize("name", ["..", "a/../..", ".", "", "/tmp/x"])
def test_a_name_that_leads_elsewhere_is_refused(write, name) -> None:
    assert "propagate.instruct" in refused(write(propagate=PROPAGATE | {"instruct": {name: "model", "b": "b"}}))


@pytest.mark.parametrize("changes", [{"ridge": float("inf")}, {"layers_scale": float("nan")}])
def test_what_is_no_number_is_refused(write, changes) -> None:
    """Else one is a traceback, the other a model whose layers are not finite."""
    assert f"propagate.{next(iter(changes))}" in refused(write(propagate=PROPAGATE | changes))


CHANGES: dict[str, Any] = {
    "method": "overlap",
    "ridge": 0.5,
    "weights": "uniform",
    "layers_scale": 0.5,
    "tables": {"embed": "a", "head": "b"},
    "link": "copy",
    "device": "cuda",
}


@pytest.mark.parametrize("knob", Propagate.model_fields)
def test_one_changed_knob_changes_the_fingerprint(tmp_path, knob) -> None:
    """An input counts by its contents: the same ones in another place are the same input."""
    files = {name: tmp_path / name for name in ("base", "adapted", "instruct", "corpus", "adapter_base", "other")}
    for name, file in files.items():
        file.write_text(name)
    settings: dict[str, Any] = {name: file for name, file in files.items() if name != "other"}
    settings |= {"weights": "frequency"}

    def plan(**changes: Any) -> Plan:
        return pipeline.Step("x", "propagate", Propagate(**settings | changes), tmp_path / "out").plan

    complete(plan(), lambda _: {})
    assert is_finished(plan())
    if knob in files:
        (tmp_path / "elsewhere").write_text(knob)
        assert is_finished(plan(**{knob: tmp_path / "elsewhere"}))
    change = {knob: files["other"] if knob in files else CHANGES[knob]}
    assert not is_finished(plan(**change | ({"corpus": None} if knob == "weights" else {})))
