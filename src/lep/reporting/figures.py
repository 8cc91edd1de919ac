"""The charts of the page: learning curves, training losses, skills. Small multiples, so that a phone stacks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lep.reporting import rounding
from lep.reporting.facts import Facts
from lep.reporting.headline import language_name
from lep.reporting.numbers import Calibrated, Loss, Measured, Pretrained, Score, Tuned
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
    skills = dict.fromkeys(skill for scores in models.values() for skill in scores)
    return [
        draw(
            lambda axes, skill=skill: _skill(axes, {n: s[skill] for n, s in models.items() if skill in s}, facts),
            name=f"skill{index}",
            title="All skills" if skill == "all" else skill.replace("_", " "),
            size=(_NARROW, 0.55 + 0.23 * len(models)),
        )
        for index, skill in enumerate(skills)
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
    axes.margins(x=0, y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(f"{word}tokens trained on")
    for (_, text, color), height in zip(labels, apart([value for value, _, _ in labels], axes), strict=True):
        axes.text(1.03, height, text, color=color, va="center", transform=axes.get_yaxis_transform())


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


def _skill(axes: Axes, scores: Mapping[str, Score], facts: Facts) -> None:
    if facts.reference in scores:
        axes.axvline(100 * scores[facts.reference].accuracy, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    for height, (name, score) in enumerate(scores.items()):
        color = ACCENT if name == facts.result else INK if name == facts.reference else MUTED
        axes.plot([100 * score.low, 100 * score.high], [height, height], color=color, linewidth=1.6, alpha=0.55)
        axes.plot([100 * score.accuracy], [height], "o", color=color, markersize=5.5, clip_on=False, zorder=3)
        text = rounding.percent(score.accuracy, 0)
        axes.text(1.03, height, text, color=color, va="center", transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(scores)), [_short(name) for name in scores])
    for label, name in zip(axes.get_yticklabels(), scores, strict=True):
        label.set_color(ACCENT if name == facts.result else INK if name == facts.reference else MUTED)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=RULE)


def _unit(tokens: float) -> tuple[float, str]:
    if tokens >= 2e9:
        return 1e9, "billion "
    return (1e6, "million ") if tokens >= 2e6 else (1e3, "thousand ")


def _short(name: str) -> str:
    """Cut in the middle: names of one family differ at their ends."""
    return name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"
