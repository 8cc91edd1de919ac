"""The charts of the page: learning curves, training losses, skills. Small multiples, so that a phone stacks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lep.reporting import rounding
from lep.reporting.evaluated import COLUMNS
from lep.reporting.facts import Facts
from lep.reporting.headline import language_name
from lep.reporting.measures import Value
from lep.reporting.numbers import Calibrated, Loss, Measured, Pretrained, Tuned
from lep.reporting.svg import ACCENT, INK, MUTED, RULE, Chart, apart, draw

_WIDE, _NARROW = (4.4, 2.5), 3.7
_POINTS = 200
_STEPS = [1, 2, 5, 10]


def learning_charts(facts: Facts) -> list[Chart]:
    """Held-out bits per byte over training, a chart for each language of each `pretrain`."""
    charts: list[Chart] = []
    found = facts.of(Pretrained)
    for room, numbers in found:
        for language in dict.fromkeys(key for point in numbers.curve for key in point.bits_per_byte):
            where = f" ({room.key})" if len(found) > 1 else ""
            charts.append(
                draw(
                    lambda axes, language=language, curve=numbers.curve: _learning(axes, curve, language, facts),
                    name=f"curve{len(charts)}",
                    title=f"Bits per byte, {language_name(language)}{where}",
                    size=_WIDE,
                )
            )
    return charts


def score_charts(facts: Facts) -> list[Chart]:
    """The benchmark over training, a chart for the mean of all that was asked and for each group."""
    charts: list[Chart] = []
    found = facts.of(Pretrained)
    for room, numbers in found:
        groups = dict.fromkeys(group for point in numbers.curve for group in point.benchmark)
        for group in [name for name in groups if name != "all" or len(groups) > 2]:  # of one group, the mean is its own
            where = f" ({room.key})" if len(found) > 1 else ""
            charts.append(
                draw(
                    lambda axes, group=group, curve=numbers.curve: _scores(axes, curve, group),
                    name=f"over{len(charts)}",
                    title=f"{'All tasks that were asked' if group == 'all' else group}{where}",
                    size=_WIDE,
                )
            )
    return charts


def loss_charts(facts: Facts) -> list[Chart]:
    """Training loss over steps, a chart for each room that trained."""
    trained = (*facts.of(Pretrained), *facts.of(Tuned), *facts.of(Calibrated))
    rooms = [(room.key, numbers.losses) for room, numbers in trained]
    return [
        draw(
            lambda axes, losses=losses: _loss(axes, losses),
            name=f"loss{index}",
            title=f"Training loss, {key}",
            size=_WIDE,
        )
        for index, (key, losses) in enumerate(rooms)
        if len(losses) > 1
    ]


def skill_charts(facts: Facts) -> list[Chart]:
    """Accuracy with its interval, a chart a skill, a line a model."""
    models = {name: model.skills for name, model in facts.evaluation.models.items() if model.skills}
    skills = dict.fromkeys(skill for found in models.values() for skill in found)
    estimates = {
        skill: {n: Value(s[skill].accuracy, (s[skill].low, s[skill].high)) for n, s in models.items() if skill in s}
        for skill in skills
    }
    return [
        draw(
            lambda axes, found=found: _skill(axes, found, facts),
            name=f"skill{index}",
            title="All skills" if skill == "all" else skill.replace("_", " "),
            size=_rows(len(models)),
        )
        for index, (skill, found) in enumerate(estimates.items())
    ]


def benchmark_charts(facts: Facts) -> list[Chart]:
    """Scores with their intervals, a chart for the Micro-Avg and each group, a line a model."""
    models = facts.evaluation.benchmark.models if facts.evaluation.benchmark else {}
    found = {
        column: {
            name: Value(average.score, average.interval)
            for name, model in models.items()
            if (average := model.averages.get(column))
        }
        for column in COLUMNS
    }
    return [
        draw(
            lambda axes, values=values: _measures(axes, values, facts, show=rounding.score),
            name=f"score{index}",
            title=column,
            size=_rows(len(values)),
        )
        for index, (column, values) in enumerate(found.items())
        if values
    ]


def speed_charts(facts: Facts) -> list[Chart]:
    """Characters per second in the language that was read, a chart for reading and one for writing."""
    if not (efficiency := facts.evaluation.efficiency):
        return []
    text = efficiency.settings.language
    charts = []
    for kind in ("reading", "writing"):
        found = {name: getattr(model.texts[text], kind) for name, model in efficiency.models.items()}
        charts.append(
            draw(
                lambda axes, found=found: _measures(axes, found, facts, show=rounding.speed, least=0.0),
                name=kind,
                title=f"{kind.capitalize()} {language_name(text)}, characters per second",
                size=_rows(len(found)),
            )
        )
    return charts


def damage_charts(facts: Facts) -> list[Chart]:
    """By how much bits per byte differ from the reference's, a chart a text: right of 0 is worse."""
    differences = facts.evaluation.side_effects.differences if facts.evaluation.side_effects else {}
    texts = dict.fromkeys(text for less in differences.values() for text in less.bits_per_byte)
    found = {
        text: {
            name: Value(less.bits_per_byte[text].difference, less.bits_per_byte[text].interval)
            for name, less in differences.items()
            if text in less.bits_per_byte
        }
        for text in texts
    }
    return [
        draw(
            lambda axes, values=values: _measures(axes, values, facts, show=rounding.signed, at=0.0),
            name=f"damage{index}",
            title=language_name(text),
            size=_rows(len(values)),
        )
        for index, (text, values) in enumerate(found.items())
    ]


def _learning(axes: Axes, curve: Sequence[Measured], language: str, facts: Facts) -> None:
    points = [(point.tokens, point.bits_per_byte[language]) for point in curve if language in point.bits_per_byte]
    unit, word = _unit(max(tokens for tokens, _ in points))
    xs, ys = [tokens / unit for tokens, _ in points], [value for _, value in points]
    axes.plot(xs, ys, color=ACCENT, linewidth=2, marker="o", markersize=4, clip_on=False, zorder=3)
    labels = [(ys[-1], rounding.bits_per_byte(ys[-1]), ACCENT)]
    for name in dict.fromkeys((next(iter(facts.evaluation.models)), facts.reference)):
        value = facts.evaluation.models[name].bits_per_byte.get(language)
        if value is not None:
            color = INK if name == facts.reference else MUTED
            axes.axhline(value, color=color, linewidth=1, linestyle=(0, (3, 3)))
            labels.append((value, f"{_short(name)} {rounding.bits_per_byte(value)}", color))
    _over_tokens(axes, word)
    for (_, text, color), height in zip(labels, apart([value for value, _, _ in labels], axes), strict=True):
        axes.text(1.03, height, text, color=color, va="center", transform=axes.get_yaxis_transform())


def _scores(axes: Axes, curve: Sequence[Measured], group: str) -> None:
    points = [(point.tokens, point.benchmark[group]) for point in curve if group in point.benchmark]
    unit, word = _unit(max(tokens for tokens, _ in points))
    xs, ys = [tokens / unit for tokens, _ in points], [score.score for _, score in points]
    low, high = [score.low for _, score in points], [score.high for _, score in points]
    axes.fill_between(xs, low, high, color=ACCENT, alpha=0.15, linewidth=0)
    axes.plot(xs, ys, color=ACCENT, linewidth=2, marker="o", markersize=4, clip_on=False, zorder=3)
    _over_tokens(axes, word)
    axes.text(1.03, ys[-1], rounding.score(ys[-1]), color=ACCENT, va="center", transform=axes.get_yaxis_transform())


def _over_tokens(axes: Axes, word: str) -> None:
    axes.margins(x=0, y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"{word}tokens trained on")


def _loss(axes: Axes, losses: Sequence[Loss]) -> None:
    width = -(-len(losses) // _POINTS)
    groups = [losses[start : start + width] for start in range(0, len(losses), width)]
    xs = [group[-1].step for group in groups]
    ys = [sum(item.loss for item in group) / len(group) for group in groups]
    axes.plot(xs, ys, color=ACCENT, linewidth=1.4, zorder=3)
    axes.margins(x=0, y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("step" if width == 1 else f"step (means of {width})")
    axes.text(1.03, ys[-1], rounding.decimal(ys[-1]), color=ACCENT, va="center", transform=axes.get_yaxis_transform())


def _skill(axes: Axes, found: Mapping[str, Value], facts: Facts) -> None:
    _intervals(axes, found, facts, show=lambda share: rounding.percent(share, 0))
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])


def _measures(
    axes: Axes,
    found: Mapping[str, Value],
    facts: Facts,
    *,
    show: Callable[[float | None], str],
    at: float | None = None,
    least: float | None = None,
) -> None:
    _intervals(axes, found, facts, show=show, at=at)
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    if least is not None:
        axes.set_xlim(left=least)


def _intervals(
    axes: Axes,
    found: Mapping[str, Value],
    facts: Facts,
    *,
    show: Callable[[float | None], str],
    at: float | None = None,
) -> None:
    """A dot a model with the line of its interval; a dotted line at the reference's, or where it is said."""
    colors = {name: ACCENT if name == facts.result else INK if name == facts.reference else MUTED for name in found}
    if at is None and facts.reference in found:
        at = found[facts.reference].value
    if at is not None:
        axes.axvline(at, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    for height, (name, one) in enumerate(found.items()):
        axes.plot(one.interval or (one.value,) * 2, [height] * 2, color=colors[name], linewidth=1.6, alpha=0.55)
        axes.plot([one.value], [height], "o", color=colors[name], markersize=5.5, clip_on=False, zorder=3)
        place = axes.get_yaxis_transform()
        axes.text(1.03, height, show(one.value), color=colors[name], va="center", transform=place)
    axes.set_yticks(range(len(found)), [_short(name) for name in found])
    for label, color in zip(axes.get_yticklabels(), colors.values(), strict=True):
        label.set_color(color)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=RULE)


def _rows(models: int) -> tuple[float, float]:
    return _NARROW, 0.55 + 0.23 * models


def _unit(tokens: float) -> tuple[float, str]:
    if tokens >= 2e9:
        return 1e9, "billion "
    return (1e6, "million ") if tokens >= 2e6 else (1e3, "thousand ")


def _short(name: str) -> str:
    """Cut in the middle: names of one family differ at their ends."""
    return name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"
