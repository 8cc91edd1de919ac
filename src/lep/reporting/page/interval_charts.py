"""Charts of measures with their intervals, one line per model: skills, benchmark, speed and side effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lep.reporting.formatting import (
    Formatter,
    format_interval,
    format_percent,
    format_rate,
    format_score,
    format_signed,
)
from lep.reporting.i18n import gettext, language_name
from lep.reporting.page.svg import ACCENT, INK, MUTED, RULE, TICK_STEPS, Chart, draw_chart, shorten_name
from lep.reporting.run_data import RunData
from lep.results.evaluation import BENCHMARK_COLUMNS
from lep.results.report import PaperComparison
from lep.results.statistics import MeasuredValue


def draw_skill_charts(run_data: RunData) -> list[Chart]:
    """Draw the accuracy of each skill with its interval."""
    models = {name: model.skills for name, model in run_data.evaluation.models.items() if model.skills}
    charts = []
    for index, skill in enumerate(dict.fromkeys(skill for skills in models.values() for skill in skills)):
        scores = {name: skills[skill] for name, skills in models.items() if skill in skills}
        charts.append(
            _draw_interval_chart(
                {name: MeasuredValue(score.accuracy, (score.low, score.high)) for name, score in scores.items()},
                run_data,
                id_prefix=f"skill{index}",
                title=gettext("All skills") if skill == "all" else skill.replace("_", " "),
                formatter=_format_whole_percent,
                configure_axes=_show_unit_x_axis,
            )
        )
    return charts


def draw_benchmark_charts(run_data: RunData, paper_comparisons: Sequence[PaperComparison] = ()) -> list[Chart]:
    """Draw the Micro-Avg and each group with intervals, and the paper's scores where they are comparable."""
    models = run_data.evaluation.benchmark.models if run_data.evaluation.benchmark else {}
    charts = []
    for index, column in enumerate(BENCHMARK_COLUMNS):
        averages = {name: model.averages[column] for name, model in models.items() if column in model.averages}
        if averages:
            paper_scores = {
                comparison.model: pair.paper_score
                for comparison in paper_comparisons
                for pair in comparison.pairs
                if pair.column == column and pair.difference is not None
            }
            charts.append(
                _draw_interval_chart(
                    {name: MeasuredValue(average.score, average.interval) for name, average in averages.items()},
                    run_data,
                    id_prefix=f"score{index}",
                    title=column,
                    formatter=format_score,
                    paper_scores=paper_scores,
                )
            )
    return charts


def draw_speed_charts(run_data: RunData) -> list[Chart]:
    """Draw characters per second of prefill and of generation, in the language that speed was measured on."""
    if not (efficiency := run_data.evaluation.efficiency):
        return []
    text = efficiency.settings.language
    language = language_name(text)
    models = {name: model.texts[text] for name, model in efficiency.models.items()}
    measures = (
        (
            "prefill",
            gettext("Prefill, characters per second, {language}", language=language),
            {name: measured.prefill for name, measured in models.items()},
        ),
        (
            "decode",
            gettext("Generation, characters per second, {language}", language=language),
            {name: measured.decode for name, measured in models.items()},
        ),
    )
    return [
        _draw_interval_chart(
            values,
            run_data,
            id_prefix=id_prefix,
            title=title,
            formatter=format_rate,
            configure_axes=_start_x_axis_at_zero,
        )
        for id_prefix, title, values in measures
    ]


def draw_side_effect_charts(run_data: RunData) -> list[Chart]:
    """Draw the difference of bits per byte to the reference, a chart for each text: right of 0 is worse."""
    differences = run_data.evaluation.side_effects.differences if run_data.evaluation.side_effects else {}
    charts = []
    for index, text in enumerate(dict.fromkeys(t for model in differences.values() for t in model.bits_per_byte)):
        changes = {
            name: model.bits_per_byte[text] for name, model in differences.items() if text in model.bits_per_byte
        }
        charts.append(
            _draw_interval_chart(
                {name: MeasuredValue(change.difference, change.interval) for name, change in changes.items()},
                run_data,
                id_prefix=f"effect{index}",
                title=language_name(text),
                formatter=format_signed,
                reference_value=0.0,
            )
        )
    return charts


def _format_whole_percent(share: float | None) -> str:
    return format_percent(share, 0)


def _fit_x_axis(axes: Axes) -> None:
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=TICK_STEPS))


def _start_x_axis_at_zero(axes: Axes) -> None:
    _fit_x_axis(axes)
    axes.set_xlim(left=0.0)


def _show_unit_x_axis(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])


def _draw_interval_chart(
    measures: Mapping[str, MeasuredValue],
    run_data: RunData,
    *,
    id_prefix: str,
    title: str,
    formatter: Formatter,
    configure_axes: Callable[[Axes], None] = _fit_x_axis,
    reference_value: float | None = None,
    paper_scores: Mapping[str, float] = MappingProxyType({}),
) -> Chart:
    """Draw a dot with its interval for each model, and a dotted line at the reference.

    Args:
        measures: A measure of each model.
        run_data: Which models are the result and the reference.
        id_prefix: Prefix of ids, unique in the page.
        title: Heading of the chart.
        formatter: Rounds a measure.
        configure_axes: Sets limits and ticks of the x axis.
        reference_value: Position of the dotted line; None: the measure of the reference model.
        paper_scores: The paper's score by model.

    Returns:
        The chart.
    """
    if reference_value is None and run_data.reference_model in measures:
        reference_value = measures[run_data.reference_model].value

    def plot(axes: Axes) -> None:
        if reference_value is not None:
            axes.axvline(reference_value, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        _plot_points(axes, measures, run_data, formatter)
        _plot_paper_scores(axes, {list(measures).index(model): score for model, score in paper_scores.items()})
        configure_axes(axes)

    texts = [f"{model} {_describe_measure(measure, formatter)}" for model, measure in measures.items()]
    texts += [f"{gettext('the paper')}, {model} {formatter(score)}" for model, score in paper_scores.items()]
    size = (3.7, 0.55 + 0.23 * len(measures))
    return draw_chart(plot, id_prefix=id_prefix, title=title, alt_text="; ".join(texts), size=size)


def _plot_points(axes: Axes, measures: Mapping[str, MeasuredValue], run_data: RunData, formatter: Formatter) -> None:
    colors = {
        name: ACCENT if name == run_data.result_model else INK if name == run_data.reference_model else MUTED
        for name in measures
    }
    transform = axes.get_yaxis_transform()
    for height, (name, measure) in enumerate(measures.items()):
        ends = measure.interval or (measure.value, measure.value)
        axes.plot(ends, [height] * 2, color=colors[name], linewidth=1.6, alpha=0.55)
        axes.plot([measure.value], [height], "o", color=colors[name], markersize=5.5, clip_on=False, zorder=3)
        axes.text(1.03, height, formatter(measure.value), color=colors[name], va="center", transform=transform)
    axes.set_yticks(range(len(measures)), [shorten_name(name) for name in measures])
    for label, color in zip(axes.get_yticklabels(), colors.values(), strict=True):
        label.set_color(color)
    axes.set_ylim(len(measures) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=RULE)


def _plot_paper_scores(axes: Axes, scores: Mapping[int, float]) -> None:
    style = {"color": INK, "markersize": 5, "fillstyle": "none"}
    axes.plot(list(scores.values()), list(scores), "D", **style, clip_on=False, zorder=4)


def _describe_measure(measure: MeasuredValue, formatter: Formatter) -> str:
    interval = f" ({format_interval(measure.interval, formatter)})" if measure.interval else ""
    return f"{formatter(measure.value)}{interval}"
