"""Charts of training: bits per byte on held-out text, benchmark scores and training loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lep.reporting import formatting
from lep.reporting.i18n import gettext, language_name
from lep.reporting.page.svg import ACCENT, INK, MUTED, TICK_STEPS, Chart, draw_chart, shorten_name, spread_label_heights
from lep.reporting.run_data import RunData, StageRun
from lep.results.stages import CalibrationResult, LossPoint, PretrainingResult, TuningResult, ValidationPoint

_FIGURE_SIZE = (4.4, 2.5)
_MAX_LOSS_POINTS = 200


def draw_bits_per_byte_charts(run_data: RunData) -> list[Chart]:
    """Draw bits per byte of held-out text over training, a chart for each language of each `pretrain`."""
    charts: list[Chart] = []
    for stage, result in run_data.find_results(PretrainingResult):
        for language in dict.fromkeys(code for point in result.curve for code in point.bits_per_byte):
            points = [(p.tokens, p.bits_per_byte[language]) for p in result.curve if language in p.bits_per_byte]
            title = gettext("Bits per byte, {language}", language=language_name(language))
            charts.append(
                _draw_training_chart(
                    lambda axes, points=points, language=language: _plot_bits_per_byte(
                        axes, points, language, run_data
                    ),
                    id_prefix=f"curve{len(charts)}",
                    title=title + _stage_suffix(stage, run_data),
                    ends=(points[0][1], points[-1][1]),
                    formatter=formatting.format_bits_per_byte,
                )
            )
    return charts


def draw_score_charts(run_data: RunData) -> list[Chart]:
    """Draw benchmark scores over training, a chart for the mean of all selected tasks and for each group."""
    charts: list[Chart] = []
    for stage, result in run_data.find_results(PretrainingResult):
        groups = dict.fromkeys(group for point in result.curve for group in point.benchmark)
        for group in groups:
            if group == "all" and len(groups) <= 2:  # the mean over one group is that group
                continue
            points = [point for point in result.curve if group in point.benchmark]
            title = gettext("All selected tasks") if group == "all" else group
            charts.append(
                _draw_training_chart(
                    lambda axes, points=points, group=group: _plot_scores(axes, points, group),
                    id_prefix=f"over{len(charts)}",
                    title=title + _stage_suffix(stage, run_data),
                    ends=(points[0].benchmark[group].score, points[-1].benchmark[group].score),
                    formatter=formatting.format_score,
                )
            )
    return charts


def draw_loss_charts(run_data: RunData) -> list[Chart]:
    """Draw the training loss over steps, a chart for each stage that trained."""
    trained = (
        *run_data.find_results(PretrainingResult),
        *run_data.find_results(TuningResult),
        *run_data.find_results(CalibrationResult),
    )
    return [
        _draw_training_chart(
            lambda axes, losses=result.losses: _plot_losses(axes, losses),
            id_prefix=f"loss{index}",
            title=gettext("Training loss, {stage}", stage=stage.key),
            ends=(result.losses[0].loss, result.losses[-1].loss),
            formatter=formatting.format_decimal,
        )
        for index, (stage, result) in enumerate(trained)
        if len(result.losses) > 1
    ]


def _draw_training_chart(
    plot: Callable[[Axes], None],
    *,
    id_prefix: str,
    title: str,
    ends: tuple[float, float],
    formatter: formatting.Formatter,
) -> Chart:
    alt_text = " → ".join(map(formatter, ends))
    return draw_chart(plot, id_prefix=id_prefix, title=title, alt_text=alt_text, size=_FIGURE_SIZE)


def _stage_suffix(stage: StageRun, run_data: RunData) -> str:
    """Name the stage where `pretrain` ran several times."""
    return f" ({stage.key})" if len(run_data.find_results(PretrainingResult)) > 1 else ""


def _plot_bits_per_byte(axes: Axes, points: Sequence[tuple[int, float]], language: str, run_data: RunData) -> None:
    unit, unit_label = _choose_token_unit(max(tokens for tokens, _ in points))
    values = [value for _, value in points]
    _plot_line(axes, [tokens / unit for tokens, _ in points], values)
    labels = [(values[-1], formatting.format_bits_per_byte(values[-1]), ACCENT)]
    for name in dict.fromkeys((next(iter(run_data.evaluation.models)), run_data.reference_model)):
        value = run_data.evaluation.models[name].bits_per_byte.get(language)
        if value is not None:
            color = INK if name == run_data.reference_model else MUTED
            axes.axhline(value, color=color, linewidth=1, linestyle=(0, (3, 3)))
            labels.append((value, f"{shorten_name(name)} {formatting.format_bits_per_byte(value)}", color))
    _style_axes(axes, unit_label)
    heights = spread_label_heights([value for value, _, _ in labels], axes)
    for (_, text, color), height in zip(labels, heights, strict=True):
        axes.text(1.03, height, text, color=color, va="center", transform=axes.get_yaxis_transform())


def _plot_scores(axes: Axes, points: Sequence[ValidationPoint], group: str) -> None:
    unit, unit_label = _choose_token_unit(max(point.tokens for point in points))
    tokens, scores = [point.tokens / unit for point in points], [point.benchmark[group] for point in points]
    axes.fill_between(tokens, [s.low for s in scores], [s.high for s in scores], color=ACCENT, alpha=0.15, linewidth=0)
    _plot_line(axes, tokens, [score.score for score in scores])
    _style_axes(axes, unit_label)
    _label_last_value(axes, scores[-1].score, formatting.format_score(scores[-1].score))


def _plot_losses(axes: Axes, losses: Sequence[LossPoint]) -> None:
    width = -(-len(losses) // _MAX_LOSS_POINTS)
    groups = [losses[start : start + width] for start in range(0, len(losses), width)]
    means = [sum(point.loss for point in group) / len(group) for group in groups]
    axes.plot([group[-1].step for group in groups], means, color=ACCENT, linewidth=1.4, zorder=3)
    _style_axes(axes, gettext("step") if width == 1 else gettext("step (means of {n})", n=width), integer=True)
    _label_last_value(axes, means[-1], formatting.format_decimal(means[-1]))


def _plot_line(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    axes.plot(xs, ys, color=ACCENT, linewidth=2, marker="o", markersize=4, clip_on=False, zorder=3)


def _label_last_value(axes: Axes, value: float, text: str) -> None:
    axes.text(1.03, value, text, color=ACCENT, va="center", transform=axes.get_yaxis_transform())


def _style_axes(axes: Axes, label: str, *, integer: bool = False) -> None:
    axes.margins(x=0, y=0.1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS, integer=integer))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=TICK_STEPS))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(label)


def _choose_token_unit(tokens: float) -> tuple[float, str]:
    """Return the unit of an axis up to `tokens`, and its label."""
    if tokens >= 2e9:
        return 1e9, gettext("training tokens, billions")
    if tokens >= 2e6:
        return 1e6, gettext("training tokens, millions")
    return 1e3, gettext("training tokens, thousands")
