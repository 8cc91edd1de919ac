"""The result against its reference, measure by measure, with an honest word for each: better, worse, the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lep.reporting import rounding
from lep.reporting.cells import verdict
from lep.reporting.evaluated import Model
from lep.reporting.facts import Facts

LANGUAGES = {
    "ar": "Arabic",
    "az": "Azerbaijani",
    "be": "Belarusian",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "kk": "Kazakh",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "zh": "Chinese",
}


@dataclass(frozen=True)
class Comparison:
    """One measure of the result and of its reference."""

    measure: str
    result: str
    reference: str
    """Empty: there is nothing to compare with."""
    ratio: str
    phrase: str
    """The clause of the summary, without the verdict."""
    verdict: str
    """better · worse · the same; empty without a reference."""
    clear: bool = True
    """Whether the difference is larger than the interval."""

    @property
    def words(self) -> str:
        """The verdict with its doubt."""
        return self.verdict if self.clear else f"{self.verdict}, within the interval"

    @property
    def tone(self) -> str:
        """How to colour it: better, worse or neutral."""
        return self.verdict if self.clear and self.verdict in ("better", "worse") else "neutral"


def language_name(code: str) -> str:
    """English name of a language, or its code."""
    return LANGUAGES.get(code, code)


def headline(facts: Facts) -> tuple[Comparison, ...]:
    """What to say first about the result: density, speed, prediction, skills."""
    models = facts.evaluation.models
    result = models[facts.result]
    reference = None if facts.result == facts.reference else models[facts.reference]
    others = [language for language in facts.evaluation.languages() if language != facts.language]
    found = [
        _density(result, reference, facts),
        _speed(result, reference, facts),
        *(_prediction(result, reference, language) for language in (facts.language, *others)),
        _skills(result, reference),
        _benchmark(facts),
    ]
    return tuple(item for item in found if item is not None)


def _density(result: Model, reference: Model | None, facts: Facts) -> Comparison | None:
    language = facts.language
    name = language_name(language)
    mine = result.symbols_per_token.get(language)
    theirs = reference.symbols_per_token.get(language) if reference else None
    times = rounding.ratio(mine, theirs)
    phrase = f"{times} the symbols per token of {facts.reference} in {name}"
    return _compare(f"symbols per token, {name}", (mine, theirs), rounding.symbols_per_token, phrase=phrase)


def _speed(result: Model, reference: Model | None, facts: Facts) -> Comparison | None:
    """By the ratio that was measured in turn, where there is one: it says what is noise, too."""
    mine = result.speed.characters_per_second if result.speed else None
    theirs = reference.speed.characters_per_second if reference and reference.speed else None
    paired = facts.evaluation.times_as_fast(facts.result, against=facts.reference)
    ratio = rounding.ratio(paired.ratio, 1) if paired else rounding.ratio(mine, theirs)
    found = _compare(
        "characters per second",
        (mine, theirs),
        rounding.speed,
        phrase=f"{ratio} its characters per second",
        clear=paired is None or verdict(paired) != "noise",
    )
    return replace(found, ratio=ratio) if found and found.ratio else found


def _prediction(result: Model, reference: Model | None, language: str) -> Comparison | None:
    mine = result.bits_per_byte.get(language)
    theirs = reference.bits_per_byte.get(language) if reference else None
    shown = f"{rounding.bits_per_byte(mine)} against {rounding.bits_per_byte(theirs)}"
    phrase = f"bits per byte in {language_name(language)} {shown}"
    title = f"bits per byte, {language_name(language)}"
    return _compare(title, (mine, theirs), rounding.bits_per_byte, phrase=phrase, higher=False)


def _skills(result: Model, reference: Model | None) -> Comparison | None:
    mine = (result.skills or {}).get("all")
    theirs = (reference.skills or {}).get("all") if reference else None
    if mine is None:
        return None
    shares = (mine.accuracy, theirs.accuracy if theirs else None)
    phrase = f"{rounding.percent(shares[0])} of skill items right against {rounding.percent(shares[1])}"
    doubt = theirs is not None and (
        theirs.low <= mine.accuracy <= theirs.high or mine.low <= theirs.accuracy <= mine.high
    )
    return _compare("skill items right", shares, rounding.percent, phrase=phrase, clear=not doubt)


def _benchmark(facts: Facts) -> Comparison | None:
    """The Micro-Avg, where no task is missing; what is noise is told by the paired difference, where there is one."""
    found = facts.evaluation.benchmark
    if found is None or facts.result not in found.models:
        return None
    pair = [found.models[name].micro if name in found.models else None for name in (facts.result, facts.reference)]
    mine, theirs = (None if one is None or one.missing else one for one in pair)
    if mine is None:
        return None
    changes = found.differences.get(facts.result)
    if changes and changes.micro and changes.against == facts.reference:
        clear = verdict(changes.micro) != "noise"
    else:
        clear = theirs is None or mine.interval[0] > theirs.interval[1] or mine.interval[1] < theirs.interval[0]
    return _compare(
        "Darumeru",
        (mine.score, None if theirs is None or facts.result == facts.reference else theirs.score),
        rounding.score,
        phrase=f"Darumeru {rounding.score(mine.score)} against {rounding.score(theirs.score if theirs else None)}",
        clear=clear,
    )


def _compare(
    measure: str,
    pair: tuple[float | None, float | None],
    show: Callable[[float | None], str],
    *,
    phrase: str,
    higher: bool = True,
    clear: bool = True,
) -> Comparison | None:
    """Numbers that are equal as shown are the same: no verdict on digits that nobody sees."""
    mine, theirs = pair
    if mine is None:
        return None
    if theirs is None:
        return Comparison(measure, show(mine), "", "", f"{measure} {show(mine)}", "")
    same = show(mine) == show(theirs)
    verdict = "the same" if same else "better" if (mine > theirs) == higher else "worse"
    return Comparison(measure, show(mine), show(theirs), rounding.ratio(mine, theirs), phrase, verdict, same or clear)
