"""From turns and tokens to what is told of the efficiency of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lep.core.metrics import median_interval
from lep.evaluation.bootstrap import with_interval
from lep.evaluation.efficiency.compression import Density

Turns = dict[str, dict[str, Any]]
"""By model: `footprint`, and `rates`, one for each round (the fields of `Footprint` and of `Rates`)."""

_KINDS = ("reading", "writing")
_CHARACTERS = 1000
"""The text whose cache is told."""


def ledger(taken: Mapping[str, Turns], dense: Mapping[str, Mapping[str, Density]], *, reference: str) -> dict[str, Any]:
    """The numbers of each model (`models`), and those of the others over the reference's (`ratios`).

    Rates are medians over rounds with the interval of `median_interval`, the reference's over the rounds of all pairs.
    A ratio of rates is the median of the ratios of the rounds. Symbols and bytes per token are bootstrapped over
    documents, and so is their ratio, on the same draws.

    Args:
        taken: the turns of the reference and another model, by the other; of the reference alone where there is none.
        dense: densities by model and text.
    """
    own = {name: _join([turns[name] for turns in taken.values() if name in turns]) for name in dense}
    models = {name: _model(own[name], texts) for name, texts in dense.items()}
    ratios = {
        name: {"against": reference, **_ratios(turns, dense, models, pair=(name, reference))}
        for name, turns in taken.items()
        if name != reference
    }
    return {"models": models, "ratios": ratios}


def _join(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"footprint": found[0]["footprint"], "rates": [rate for turns in found for rate in turns["rates"]]}


def _model(own: Mapping[str, Any], texts: Mapping[str, Density]) -> dict[str, Any]:
    footprint, rates = own["footprint"], own["rates"]
    speeds = {kind: [rate[kind] for rate in rates] for kind in _KINDS}
    peaks = [rate["peak"] for rate in rates if rate["peak"] is not None]
    return {
        "tokens_per_second": {kind: _median(values, "value") for kind, values in speeds.items()},
        "memory": {
            "weights": footprint["weights"],
            "cache_per_token": footprint["cache_per_token"],
            "cache_fixed": footprint["cache_fixed"],
            "peak": max(peaks, default=None),
        },
        "context": {"tokens": footprint["positions"], "sliding_window": footprint["window"]},
        "texts": {text: _text(density, speeds, footprint) for text, density in texts.items()},
    }


def _text(density: Density, speeds: Mapping[str, Sequence[float]], footprint: Mapping[str, Any]) -> dict[str, Any]:
    symbols = density.symbols_per_token.value
    per_token, positions = footprint["cache_per_token"], footprint["positions"]
    return {
        "symbols_per_token": with_interval(density.symbols_per_token, "value"),
        "bytes_per_token": with_interval(density.bytes_per_token, "value"),
        **{kind: _median([symbols * value for value in values], "value") for kind, values in speeds.items()},
        "cache_per_1000_characters": None if per_token is None else per_token * _CHARACTERS / symbols,
        "context_characters": None if positions is None else positions * symbols,
    }


def _ratios(
    turns: Turns,
    dense: Mapping[str, Mapping[str, Density]],
    models: Mapping[str, Mapping[str, Any]],
    *,
    pair: tuple[str, str],
) -> dict[str, Any]:
    """The first of a pair over the second."""
    a, b = pair
    rounds = list(zip(turns[a]["rates"], turns[b]["rates"], strict=True))
    paired = {kind: [x[kind] / y[kind] for x, y in rounds] for kind in _KINDS}
    return {
        "tokens_per_second": {kind: _median(values, "ratio") for kind, values in paired.items()},
        "weights": {"ratio": models[a]["memory"]["weights"] / models[b]["memory"]["weights"]},
        "texts": {
            text: _text_ratios(density, dense[b][text], paired, [models[name]["texts"][text] for name in pair])
            for text, density in dense[a].items()
        },
    }


def _text_ratios(
    a: Density, b: Density, paired: Mapping[str, Sequence[float]], told: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    symbols = a.symbols_per_token / b.symbols_per_token
    plain = {
        key: {"ratio": told[0][key] / told[1][key]} if told[0][key] and told[1][key] else None
        for key in ("cache_per_1000_characters", "context_characters")
    }
    return {
        "symbols_per_token": with_interval(symbols, "ratio"),
        **{kind: _median([symbols.value * value for value in values], "ratio") for kind, values in paired.items()},
        **plain,
    }


def _median(values: Sequence[float], key: str) -> dict[str, Any]:
    return {key: median(values), "interval": list(median_interval(values))}
