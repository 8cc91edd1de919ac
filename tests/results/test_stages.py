"""The result of every stage survives the manifest's JSON, and a wrong one is refused by its field."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import pytest

from lep.errors import ArtifactError
from lep.registry import STAGES, parse_stage_result
from lep.results.advice import (
    AdviceResult,
    EmbeddingCost,
    LanguageCompression,
    ModelDimensions,
    SizeRecommendation,
    SizeTradeoff,
    TextCounts,
    VocabularyStatistics,
)
from lep.results.efficiency import ModelSideEffects, SideEffectResults
from lep.results.embeddings import InitializationResult, InitializationStats, ProjectionFit, PropagationResult
from lep.results.evaluation import EvaluationResult, ModelEvaluation, ScoreEstimate
from lep.results.report import PaperComparison, ReportResult, ScorePair
from lep.results.stages import (
    BeforeAfter,
    CalibrationResult,
    CollectedLanguage,
    CollectionResult,
    LossPoint,
    NewTokenCounts,
    PretrainingResult,
    RetokenizationResult,
    SegmentationExample,
    StageResult,
    TrainingSource,
    TuningResult,
    ValidationPoint,
    ValidationScore,
    VocabularyCheck,
    parse_evaluation_result,
)
from lep.results.statistics import Difference, FractionEstimate, MeasuredValue

COMPRESSION = {"ru": LanguageCompression(2.5, 4.5, 1.8)}
BASE_SIZE = SizeTradeoff(0, 500, COMPRESSION, 0.0, 1.0, 1.0, EmbeddingCost(0, 0, 0.0), 0.0, 0)
LARGER_SIZE = SizeTradeoff(1000, 1500, COMPRESSION, 0.3, 1.4, None, None, 0.98, None)
POINTS = (
    ValidationPoint(0, 0, {"ru": 1.5}, 1.5),
    ValidationPoint(9, 900, {"ru": 1.2}, 1.2, {"all": ValidationScore(0.5, 0.4, 0.6)}, new_token_loss={"ru": 3.0}),
)
RESULTS: tuple[StageResult, ...] = (
    CollectionResult({"ru": CollectedLanguage(10, 7, 1, 900, 100, {"too short": 2})}),
    AdviceResult(
        kind="extended",
        training_tokens=None,
        language_weights={"ru": 1.0},
        texts={"ru": TextCounts(900, 1700, 150)},
        model=ModelDimensions(32, True, 100_000, 512),
        points=(BASE_SIZE, LARGER_SIZE),
        recommendation=SizeRecommendation(1000, "sweep", 1000),
        explanation=("Extend it.",),
        statistics=VocabularyStatistics({"rare": 3}, 400, 0.99),
    ),
    RetokenizationResult(
        kind="extended",
        old_tokens=500,
        kept_tokens=500,
        new_tokens=60,
        vocab_size=560,
        characters_per_token={"ru": BeforeAfter(1.3, 2.6)},
        checks=(VocabularyCheck("round_trips", 10, 10, True),),
        examples=(SegmentationExample("да", ("д", "а"), ("да",)),),
    ),
    InitializationResult(500, 60, 3.5, 16, {"embed": InitializationStats(500, 60, 3.5, 1.0, 0.7)}),
    PretrainingResult(900, 120.0, 9, POINTS, (LossPoint(1, 3.0),), NewTokenCounts(60, 1, 5), {"ru": 1.5}, True, 0.4),
    TuningResult(
        examples=20,
        trained_tokens=800,
        losses=(LossPoint(1, 0.69, accuracy=0.5, margin=0.0),),
        sources={"data": TrainingSource(20, 800, 300, 1.0)},
        skipped={"data": {"empty answer": 1}},
    ),
    PropagationResult(
        "conversion", {"embed": ProjectionFit("conversion", 560, 32, 9.0, 0.4, norms_shared={"5%": 1.0})}
    ),
    CalibrationResult(examples=15, trained_tokens=700, answers=20, kept_answers=15, rejected={"cut": 5}),
    EvaluationResult(
        {"base": ModelEvaluation({"ru": 1.3}, {"ru": 1.5})},
        side_effects=SideEffectResults(
            {
                "base": ModelSideEffects(
                    {"en": MeasuredValue(1.0, (0.9, 1.1))}, {"code": FractionEstimate(0.5, (0.3, 0.7), 9)}
                )
            }
        ),
    ),
    ReportResult(
        1000,
        (
            PaperComparison(
                "ours", "row", "Table 3", (ScorePair("DaruMMLU", 0.4, ScoreEstimate(0.5, (0.4, 0.6)), True),), ("!",)
            ),
        ),
    ),
)


def test_every_stage_has_a_frozen_result_class() -> None:
    assert {type(result) for result in RESULTS} == {stage.result for stage in STAGES.values()}
    for stage in STAGES.values():
        assert is_dataclass(stage.result) and stage.result.__dataclass_params__.frozen


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_result_survives_json(result: StageResult) -> None:
    stage = next(name for name, stage in STAGES.items() if stage.result is type(result))
    assert parse_stage_result(json.loads(json.dumps(asdict(result))), stage=stage) == result


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_missing_field_is_named(result: StageResult) -> None:
    stage = next(name for name, stage in STAGES.items() if stage.result is type(result))
    name = fields(result)[0].name
    raw = {key: value for key, value in asdict(result).items() if key != name}
    with pytest.raises(
        ArtifactError, match=rf"^x/manifest.json: not {type(result).__name__} \(result.{name}: Field req"
    ):
        parse_stage_result(raw, stage=stage, path=Path("x/manifest.json"))


def test_many_problems_are_counted() -> None:
    message = r"result.kind: .*; result.vocab_size: .*; and 1 more\); run the stage again"
    with pytest.raises(ArtifactError, match=message):
        parse_stage_result({}, stage="retokenize")


def test_a_stage_of_another_version_has_no_result() -> None:
    assert parse_stage_result({"anything": 1}, stage="unheard") is None


def test_an_evaluation_has_at_least_one_model() -> None:
    with pytest.raises(ArtifactError, match="at least one model"):
        parse_evaluation_result({"models": {}})


def test_the_best_point_is_the_one_of_the_best_step() -> None:
    result = next(result for result in RESULTS if isinstance(result, PretrainingResult))
    assert result.best_point == POINTS[1]


def test_a_difference_needs_comparable_scores() -> None:
    estimate = ScoreEstimate(0.5, (0.4, 0.6))
    assert ScorePair("a", 0.4, estimate, True).difference == pytest.approx(0.1)
    assert ScorePair("a", 0.4, estimate, False).difference is None
    assert ScorePair("a", 0.4, None, True).difference is None
    assert ScorePair("a", 0.4, estimate, True).is_within_interval
    assert not ScorePair("a", 0.39, estimate, True).is_within_interval
    assert Difference(0.1).missing == ()
