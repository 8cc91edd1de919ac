"""A matplotlib figure as SVG: inline, with the colours and the font of the page around it, or as a file of its own."""

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

from lep.reporting.i18n import numerals

STEPS = [1, 2, 5, 10]
"""Between ticks, times a power of ten."""

# Placeholders: colours that nothing else uses, each replaced by a CSS variable of the page.
INK, MUTED, RULE, ACCENT = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", ACCENT: "var(--accent)"}
_COLOURS = {INK: "#1d1f21", MUTED: "#6b6c68", RULE: "#e2dfd7", ACCENT: "#1f5f8b"}  # the page's own, by daylight
# The salt makes ids the same in every run; text stays text, so that it can be selected and read aloud; a `$` in a
# model's name is a `$`.
_STYLE: dict[RcKeyType, Any] = {
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
    """One small picture."""

    title: str
    svg: str


def draw(paint: Callable[[Axes], None], *, name: str, title: str, told: str, size: tuple[float, float]) -> Chart:
    """Paint one pair of axes.

    Args:
        paint: fills the axes.
        name: prefix of all ids, unique in the page.
        title: its heading.
        told: the numbers, for a reader who does not see the picture.
        size: width and height, inches; the page stretches it to its column.
    """
    document = _document(lambda figure: paint(_axes(figure)), size=size)
    return Chart(title, _inline(document, name=name, title=f"{title}: {told}"))


def draw_file(paint: Callable[[Figure], None], *, title: str, size: tuple[float, float]) -> str:
    """A whole SVG file, on white.

    Args:
        paint: fills the figure.
        title: what a reader who does not see the picture is told.
        size: width and height, inches.
    """
    text = _document(paint, size=size)
    for placeholder, colour in _COLOURS.items():
        text = text.replace(placeholder, colour)
    head, opening, rest = re.split(r"(<svg[^>]*>)", text, maxsplit=1)
    opening = f'{opening[:-1]} role="img" style="background: white">'
    return f"{head}{opening}\n <title>{escape(title)}</title>{rest}"


def short(name: str) -> str:
    """A name that fits beside the axes; cut in the middle, since names of one family differ at their ends."""
    return name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"


def apart(values: Sequence[float], axes: Axes) -> list[float]:
    """Heights of labels, moved up where two would overlap; in the order given."""
    low, high = axes.get_ylim()
    gap = 0.1 * (high - low)
    heights = [0.0] * len(values)
    least = float("-inf")
    for index in sorted(range(len(values)), key=lambda index: values[index]):
        heights[index] = max(values[index], least)
        least = heights[index] + gap
    return heights


class _Numerals(ScalarFormatter):
    """Ticks with the reader's separators."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """One tick."""
        text = super().__call__(x, pos)
        return numerals(f"{int(text):,}" if text.isdigit() else text)


def _axes(figure: Figure) -> Axes:
    axes = figure.subplots()
    axes.xaxis.set_major_formatter(_Numerals())
    axes.yaxis.set_major_formatter(_Numerals())
    return axes


def _document(paint: Callable[[Figure], None], *, size: tuple[float, float]) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return buffer.getvalue()


def _inline(document: str, *, name: str, title: str) -> str:
    """The picture without its file: no prologue, no size, no rules that reach beyond it, ids of its own."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([-0-9. ]+)"', text)
    opening = f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(title)}">'
    text = re.sub(r"^<svg[^>]*>", lambda _: opening, text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font:\s*([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family:[^;\"]*;?", "", text)
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    return re.sub(r"\n\s*", "\n", text).strip()
