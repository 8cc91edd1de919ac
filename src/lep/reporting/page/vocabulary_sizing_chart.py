"""The chart of `advise`: characters per token and expected speed by number of new tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lep.core.vocabulary_sizing import MIN_TRAINED_FRACTION
from lep.reporting import formatting
from lep.reporting.i18n import language_name
from lep.reporting.page.svg import ACCENT, INK, MUTED, RULE, draw_svg_file, spread_label_heights
from lep.results.advice import AdviceResult, SizeTradeoff

HEADROOM = 1.4
"""The axis ends at least this many times above the lowest line, so that a small gain looks small."""

_LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}


@dataclass(frozen=True)
class ChartLine:
    """One value for each size."""

    values: Sequence[float]
    color: str


def draw_size_chart(result: AdviceResult) -> str:
    """Draw an SVG file: sizes from left to right, the recommended one marked, those with too rare tokens shaded."""
    points = result.points
    compression = {
        language_name(language): ChartLine(
            [point.compression[language].characters_per_token for point in points],
            ACCENT if language in result.language_weights else MUTED,
        )
        for language in result.texts
    }
    speed = {"prefill": ChartLine([point.prefill_speedup for point in points], INK)}
    if result.model:
        speed["generation"] = ChartLine([point.decode_speedup or 0.0 for point in points], ACCENT)

    def plot(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _draw_panel(left, result, compression, title="Characters per token, held-out text")
        _draw_panel(right, result, speed, title="Expected speed in characters, relative to the base")

    size = result.recommended.new_tokens
    advice = f"{formatting.format_count(size)} new tokens are recommended" if size else "no extension is recommended"
    title = f"Characters per token and expected speed by new tokens; {advice}"
    return draw_svg_file(plot, title=title, size=(9.2, 3.4))


def _draw_panel(axes: Axes, result: AdviceResult, lines: Mapping[str, ChartLine], *, title: str) -> None:
    """Draw one line per language or kind of speed; sizes are at equal steps, since each is twice the one before."""
    points = result.points
    recommended = points.index(result.recommended)
    for line in lines.values():
        axes.plot(line.values, color=line.color, linewidth=1.8, marker="o", markersize=3.5, clip_on=False, zorder=3)
        axes.plot(
            [recommended], [line.values[recommended]], "o", color=line.color, markersize=7, clip_on=False, zorder=4
        )
    axes.set_title(title, loc="left", fontsize=9, color=INK, pad=22)
    axes.set_xticks(range(len(points)), [_format_size(point.new_tokens) for point in points])
    axes.set_xlim(-0.3, len(points) - 0.7)
    axes.set_xlabel("new tokens")
    axes.margins(y=0.12)
    lowest = min(line.values[0] for line in lines.values())
    top = max(axes.get_ylim()[1], HEADROOM * lowest)
    axes.set_ylim(min(axes.get_ylim()[0], lowest - 0.12 * (top - lowest)), top)
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    _shade_rare_sizes(axes, points)
    label = formatting.format_count(points[recommended].new_tokens) if recommended else "do not extend"
    _mark_recommended_size(axes, recommended, lines, label=label)
    heights = spread_label_heights([line.values[-1] for line in lines.values()], axes)
    for (name, line), height in zip(lines.items(), heights, strict=True):
        axes.text(1.03, height, name, color=line.color, va="center", transform=axes.get_yaxis_transform())


def _shade_rare_sizes(axes: Axes, points: Sequence[SizeTradeoff]) -> None:
    """Shade the sizes whose tokens are too rare to be trained."""
    rare = [i for i, point in enumerate(points) if point.new_tokens and point.trained_fraction < MIN_TRAINED_FRACTION]
    for i in rare:
        axes.axvspan(i - 0.5, min(i + 0.5, len(points) - 0.7), color=RULE, alpha=0.45, linewidth=0)
    if rare:
        position = {"ha": "right", "va": "bottom", "transform": axes.get_xaxis_transform()}
        axes.text(len(points) - 0.78, 0.02, "too rare", color=MUTED, fontsize=7.5, **position)


def _mark_recommended_size(axes: Axes, index: int, lines: Mapping[str, ChartLine], *, label: str) -> None:
    """Mark the recommended size and the value of each line there."""
    axes.axvline(index, color=ACCENT, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
    low, high = axes.get_xlim()
    side = "left" if index < (low + high) / 2 else "right"
    axes.text(index, 1.03, f"recommended: {label}", color=ACCENT, ha=side, transform=axes.get_xaxis_transform())
    if index:
        values = [line.values[index] for line in lines.values()]
        for line, value, height in zip(lines.values(), values, spread_label_heights(values, axes), strict=True):
            position = {"xytext": (-7, 6), "textcoords": "offset points", "ha": "right", "bbox": _LABEL_BOX}
            axes.annotate(formatting.format_decimal(value), (index, height), color=line.color, **position)


def _format_size(new_tokens: int) -> str:
    if not new_tokens:
        return "base"
    return f"{new_tokens // 1000}k" if new_tokens % 1000 == 0 else formatting.format_count(new_tokens)
