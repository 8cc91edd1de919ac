"""The result against its reference, measure by measure, with an honest word for each: better, worse, the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lep.reporting import formatting as rounding
from lep.reporting.i18n import in_language, language_name, say
from lep.reporting.run_data import Facts
from lep.reporting.tables.cells import told, verdict
from lep.results.evaluation import Model


@dataclass(frozen=True)
class Comparison:
    """One measure of the result and of its reference."""

    measure: str
    result: str
    reference: str
    """Empty: there is nothing to compare with."""
    ratio: str
    """Of the two, or the change in per cent where less is better."""
    phrase: str
    """The clause of the summary, without the verdict."""
    verdict: str
    """better · worse · the same; empty without a reference."""
    clear: bool = True
    """Whether the difference is larger than the interval."""
    gain: float | None = None
    """How many times as good as the reference: above 1 is better, whatever the measure."""

    @property
    def words(self) -> str:
        """The verdict with its doubt."""
        return told(self.verdict) if self.clear else say("{verdict}, within the interval", verdict=told(self.verdict))

    @property
    def tone(self) -> str:
        """How to colour it: better, worse or neutral."""
        return self.verdict if self.clear and self.verdict in ("better", "worse") else "neutral"


@dataclass(frozen=True)
class Balance:
    """One side of the summary: what was gained, what was paid, what did not clearly change."""

    tone: str
    label: str
    phrases: tuple[str, ...]


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


def balance(found: Sequence[Comparison]) -> tuple[Balance, ...]:
    """The comparisons as a sentence: what was gained and what it cost."""
    sides = {
        "better": say("Gained"),
        "worse": say("Paid"),
        "neutral": say("No clear difference"),
        "": say("Measured"),
    }
    by_side = {
        side: tuple(item.phrase for item in found if (item.tone if item.verdict else "") == side) for side in sides
    }
    return tuple(Balance(side, label, by_side[side]) for side, label in sides.items() if by_side[side])


def _density(result: Model, reference: Model | None, facts: Facts) -> Comparison | None:
    language = facts.language
    mine = result.symbols_per_token.get(language)
    theirs = reference.symbols_per_token.get(language) if reference else None
    return _compare(
        say("symbols per token, {language}", language=language_name(language)),
        (mine, theirs),
        rounding.symbols_per_token,
        phrase=say(
            "{times} the text per token {in_language}",
            times=rounding.ratio(mine, theirs),
            in_language=in_language(language),
        ),
    )


def _speed(result: Model, reference: Model | None, facts: Facts) -> Comparison | None:
    """By the ratio that was measured in turn, where there is one: it says what is noise, too."""
    mine = result.speed.characters_per_second if result.speed else None
    theirs = reference.speed.characters_per_second if reference and reference.speed else None
    paired = facts.evaluation.times_as_fast(facts.result, against=facts.reference)
    ratio = rounding.ratio(paired.ratio, 1) if paired else rounding.ratio(mine, theirs)
    found = _compare(
        say("characters per second"),
        (mine, theirs),
        rounding.speed,
        phrase=say("{times} the speed of writing", times=ratio),
        clear=paired is None or verdict(paired) != "noise",
    )
    return replace(found, ratio=ratio, gain=paired.ratio if paired else found.gain) if found and found.ratio else found


def _prediction(result: Model, reference: Model | None, language: str) -> Comparison | None:
    mine = result.bits_per_byte.get(language)
    theirs = reference.bits_per_byte.get(language) if reference else None
    found = _compare(
        say("bits per byte, {language}", language=language_name(language)),
        (mine, theirs),
        rounding.bits_per_byte,
        phrase=_fewer_bits(mine, theirs, language),
        higher=False,
    )
    if found is None or mine is None or not theirs:
        return found
    return replace(found, ratio=rounding.signed(mine / theirs - 1, rounding.percent))


def _fewer_bits(mine: float | None, theirs: float | None, language: str) -> str:
    if mine is None or not theirs:
        return ""
    change, where = rounding.percent(abs(mine / theirs - 1)), in_language(language)
    if rounding.bits_per_byte(mine) == rounding.bits_per_byte(theirs):
        return say("text {in_language} predicted as well", in_language=where)
    if mine < theirs:
        return say("text {in_language} predicted better ({change} fewer bits)", change=change, in_language=where)
    return say("text {in_language} predicted worse ({change} more bits)", change=change, in_language=where)


def _skills(result: Model, reference: Model | None) -> Comparison | None:
    mine = (result.skills or {}).get("all")
    theirs = (reference.skills or {}).get("all") if reference else None
    if mine is None:
        return None
    shares = (mine.accuracy, theirs.accuracy if theirs else None)
    phrase = say(
        "{mine} of skill items right against {theirs}",
        mine=rounding.percent(shares[0]),
        theirs=rounding.percent(shares[1]),
    )
    doubt = theirs is not None and (
        theirs.low <= mine.accuracy <= theirs.high or mine.low <= theirs.accuracy <= mine.high
    )
    return _compare(say("skill items right"), shares, rounding.percent, phrase=phrase, clear=not doubt)


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
    scores = (mine.score, None if theirs is None or facts.result == facts.reference else theirs.score)
    shown = {"mine": rounding.score(scores[0]), "theirs": rounding.score(scores[1])}
    return _compare(
        "Darumeru", scores, rounding.score, phrase=say("Darumeru {mine} against {theirs}", **shown), clear=clear
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
    gain = (mine / theirs if higher else theirs / mine) if mine > 0 and theirs > 0 else None
    ratio = rounding.ratio(mine, theirs)
    return Comparison(measure, show(mine), show(theirs), ratio, phrase, verdict, same or clear, gain)
