"""Evaluate models on held-out text, items and a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lep.config import EvaluateSettings
from lep.data.eval_items import read_eval_items
from lep.evaluation.bits_per_byte import measure_texts
from lep.evaluation.continuations import (
    ContinuationPrompt,
    build_continuation_prompts,
    compare_continuations,
    generate_continuations,
)
from lep.evaluation.efficiency.measure import measure_efficiency
from lep.evaluation.saved_measurements import load_or_measure
from lep.evaluation.side_effects.measure import SideEffectMeasurements, compare_side_effects, measure_side_effects
from lep.evaluation.side_effects.wrong_script import (
    FractionByScript,
    compute_wrong_script_by_source,
    pair_with_answers,
    read_benchmark_answers,
)
from lep.evaluation.skills import answer_items, compare_answers, compute_skill_accuracy, expected_answer
from lep.evaluation.texts import DocumentsByName, EvaluationTexts, read_texts
from lep.modeling.loading import load_model, load_tokenizer
from lep.progress import log_message
from lep.results.efficiency import EfficiencyResults
from lep.results.evaluation import (
    BenchmarkResults,
    EvaluationResult,
    GeneratedText,
    GenerationSpeed,
    ModelEvaluation,
)


@dataclass(frozen=True)
class _EvaluationInputs:
    """What all models are evaluated on."""

    texts: EvaluationTexts
    items: Sequence[Mapping[str, Any]]
    continuation_prompts: Sequence[ContinuationPrompt]


@dataclass(frozen=True)
class _ModelMeasurements:
    """Results on held-out text, items and continuation prompts, with everything that the model generated."""

    evaluation: ModelEvaluation
    answers: tuple[GeneratedText, ...] = ()
    continuations: tuple[GeneratedText, ...] = ()


def run(settings: EvaluateSettings, out: Path) -> EvaluationResult:
    """Run all measurements; files in `out` keep each as soon as it is finished."""
    run_benchmark = _prepare_benchmark(settings, out)
    inputs = _read_inputs(settings)
    measurements = _evaluate_models(settings, inputs, out)
    efficiency = _measure_efficiency(settings, inputs.texts.all, out)
    side_effects = _measure_side_effects(settings, inputs.texts.side_effects, out)
    benchmark = run_benchmark()
    speeds = _summarize_speeds(efficiency)
    return EvaluationResult(
        models={name: replace(model.evaluation, speed=speeds.get(name)) for name, model in measurements.items()},
        answers=compare_answers(inputs.items, {name: model.answers for name, model in measurements.items()}),
        continuations=compare_continuations(
            inputs.continuation_prompts, {name: model.continuations for name, model in measurements.items()}
        ),
        benchmark=benchmark,
        efficiency=efficiency,
        side_effects=compare_side_effects(
            side_effects,
            inputs.texts.side_effects,
            reference=_choose_reference(settings),
            wrong_script={
                name: _compute_wrong_script(model, inputs, out / "benchmark" / name)
                for name, model in measurements.items()
            },
        )
        if settings.side_effects
        else None,
    )


def _read_inputs(settings: EvaluateSettings) -> _EvaluationInputs:
    texts = read_texts(
        settings.corpus,
        side_effects=settings.side_effects,
        efficiency=settings.efficiency,
        max_characters=settings.heldout_characters,
    )
    items = read_eval_items(settings.skills, required_keys=("skill",)) if settings.skills else []
    prompts = build_continuation_prompts(
        texts.heldout | texts.side_effects, prompts_per_language=settings.num_continuations or 0
    )
    return _EvaluationInputs(texts, items, prompts)


def _evaluate_models(settings: EvaluateSettings, inputs: _EvaluationInputs, out: Path) -> dict[str, _ModelMeasurements]:
    """Evaluate model by model; `out/models/NAME.json` keeps everything that a model generated."""
    if not inputs.texts.heldout and not inputs.items and not inputs.continuation_prompts:
        return {name: _ModelMeasurements(ModelEvaluation({}, {})) for name in settings.models}
    return {
        name: load_or_measure(
            out / "models" / f"{name}.json",
            _ModelMeasurements,
            partial(_evaluate_model, path, name, inputs, settings),
        )
        for name, path in settings.models.items()
    }


def _evaluate_model(path: Path, name: str, inputs: _EvaluationInputs, settings: EvaluateSettings) -> _ModelMeasurements:
    model, tokenizer = load_model(path, dtype=settings.dtype), load_tokenizer(path)
    evaluation = measure_texts(
        model, tokenizer, inputs.texts.heldout, model_name=name, sequence_length=settings.sequence_length
    )
    answers = answer_items(model, tokenizer, inputs.items) if inputs.items else []
    skills = compute_skill_accuracy(inputs.items, answers) if inputs.items else None
    summary = [f"bits per byte, {language} {value:.4f}" for language, value in evaluation.bits_per_byte.items()]
    summary += [f"skills {skills['all'].accuracy:.3f}"] if skills else []
    log_message(f"{name}: {'; '.join(summary)}")
    continuations = generate_continuations(model, tokenizer, inputs.continuation_prompts)
    return _ModelMeasurements(replace(evaluation, skills=skills), tuple(answers), tuple(continuations))


def _prepare_benchmark(settings: EvaluateSettings, out: Path) -> Callable[[], BenchmarkResults | None]:
    """Check at once how the models can be prompted, and return what runs Darumeru in `out/benchmark`."""
    if not settings.benchmark:
        return lambda: None
    from lep.evaluation.darumeru.runner import build_benchmark_models, run_benchmark

    models = build_benchmark_models(settings.benchmark, settings.models)
    reference = settings.reference or models[0].name
    return partial(
        run_benchmark, settings.benchmark, models, reference=reference, dtype=settings.dtype, out=out / "benchmark"
    )


def _measure_efficiency(settings: EvaluateSettings, texts: DocumentsByName, out: Path) -> EfficiencyResults | None:
    """Measure speed and memory pair by pair; `out/efficiency/NAME.json` keeps every round."""
    if not settings.efficiency:
        return None
    return measure_efficiency(
        settings.efficiency,
        settings.models,
        texts,
        reference=_choose_reference(settings),
        dtype=settings.dtype,
        out=out / "efficiency",
    )


def _summarize_speeds(efficiency: EfficiencyResults | None) -> dict[str, GenerationSpeed]:
    """Return how fast each model generates text in the language of the measurement."""
    if not efficiency:
        return {}
    return {
        name: GenerationSpeed(
            tokens_per_second=model.tokens_per_second.decode.value,
            characters_per_second=model.texts[efficiency.settings.language].decode.value,
        )
        for name, model in efficiency.models.items()
    }


def _measure_side_effects(
    settings: EvaluateSettings, texts: DocumentsByName, out: Path
) -> dict[str, SideEffectMeasurements]:
    """Measure other languages and probes; `out/side_effects/NAME.json` keeps every document and item."""
    if not settings.side_effects:
        return {}

    def measure(name: str, path: Path) -> SideEffectMeasurements:
        model = load_model(path, dtype=settings.dtype)
        return measure_side_effects(model, load_tokenizer(path), texts, model_name=name)

    return {
        name: load_or_measure(
            out / "side_effects" / f"{name}.json", SideEffectMeasurements, partial(measure, name, path)
        )
        for name, path in settings.models.items()
    }


def _compute_wrong_script(
    measurements: _ModelMeasurements, inputs: _EvaluationInputs, benchmark_folder: Path
) -> dict[str, FractionByScript]:
    prompts = (item.prompt for item in inputs.continuation_prompts)
    return compute_wrong_script_by_source(
        {
            "skills": pair_with_answers(map(expected_answer, inputs.items), measurements.answers),
            "continuations": pair_with_answers(prompts, measurements.continuations),
            "benchmark": read_benchmark_answers(benchmark_folder),
        }
    )


def _choose_reference(settings: EvaluateSettings) -> str:
    """Return a model that is a folder; of an endpoint, neither log-probabilities nor memory can be measured."""
    reference = settings.reference
    return reference if reference in settings.models else next(iter(settings.models))
