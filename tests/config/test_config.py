"""Every knob is documented, frozen and strict, and every path of a room is an input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from lep import config
from lep.config import ROOMS, Evaluate, Settings, paths, with_paths

PARTS = {
    "benchmark": config.Benchmark,
    "source": config.Source,
    "tables": config.Tables,
    "conversations": config.Conversations,
    "copies": config.Copies,
    "endpoint": config.Endpoint,
    "tuning": config.Tuning,
}
MODELS: dict[str, type[Settings]] = {**ROOMS, **PARTS}
EVALUATE = Evaluate(models={"a": Path("x"), "b": Path("y")}, corpus=Path("c"), skills=Path("s"))


def knobs() -> Iterator[tuple[str, str]]:
    return ((room, name) for room, model in MODELS.items() for name in model.model_fields)


@pytest.mark.parametrize("room", MODELS)
def test_every_room_is_documented_in_a_sentence(room: str) -> None:
    words = MODELS[room].__doc__ or ""
    assert words.endswith(".") and "\n\n" not in words


@pytest.mark.parametrize(("room", "name"), knobs())
def test_every_knob_is_documented_in_a_sentence(room: str, name: str) -> None:
    words = MODELS[room].model_fields[name].description or ""
    assert len(words) >= 10 and words.rstrip("`").endswith((".", "}"))


def test_every_room_has_a_file_and_is_named_like_it() -> None:
    stages = Path(config.__file__).parents[1] / "stages"
    assert {file.stem for file in stages.glob("*.py")} - {"__init__"} == set(ROOMS)
    assert {name: model.__name__.lower() for name, model in ROOMS.items()} == {name: name for name in ROOMS}


def test_every_model_of_the_module_is_a_room_or_part_of_one() -> None:
    found = {v for v in vars(config).values() if isinstance(v, type) and issubclass(v, BaseModel)}
    assert found - {BaseModel, Settings} == set(MODELS.values())


def test_settings_are_frozen_and_strict_about_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EVALUATE.block = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Evaluate.model_validate({"models": {}, "corpus": "c", "colour": "red"})


def test_paths_are_found_and_changed_wherever_they_stand() -> None:
    assert paths(EVALUATE) == {
        k: Path(v) for k, v in {"models.a": "x", "models.b": "y", "corpus": "c", "skills": "s"}.items()
    }
    moved = with_paths(EVALUATE, lambda path: "root" / path)
    assert paths(moved) == {name: "root" / path for name, path in paths(EVALUATE).items()}
    assert moved.model_dump(exclude={"models", "corpus", "skills"}) == EVALUATE.model_dump(
        exclude={"models", "corpus", "skills"}
    )
    assert with_paths(EVALUATE, lambda path: path) == EVALUATE


def test_knobs_that_say_how_to_work_are_found_inside_others_too() -> None:
    endpoint = config.Endpoint(url="http://localhost/v1", model="m")
    calibrate = config.Calibrate(model=Path("m"), teacher=endpoint, prompts=Path("p"), judge=endpoint)
    assert {"parallel", "answer_batch", "teacher.url", "judge.requests"} <= config.free(calibrate)
    assert not {"lr", "teacher", "teacher.model"} & config.free(calibrate)
    benchmark = config.Benchmark(endpoints={"served": endpoint})
    found = config.free(Evaluate(models={}, benchmark=benchmark))
    assert {"benchmark.batch_size", "benchmark.endpoints.served.url"} <= found
    assert not {"benchmark.seed", "benchmark.endpoints.served.model"} & found


def test_the_model_that_others_are_compared_with_is_written_down() -> None:
    """An artifact's settings are written with sorted keys: the order of its models is lost there."""
    turned = Evaluate(models={"b": Path("y"), "a": Path("x")}, corpus=Path("c"), skills=Path("s"))
    assert (EVALUATE.reference, turned.reference) == ("a", "b")
    assert Evaluate(models={"a": Path("x"), "b": Path("y")}, corpus=Path("c"), reference="b").reference == "b"


def test_settings_survive_json() -> None:
    assert Evaluate.model_validate_json(EVALUATE.model_dump_json()) == EVALUATE


@pytest.mark.parametrize(
    "change", [{"block": 2}, {"block": 0}, {"lr": 0}, {"betas": (0.9, 1.5)}, {"mixture": {"ru": 0}}]
)
def test_numbers_that_no_training_can_use_are_refused(change: dict[str, object]) -> None:
    values = {"model": "m", "corpus": "c", "mixture": {"ru": 1}, "tokens": 10**8}
    assert config.Pretrain.model_validate(values).block == 1024
    with pytest.raises(ValidationError):
        config.Pretrain.model_validate(values | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parallel": "fsdp2", "benchmark": {}}, "parallel=fsdp2 divides it"),
        ({"benchmark": {"engine": "vllm"}}, "the model that learns is asked"),
        ({"benchmark": {"endpoints": {"x": {"url": "http://x/v1", "model": "m"}}}}, "the model that learns is asked"),
    ],
)
def test_a_benchmark_that_no_training_can_ask_is_refused(change: dict[str, object], words: str) -> None:
    values = {"model": "m", "corpus": "c", "mixture": {"ru": 1}, "tokens": 10**8}
    with pytest.raises(ValidationError, match=words):
        config.Pretrain.model_validate(values | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "dpo", "packing": True}, "packing, copies, skills and minimum are for method=sft"),
        (
            {"method": "kto", "data": {"a": {"files": ["x"], "minimum": {"score": 8}}}},
            "are for method=sft, not for kto",
        ),
        ({"method": "kto", "micro_batch_size": 1}, "give micro_batch_size=2 or more"),
        ({"data": {"a": {"dataset": "owner/name", "files": ["x"]}}}, "give either files or dataset"),
    ],
)
def test_ways_of_tuning_that_exclude_one_another_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config.Tune.model_validate({"model": "m", "data": "d"} | change)


def test_data_of_several_sources_are_inputs() -> None:
    data = {"a": "x.jsonl", "b": {"files": ["y"], "minimum": {"score": 8}}, "c": {"dataset": "owner/name"}}
    copies = {"corpus": "c", "count": 3}
    found = paths(config.Tune.model_validate({"model": "m", "data": data, "copies": copies}))
    assert {k: str(v) for k, v in found.items()} == {
        "model": "m",
        "data.a": "x.jsonl",
        "data.b.files.0": "y",
        "copies.corpus": "c",
    }
