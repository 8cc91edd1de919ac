"""Charts of training: held-out bits per byte, the benchmark on the way, training losses."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lep.reporting import formatting as rounding
from lep.reporting.i18n import language_name, say
from lep.reporting.page.svg import ACCENT, INK, MUTED, STEPS, Chart, apart, draw, short
from lep.reporting.run_data import Facts
from lep.results.stages import Calibrated, Loss, Measured, Pretrained, Tuned

_SIZE = (4.4, 2.5)
_POINTS = 200


def learning_charts(facts: Facts) -> list[Chart]:
    """Held-out bits per byte over training, a chart for each language of each `pretrain`."""
    charts: list[Chart] = []
    found = facts.of(Pretrained)
    for room, numbers in found:
        for language in dict.fromkeys(key for point in numbers.curve for key in point.bits_per_byte):
            where = f" ({room.key})" if len(found) > 1 else ""
            points = [(p.tokens, p.bits_per_byte[language]) for p in numbers.curve if language in p.bits_per_byte]
            charts.append(
                draw(
                    lambda axes, points=points, language=language: _learning(axes, points, language, facts),
                    name=f"curve{len(charts)}",
                    title=say("Bits per byte, {language}", language=language_name(language)) + where,
                    told=f"{rounding.bits_per_byte(points[0][1])} → {rounding.bits_per_byte(points[-1][1])}",
                    size=_SIZE,
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
            points = [point for point in numbers.curve if group in point.benchmark]
            ends = [rounding.score(point.benchmark[group].score) for point in (points[0], points[-1])]
            charts.append(
                draw(
                    lambda axes, points=points, group=group: _scores(axes, points, group),
                    name=f"over{len(charts)}",
                    title=(say("All tasks that were asked") if group == "all" else group) + where,
                    told=" → ".join(ends),
                    size=_SIZE,
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
            title=say("Training loss, {room}", room=key),
            told=f"{rounding.decimal(losses[0].loss)} → {rounding.decimal(losses[-1].loss)}",
            size=_SIZE,
        )
        for index, (key, losses) in enumerate(rooms)
        if len(losses) > 1
    ]


def _learning(axes: Axes, points: Sequence[tuple[int, float]], language: str, facts: Facts) -> None:
    unit, word = _unit(max(tokens for tokens, _ in points))
    ys = [value for _, value in points]
    _line(axes, [tokens / unit for tokens, _ in points], ys)
    labels = [(ys[-1], rounding.bits_per_byte(ys[-1]), ACCENT)]
    for name in dict.fromkeys((next(iter(facts.evaluation.models)), facts.reference)):
        value = facts.evaluation.models[name].bits_per_byte.get(language)
        if value is not None:
            color = INK if name == facts.reference else MUTED
            axes.axhline(value, color=color, linewidth=1, linestyle=(0, (3, 3)))
            labels.append((value, f"{short(name)} {rounding.bits_per_byte(value)}", color))
    _grid(axes, word)
    for (_, text, color), height in zip(labels, apart([value for value, _, _ in labels], axes), strict=True):
        axes.text(1.03, height, text, color=color, va="center", transform=axes.get_yaxis_transform())


def _scores(axes: Axes, points: Sequence[Measured], group: str) -> None:
    unit, word = _unit(max(point.tokens for point in points))
    xs, scores = [point.tokens / unit for point in points], [point.benchmark[group] for point in points]
    axes.fill_between(xs, [s.low for s in scores], [s.high for s in scores], color=ACCENT, alpha=0.15, linewidth=0)
    _line(axes, xs, [one.score for one in scores])
    _grid(axes, word)
    _last(axes, scores[-1].score, rounding.score(scores[-1].score))


def _loss(axes: Axes, losses: Sequence[Loss]) -> None:
    width = -(-len(losses) // _POINTS)
    groups = [losses[start : start + width] for start in range(0, len(losses), width)]
    ys = [sum(item.loss for item in group) / len(group) for group in groups]
    axes.plot([group[-1].step for group in groups], ys, color=ACCENT, linewidth=1.4, zorder=3)
    _grid(axes, say("step") if width == 1 else say("step (means of {n})", n=width), integer=True)
    _last(axes, ys[-1], rounding.decimal(ys[-1]))


def _line(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    axes.plot(xs, ys, color=ACCENT, linewidth=2, marker="o", markersize=4, clip_on=False, zorder=3)


def _last(axes: Axes, height: float, text: str) -> None:
    axes.text(1.03, height, text, color=ACCENT, va="center", transform=axes.get_yaxis_transform())


def _grid(axes: Axes, label: str, *, integer: bool = False) -> None:
    axes.margins(x=0, y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=integer))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(label)


def _unit(tokens: float) -> tuple[float, str]:
    if tokens >= 2e9:
        return 1e9, say("billion tokens trained on")
    return (1e6, say("million tokens trained on")) if tokens >= 2e6 else (1e3, say("thousand tokens trained on"))
