"""Every setting is documented, frozen and strict, and every path of a stage is an input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from lep import config
from lep.config import EvaluateSettings, Settings, get_input_paths, map_paths
from lep.registry import STAGES

PARTS = {
    "benchmark": config.BenchmarkSettings,
    "corpus_source": config.CorpusSource,
    "embedding_names": config.EmbeddingNamesSettings,
    "conversation_source": config.ConversationSource,
    "copy_tasks": config.CopyTaskSettings,
    "endpoint": config.Endpoint,
    "finetuning": config.FinetuningSettings,
}
MODELS: dict[str, type[Settings]] = {**{name: stage.settings for name, stage in STAGES.items()}, **PARTS}
EVALUATE = EvaluateSettings(models={"a": Path("x"), "b": Path("y")}, corpus=Path("c"), skills=Path("s"))


def list_settings() -> Iterator[tuple[str, str]]:
    return ((stage, name) for stage, model in MODELS.items() for name in model.model_fields)


@pytest.mark.parametrize("stage", MODELS)
def test_every_stage_is_documented_in_a_sentence(stage: str) -> None:
    description = MODELS[stage].__doc__ or ""
    assert description.endswith(".") and "\n\n" not in description


@pytest.mark.parametrize(("stage", "name"), list_settings())
def test_every_setting_is_documented_in_a_sentence(stage: str, name: str) -> None:
    description = MODELS[stage].model_fields[name].description or ""
    assert len(description) >= 10 and description.rstrip("`").endswith((".", "}"))


def test_every_stage_has_a_file_of_settings_named_like_it() -> None:
    stages = Path(config.__file__).parents[1] / "stages"
    assert {file.stem for file in stages.glob("*.py")} >= set(STAGES)
    for name, stage in STAGES.items():
        assert stage.settings.__name__ == f"{name.capitalize()}Settings"
        assert stage.settings.__module__ == f"lep.config.{name}"


def test_every_settings_class_is_of_a_stage_or_part_of_one() -> None:
    classes = {v for v in vars(config).values() if isinstance(v, type) and issubclass(v, BaseModel)}
    assert classes - {BaseModel, Settings} == set(MODELS.values())


def test_settings_are_frozen_and_strict_about_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EVALUATE.sequence_length = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        EvaluateSettings.model_validate({"models": {}, "corpus": "c", "color": "red"})


def test_nested_paths_are_found_and_mapped() -> None:
    assert get_input_paths(EVALUATE) == {
        k: Path(v) for k, v in {"models.a": "x", "models.b": "y", "corpus": "c", "skills": "s"}.items()
    }
    moved = map_paths(EVALUATE, lambda path: "root" / path)
    assert get_input_paths(moved) == {name: "root" / path for name, path in get_input_paths(EVALUATE).items()}
    inputs = {"models", "corpus", "skills"}
    assert moved.model_dump(exclude=inputs) == EVALUATE.model_dump(exclude=inputs)
    assert map_paths(EVALUATE, lambda path: path) == EVALUATE


def test_runtime_only_settings_are_found_inside_others_too() -> None:
    endpoint = config.Endpoint(base_url="http://localhost/v1", model="m")
    calibrate = config.CalibrateSettings(model=Path("m"), teacher=endpoint, prompts=Path("p"), judge=endpoint)
    names = config.runtime_only_fields(calibrate)
    assert {"parallel", "generation_batch_size", "teacher.base_url", "judge.max_concurrent_requests"} <= names
    assert not {"learning_rate", "teacher", "teacher.model"} & names
    benchmark = config.BenchmarkSettings(endpoints={"served": endpoint})
    names = config.runtime_only_fields(EvaluateSettings(models={}, benchmark=benchmark))
    assert {"benchmark.batch_size", "benchmark.endpoints.served.base_url"} <= names
    assert not {"benchmark.seed", "benchmark.endpoints.served.model"} & names


def test_the_reference_model_is_written_down() -> None:
    """An artifact's settings are written with sorted keys: the order of its models is lost there."""
    reversed_models = EvaluateSettings(models={"b": Path("y"), "a": Path("x")}, corpus=Path("c"), skills=Path("s"))
    assert (EVALUATE.reference, reversed_models.reference) == ("a", "b")
    assert EvaluateSettings(models={"a": Path("x"), "b": Path("y")}, corpus=Path("c"), reference="b").reference == "b"


def test_settings_survive_json() -> None:
    assert EvaluateSettings.model_validate_json(EVALUATE.model_dump_json()) == EVALUATE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "there is no model to measure"),
        ({"models": {}, "efficiency": {"language": "ru"}}, "need models that are folders"),
        ({"corpus": None}, "there is nothing to measure"),
        ({"reference": "z"}, "reference: z is not among the models: a"),
        ({"benchmark": {"base_models": ["z"]}}, r"benchmark\.base_models: z is not among models: a"),
        (
            {"benchmark": {"endpoints": {"a": {"base_url": "http://x/v1", "model": "m"}}}},
            r"benchmark\.endpoints: a is also the name of a model",
        ),
    ],
)
def test_an_evaluation_of_nothing_is_refused(change: dict[str, object], message: str) -> None:
    values = {"models": {"a": "x"}, "corpus": "c"}
    assert EvaluateSettings.model_validate(values).reference == "a"
    with pytest.raises(ValidationError, match=message):
        EvaluateSettings.model_validate(values | change)


PRETRAIN = {"model": "m", "corpus": "c", "mixture": {"ru": 1}, "tokens": 10**8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence_length": 2}, "greater than or equal to 3"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"betas": (0.9, 1.5)}, "less than 1"),
        ({"mixture": {"ru": 0}}, "greater than 0"),
        ({"mixture": {}}, "at least 1 item"),
        ({"tokens": 1000}, "less than one step of sequence_length × batch_size = 262,144 tokens"),
        ({"warmup_steps": 381}, "learning_rate would never be reached.* are 381 steps"),
        ({"trainable": "new_tokens", "old_token_learning_rate": 1e-4}, "trainable=new_tokens freezes them"),
        ({"layer_learning_rate": 1e-4}, "trainable=embeddings trains none"),
    ],
)
def test_numbers_that_no_training_can_use_are_refused(change: dict[str, object], message: str) -> None:
    assert config.PretrainSettings.model_validate(PRETRAIN).sequence_length == 1024
    with pytest.raises(ValidationError, match=message):
        config.PretrainSettings.model_validate(PRETRAIN | change)


def test_the_last_step_of_the_warm_up_may_be_the_last_but_one() -> None:
    assert config.PretrainSettings.model_validate(PRETRAIN | {"warmup_steps": 380}).steps == 381


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parallel": "fsdp2", "benchmark": {}}, "parallel=fsdp2 shards it"),
        ({"benchmark": {"backend": "vllm"}}, "the model in training is measured"),
        (
            {"benchmark": {"endpoints": {"x": {"base_url": "http://x/v1", "model": "m"}}}},
            "the model in training is measured",
        ),
    ],
)
def test_a_benchmark_that_training_cannot_run_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config.PretrainSettings.model_validate(PRETRAIN | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "dpo", "packing": True}, "packing, copy_tasks, heldout_items and min_scores are for method=sft"),
        (
            {"method": "kto", "data": {"a": {"files": ["x"], "min_scores": {"score": 8}}}},
            "are for method=sft, not for kto",
        ),
        ({"method": "kto", "micro_batch_size": 1}, "give micro_batch_size=2 or more"),
        ({"data": {"a": {"dataset": "owner/name", "files": ["x"]}}}, "give either files or dataset"),
    ],
)
def test_incompatible_tuning_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config.TuneSettings.model_validate({"model": "m", "data": "d"} | change)


def test_data_of_several_sources_are_inputs() -> None:
    data = {"a": "x.jsonl", "b": {"files": ["y"], "min_scores": {"score": 8}}, "c": {"dataset": "owner/name"}}
    values = {"model": "m", "data": data, "copy_tasks": {"corpus": "c", "count": 3}}
    paths = get_input_paths(config.TuneSettings.model_validate(values))
    assert {name: str(path) for name, path in paths.items()} == {
        "model": "m",
        "data.a": "x.jsonl",
        "data.b.files.0": "y",
        "copy_tasks.corpus": "c",
    }
