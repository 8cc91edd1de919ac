"""Matplotlib figures as SVG: inline, with the colors and the font of the page, or as a separate file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from matplotlib.typing import RcKeyType

from lep.reporting.formatting import format_decimal

TICK_STEPS = [1, 2, 5, 10]
"""Distances between ticks, times a power of ten."""

# Placeholders: colors that nothing else uses; each is replaced by a CSS variable of the page.
INK, MUTED, RULE, ACCENT = "#010101", "#020202", "#030303", "#040404"
_CSS_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", ACCENT: "var(--accent)"}
_COLORS = {INK: "#1d1f21", MUTED: "#6b6c68", RULE: "#e2dfd7", ACCENT: "#1f5f8b"}  # of the light page
# The salt makes ids the same in every run. Text stays text, so that it can be selected and read by screen readers.
# A `$` in the name of a model is not mathematics.
_RC_PARAMS: dict[RcKeyType, Any] = {
    "svg.hashsalt": "lep",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


@dataclass(frozen=True)
class Chart:
    """One chart of the page."""

    title: str
    svg: str


def draw_chart(
    plot: Callable[[Axes], None], *, id_prefix: str, title: str, alt_text: str, size: tuple[float, float]
) -> Chart:
    """Draw one pair of axes as inline SVG.

    Args:
        plot: Draws into the axes.
        id_prefix: Prefix of all ids, unique in the page.
        title: Heading of the chart.
        alt_text: The numbers, for readers who do not see the chart.
        size: Width and height in inches; the page scales the chart to its column.

    Returns:
        The chart, which takes its colors from the page.
    """
    document = _render_svg(lambda figure: plot(_add_axes(figure)), size=size)
    return Chart(title, _build_inline_svg(document, id_prefix=id_prefix, title=f"{title}: {alt_text}"))


def draw_svg_file(plot: Callable[[Figure], None], *, title: str, size: tuple[float, float]) -> str:
    """Draw a figure as an SVG file with a white background.

    Args:
        plot: Draws into the figure.
        title: Text for readers who do not see the figure.
        size: Width and height in inches.

    Returns:
        The text of the file.
    """
    text = _render_svg(plot, size=size)
    for placeholder, color in _COLORS.items():
        text = text.replace(placeholder, color)
    prologue, opening, body = re.split(r"(<svg[^>]*>)", text, maxsplit=1)
    opening = f'{opening[:-1]} role="img" style="background: white">'
    return f"{prologue}{opening}\n <title>{escape(title)}</title>{body}"


def shorten_name(name: str) -> str:
    """Shorten a name to fit next to the axes; cut in the middle, since names of one family differ at their ends."""
    return name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"


def spread_label_heights(values: Sequence[float], axes: Axes) -> list[float]:
    """Return a height for the label of each value, moved up where two labels would overlap."""
    low, high = axes.get_ylim()
    gap = 0.1 * (high - low)
    heights = [0.0] * len(values)
    lowest_free = float("-inf")
    for index in sorted(range(len(values)), key=lambda index: values[index]):
        heights[index] = max(values[index], lowest_free)
        lowest_free = heights[index] + gap
    return heights


class _LocalizedFormatter(ScalarFormatter):
    """Formats ticks with the separators of the locale."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Hook of matplotlib: format one tick."""
        text = super().__call__(x, pos)
        digits = text.lstrip("−-")
        sign = text.removesuffix(digits)
        return sign + format_decimal(float(digits), len(digits.partition(".")[2])) if digits else text


def _add_axes(figure: Figure) -> Axes:
    axes = figure.subplots()
    axes.xaxis.set_major_formatter(_LocalizedFormatter())
    axes.yaxis.set_major_formatter(_LocalizedFormatter())
    return axes


def _render_svg(plot: Callable[[Figure], None], *, size: tuple[float, float]) -> str:
    with matplotlib.rc_context(_RC_PARAMS):
        figure = Figure(figsize=size, layout="constrained")
        plot(figure)
        buffer = io.StringIO()
        no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    return buffer.getvalue()


def _build_inline_svg(document: str, *, id_prefix: str, title: str) -> str:
    """Strip the prologue, the size and page-wide styles from an SVG document, and make its ids unique."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([-0-9. ]+)"', text)
    opening = f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(title)}">'
    text = re.sub(r"^<svg[^>]*>", lambda _: opening, text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{id_prefix}-", text)
    text = re.sub(r"font:\s*([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family:[^;\"]*;?", "", text)
    for placeholder, variable in _CSS_VARIABLES.items():
        text = text.replace(placeholder, variable)
    return re.sub(r"\n\s*", "\n", text).strip()
