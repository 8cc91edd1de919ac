"""Charts of measures with their intervals: skills, the benchmark, speed, side effects; a line a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lep.reporting import formatting as rounding
from lep.reporting.i18n import language_name, say
from lep.reporting.page.svg import ACCENT, INK, MUTED, RULE, STEPS, Chart, draw, short
from lep.reporting.run_data import Facts
from lep.reporting.tables.paper_comparison import Beside
from lep.results.efficiency import Value
from lep.results.evaluation import COLUMNS

Show = Callable[[float | None], str]


def skill_charts(facts: Facts) -> list[Chart]:
    """Accuracy with its interval, a chart a skill."""
    models = {name: model.skills for name, model in facts.evaluation.models.items() if model.skills}
    skills = dict.fromkeys(skill for found in models.values() for skill in found)
    charts = []
    for index, skill in enumerate(skills):
        found = {n: Value(s[skill].accuracy, (s[skill].low, s[skill].high)) for n, s in models.items() if skill in s}
        title = say("All skills") if skill == "all" else skill.replace("_", " ")
        charts.append(_chart(found, facts, name=f"skill{index}", title=title, show=_whole_percent, fit=_all_of_it))
    return charts


def benchmark_charts(facts: Facts, beside: Sequence[Beside] = ()) -> list[Chart]:
    """Scores with their intervals, a chart for the Micro-Avg and each group; the paper's, where they compare."""
    models = facts.evaluation.benchmark.models if facts.evaluation.benchmark else {}
    charts = []
    for index, column in enumerate(COLUMNS):
        averages = {name: model.averages[column] for name, model in models.items() if column in model.averages}
        if found := {name: Value(average.score, average.interval) for name, average in averages.items()}:
            pairs = {one.model: pair for one in beside for pair in one.pairs if pair.column == column}
            paper = {name: pair.paper for name, pair in pairs.items() if pair.difference is not None}
            name = f"score{index}"
            charts.append(_chart(found, facts, name=name, title=column, show=rounding.score, paper=paper))
    return charts


def speed_charts(facts: Facts) -> list[Chart]:
    """Characters per second in the language that was read, a chart for reading and one for writing."""
    if not (efficiency := facts.evaluation.efficiency):
        return []
    text = efficiency.settings.language
    language = language_name(text)
    titles = {
        "reading": say("Reading, characters per second, {language}", language=language),
        "writing": say("Writing, characters per second, {language}", language=language),
    }
    charts = []
    for kind, title in titles.items():
        found = {name: getattr(model.texts[text], kind) for name, model in efficiency.models.items()}
        charts.append(_chart(found, facts, name=kind, title=title, show=rounding.speed, fit=_from_nothing))
    return charts


def damage_charts(facts: Facts) -> list[Chart]:
    """By how much bits per byte differ from the reference's, a chart a text: right of 0 is worse."""
    differences = facts.evaluation.side_effects.differences if facts.evaluation.side_effects else {}
    texts = dict.fromkeys(text for less in differences.values() for text in less.bits_per_byte)
    charts = []
    for index, text in enumerate(texts):
        changes = {name: less.bits_per_byte[text] for name, less in differences.items() if text in less.bits_per_byte}
        found = {name: Value(change.difference, change.interval) for name, change in changes.items()}
        name, title = f"damage{index}", language_name(text)
        charts.append(_chart(found, facts, name=name, title=title, show=rounding.signed, at=0.0))
    return charts


def _whole_percent(share: float | None) -> str:
    return rounding.percent(share, 0)


def _fitted(axes: Axes) -> None:
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))


def _from_nothing(axes: Axes) -> None:
    _fitted(axes)
    axes.set_xlim(left=0.0)


def _all_of_it(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])


def _chart(
    found: Mapping[str, Value],
    facts: Facts,
    *,
    name: str,
    title: str,
    show: Show,
    fit: Callable[[Axes], None] = _fitted,
    at: float | None = None,
    paper: Mapping[str, float] | None = None,
) -> Chart:
    """A dot a model with the line of its interval; a dotted line at the reference's, or where it is said.

    Args:
        found: a measure of each model.
        facts: whose models are the result and the reference.
        name: prefix of ids.
        title: heading.
        show: how a measure is rounded.
        fit: sets the limits of the axis, and its ticks.
        at: where the dotted line is; none: at the reference's measure.
        paper: what the paper reports of a model.
    """
    published = paper or {}
    if at is None and facts.reference in found:
        at = found[facts.reference].value

    def paint(axes: Axes) -> None:
        if at is not None:
            axes.axvline(at, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        _dots(axes, found, facts, show)
        _diamonds(axes, {list(found).index(model): score for model, score in published.items()})
        fit(axes)

    told = [f"{model} {_told(value, show)}" for model, value in found.items()]
    told += [f"{say('the paper')}, {model} {show(score)}" for model, score in published.items()]
    return draw(paint, name=name, title=title, told="; ".join(told), size=(3.7, 0.55 + 0.23 * len(found)))


def _dots(axes: Axes, found: Mapping[str, Value], facts: Facts, show: Show) -> None:
    colors = {name: ACCENT if name == facts.result else INK if name == facts.reference else MUTED for name in found}
    place = axes.get_yaxis_transform()
    for height, (name, one) in enumerate(found.items()):
        axes.plot(one.interval or (one.value,) * 2, [height] * 2, color=colors[name], linewidth=1.6, alpha=0.55)
        axes.plot([one.value], [height], "o", color=colors[name], markersize=5.5, clip_on=False, zorder=3)
        axes.text(1.03, height, show(one.value), color=colors[name], va="center", transform=place)
    axes.set_yticks(range(len(found)), [short(name) for name in found])
    for label, color in zip(axes.get_yticklabels(), colors.values(), strict=True):
        label.set_color(color)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=RULE)


def _diamonds(axes: Axes, scores: Mapping[int, float]) -> None:
    style = {"color": INK, "markersize": 5, "fillstyle": "none"}
    axes.plot(list(scores.values()), list(scores), "D", **style, clip_on=False, zorder=4)


def _told(one: Value, show: Show) -> str:
    ends = f" ({show(one.interval[0])}–{show(one.interval[1])})" if one.interval else ""
    return f"{show(one.value)}{ends}"
