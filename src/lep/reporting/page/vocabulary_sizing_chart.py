"""The picture of an advice: how densely each size writes, and how much faster it is expected to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lep.core.vocabulary_sizing import SEEN_SHARE, Point
from lep.reporting import formatting as rounding
from lep.reporting.i18n import language_name
from lep.reporting.page.svg import ACCENT, INK, MUTED, RULE, apart, draw_file
from lep.reporting.tables.vocabulary_sizing import Advised

HEADROOM = 1.4
"""The lowest line has room to rise by so much, so that a small gain looks small."""

_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}


@dataclass(frozen=True)
class Line:
    """A value for each size."""

    values: Sequence[float]
    color: str


def chart(advised: Advised) -> str:
    """An SVG file: sizes from left to right, the recommended one marked, those of too rare tokens shaded."""
    points = advised.points
    density = {
        language_name(language): Line(
            [point.languages[language].symbols_per_token for point in points],
            ACCENT if language in advised.shares else MUTED,
        )
        for language in advised.texts
    }
    speed = {"prefill": Line([point.prefill for point in points], INK)}
    if advised.model:
        speed["generation"] = Line([point.generation or 0.0 for point in points], ACCENT)

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _panel(left, advised, density, title="Symbols per token, held-out text")
        _panel(right, advised, speed, title="Expected speed in characters, times the base’s")

    chosen = advised.chosen.new_tokens
    advice = f"{rounding.count(chosen)} new tokens are recommended" if chosen else "no extension is recommended"
    return draw_file(paint, title=f"Symbols per token and expected speed by new tokens; {advice}", size=(9.2, 3.4))


def _panel(axes: Axes, advised: Advised, lines: Mapping[str, Line], *, title: str) -> None:
    """Sizes at equal steps, since each is twice the one before."""
    points = advised.points
    at = points.index(advised.chosen)
    for line in lines.values():
        axes.plot(line.values, color=line.color, linewidth=1.8, marker="o", markersize=3.5, clip_on=False, zorder=3)
        axes.plot([at], [line.values[at]], "o", color=line.color, markersize=7, clip_on=False, zorder=4)
    axes.set_title(title, loc="left", fontsize=9, color=INK, pad=22)
    axes.set_xticks(range(len(points)), [_size(point.new_tokens) for point in points])
    axes.set_xlim(-0.3, len(points) - 0.7)
    axes.set_xlabel("new tokens")
    axes.margins(y=0.12)
    lowest = min(line.values[0] for line in lines.values())
    top = max(axes.get_ylim()[1], HEADROOM * lowest)
    axes.set_ylim(min(axes.get_ylim()[0], lowest - 0.12 * (top - lowest)), top)
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    _shade(axes, points)
    _mark(axes, at, lines, words=rounding.count(points[at].new_tokens) if at else "do not extend")
    for (name, line), height in zip(
        lines.items(), apart([line.values[-1] for line in lines.values()], axes), strict=True
    ):
        axes.text(1.03, height, name, color=line.color, va="center", transform=axes.get_yaxis_transform())


def _shade(axes: Axes, points: Sequence[Point]) -> None:
    """The sizes whose tokens are too rare to be learnt."""
    rare = [i for i, point in enumerate(points) if point.new_tokens and point.learnt < SEEN_SHARE]
    for i in rare:
        axes.axvspan(i - 0.5, min(i + 0.5, len(points) - 0.7), color=RULE, alpha=0.45, linewidth=0)
    if rare:
        below = {"ha": "right", "va": "bottom", "transform": axes.get_xaxis_transform()}
        axes.text(len(points) - 0.78, 0.02, "too rare", color=MUTED, fontsize=7.5, **below)


def _mark(axes: Axes, at: int, lines: Mapping[str, Line], *, words: str) -> None:
    """The recommended size, and the value of each line there."""
    axes.axvline(at, color=ACCENT, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
    low, high = axes.get_xlim()
    side = "left" if at < (low + high) / 2 else "right"
    axes.text(at, 1.03, f"recommended: {words}", color=ACCENT, ha=side, transform=axes.get_xaxis_transform())
    if at:
        values = [line.values[at] for line in lines.values()]
        for line, value, height in zip(lines.values(), values, apart(values, axes), strict=True):
            beside = {"xytext": (-7, 6), "textcoords": "offset points", "ha": "right", "bbox": _BOX}
            axes.annotate(rounding.decimal(value), (at, height), color=line.color, **beside)


def _size(new_tokens: int) -> str:
    if not new_tokens:
        return "base"
    return f"{new_tokens // 1000}k" if new_tokens % 1000 == 0 else rounding.count(new_tokens)
