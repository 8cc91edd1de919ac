"""Speed and memory in tables: what a token of each kind of text is worth, and what it costs."""

from __future__ import annotations

from lep.reporting import formatting as rounding
from lep.reporting.i18n import language_name, say
from lep.reporting.tables.cells import NOTHING, Grid, Line, Marked, marked
from lep.results.efficiency import Efficiency, Efficient, Ratio, Ratios, Value


def reference(efficiency: Efficiency) -> str:
    """The model that the others are compared with; empty when there is only one."""
    return next((ratios.against for ratios in efficiency.ratios.values()), "")


def by_text(efficiency: Efficiency) -> list[Grid]:
    """Models by measures, a table for each kind of text; first the one that was read when speed was measured."""
    texts = dict.fromkeys((efficiency.settings.language, *(t for m in efficiency.models.values() for t in m.texts)))
    columns = (
        say("symbols per token"),
        say("bytes per token"),
        say("reading, characters/s"),
        say("writing, characters/s"),
        say("cache of 1,000 characters"),
        say("context, characters"),
    )
    return [
        Grid(language_name(text), columns, tuple(_of_text(name, text, efficiency) for name in efficiency.models))
        for text in texts
    ]


def by_model(efficiency: Efficiency) -> Grid:
    """What does not depend on the text."""
    columns = (say("weights"), say("context, tokens"), say("reading, tokens/s"), say("writing, tokens/s"))
    lines = (_of_model(name, model, efficiency.ratios.get(name)) for name, model in efficiency.models.items())
    return Grid(say("Whatever the text"), columns, tuple(lines))


def how(efficiency: Efficiency) -> str:
    """How speed was measured."""
    asked = efficiency.settings
    return say(
        "Measured on {device} by turns with the reference (rounds: {rounds}, prompts at once: {prompts}): {read} "
        "tokens read, {written} written. Characters per second are tokens per second times the symbols of a token of "
        "the text. It is this machine's speed, on that day.",
        device=asked.device,
        rounds=asked.rounds,
        prompts=asked.prompts,
        read=rounding.count(asked.prompt_tokens),
        written=rounding.count(asked.new_tokens),
    )


def _of_text(name: str, text: str, efficiency: Efficiency) -> Line:
    found, ratios = efficiency.models[name].texts.get(text), efficiency.ratios.get(name)
    if found is None:
        return Line(name, "", (NOTHING,) * 6)
    over = ratios.texts.get(text) if ratios else None
    cells = (
        marked(found.symbols_per_token, over and over.symbols_per_token, rounding.symbols_per_token),
        marked(found.bytes_per_token, None, rounding.decimal),
        marked(found.reading, over and over.reading, rounding.speed),
        marked(found.writing, over and over.writing, rounding.speed),
        _plain(found.cache_per_1000_characters, over and over.cache_per_1000_characters, size=True),
        _plain(found.context_characters, over and over.context_characters),
    )
    return Line(name, "", cells)


def _of_model(name: str, model: Efficient, ratios: Ratios | None) -> Line:
    speeds = (
        marked(model.tokens_per_second.get(kind), ratios and ratios.tokens_per_second.get(kind), rounding.speed)
        for kind in ("reading", "writing")
    )
    window = model.context.sliding_window
    context = _plain(model.context.tokens, None)
    if window:
        context = Marked(context.value, say("window of {n}", n=rounding.count(window)))
    return Line(name, "", (_plain(model.memory.weights, ratios and ratios.weights, size=True), context, *speeds))


def _plain(value: float | None, ratio: Ratio | None, *, size: bool = False) -> Marked:
    """What is counted, not measured: it has no interval."""
    show = rounding.memory if size else rounding.count
    return marked(None if value is None else Value(value), ratio, show)
