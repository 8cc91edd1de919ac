"""Wiki markup → clean prose: Russian documents from Wiktionary definitions, English ones from Wikipedia articles."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

import mwparserfromhell
from mwparserfromhell.nodes import Heading, Tag, Template, Wikilink
from mwparserfromhell.wikicode import Wikicode

DROPPED = "\ue000"  # a line that holds it is no prose, or has a hole
STRESS = "\u0301"
BLOCK_TAGS = {"table", "div", "blockquote", "center", "gallery", "ref", "references", "timeline"}
DROPPED_TAGS = {"li", "dd", "dt", "math"}
SHORTEST_GLOSS, SHORTEST_QUOTE = 15, 20
SHORTEST_PARAGRAPH, SHORTEST_ARTICLE = 100, 400
OBSCENE = re.compile(r"\{\{(мат|обсц\.|вульг\.|бранн\.|груб\.|эвф\.)[|}]")
HIDDEN_LINK = re.compile(r"\s*:?(image|file|media|category|изображение|файл|категория)\s*:", re.IGNORECASE)
INTERWIKI = re.compile(r"[a-z][a-z-]{1,11}:\S")
MARKUP = re.compile(r"[{}|<>\\=\[\]~^*_#@]|''|https?:|www\.|\(\s*[,;]|&[a-z]+;")
NOT_AN_ARTICLE = re.compile(r"(Lists? of|Timeline of|Index of) |[A-Z][a-z]+ \d{1,2}$|.*(:|\(disambiguation\))")
TIDYING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\s+", " "),
        (r"[<\[〈]\s*(\.{2,3}|…)\s*[>\]〉]", "…"),
        (r"―", "—"),
        (r"[\[<]([А-Яа-яЁё -]+)[\]>]", r"\1"),
        (r"\s*\[\d+\]", ""),
        (r"\s*(?://+|¶)\s*| / (?=[А-ЯЁ«—])", " "),
        (r"\s*\((?:[\s,;:.—–-]|ср\.|см\.|от|or|also|IPA)*\)", ""),
        (r"\(\s*[,;:–—]\s*", "("),
        (r"\s+([,;:.!?)»](?!\d))", r"\1"),
        (r"([(«])\s+", r"\1"),
        (r"[,;:](?:\s*[,;:])*([,;:])", r"\1"),
        (r"[,;:]\s*\.", "."),
        (r"(?<![.!?])\.\.(?!\.)", "."),
        (r"—(?:\s*—)+", "—"),
        (r"^—(?=\w)", "— "),
        (r"^[\s,;:.)/=-]+|[\s,;:(]+$", ""),
    )
)
TEMPLATES: dict[str, str] = {
    "выдел": "{}",
    '"': "«{}»",
    "-": " — ",
    "--": " — ",
    "...": "…",
    "…": "…",
    "итп": "и т. п.",
    "итд": "и т. д.",
    "=": "то же, что {}",
    "действие": "действие по значению глагола «{}»",
    "свойство": "свойство по значению прилагательного «{}»",
    "наречие": "наречие к слову «{}»",
}


def russian_documents(definitions: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Documents from Wiktionary: `lemma — gloss.` and, a line each, the quotations that illustrate it.

    A gloss or a quotation that differs from an earlier one in the lemma alone ("река в России") is left out.

    Args:
        definitions: Pairs of a lemma and its `lemma~ru~lemma~ru~markup~number~number`.

    Yields:
        Text without markup; what markup cannot be taken from is left out.
    """
    seen: set[str] = set()
    for lemma, definition in definitions:
        markup = definition.split("~", 4)[4].rsplit("~", 2)[0]
        if lemma.startswith("-") or lemma.endswith("-") or OBSCENE.search(markup):
            continue
        gloss, quotes = _gloss_and_quotes(markup)
        lines = [f"{lemma} — {gloss}"] if gloss and _are_new({gloss}, seen) else []
        lines += [text for text, pattern in quotes if _are_new({text, pattern} - {""}, seen)]
        if lines:
            yield "\n".join(lines)


def english_documents(pages: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Documents from Wikipedia: the paragraphs of prose of each article, a line each.

    Args:
        pages: Pairs of a title and its wiki markup.

    Yields:
        Text without redirects, lists, tables, headings, templates, references and pictures.
    """
    for title, markup in pages:
        if NOT_AN_ARTICLE.match(title) or markup.lstrip()[:9].upper() == "#REDIRECT" or "{{disambig" in markup:
            continue
        text = "\n".join(_paragraphs(markup))
        if len(text) >= SHORTEST_ARTICLE:
            yield text


def tidy(text: str) -> str:
    """What stripped markup leaves behind is mended: spaces, empty parentheses, doubled commas and dashes."""
    for pattern, replacement in TIDYING:
        text = pattern.sub(replacement, text)
    return text


def _are_new(keys: set[str], seen: set[str]) -> bool:
    """Whether none of `keys` was seen before; now they were."""
    new = seen.isdisjoint(keys)
    seen |= keys
    return new


def _gloss_and_quotes(markup: str) -> tuple[str, list[tuple[str, str]]]:
    """The gloss (empty: none) and the quotations, each with its pattern: its text without the highlighted word."""
    code = mwparserfromhell.parse(markup)
    quotes: list[tuple[str, str]] = []
    for template in code.filter_templates(recursive=code.RECURSE_OTHERS):
        if _name(template) == "пример":
            quote = _quotation(template)
            text = _russian(quote)
            if _is_clean(text, at_least=SHORTEST_QUOTE):
                quotes.append((text, _russian(quote, highlighted="")))
            code.remove(template)
    gloss = _russian(str(code)).strip(" ;,:.—")
    return (f"{gloss}." if _is_clean(gloss, at_least=SHORTEST_GLOSS) else ""), quotes


def _quotation(template: Template) -> str:
    """The quoted text of a `пример` template: its first parameter, or the one named `текст`."""
    if template.has("текст"):
        return str(template.get("текст").value)
    first = template.params[0] if template.params else None
    return str(first.value) if first is not None and not first.showkey else ""


def _russian(markup: str, *, highlighted: str = "{}") -> str:
    """Plain Russian text; templates are spelled as `TEMPLATES` says, or dropped when they are not there."""
    spelling = TEMPLATES | {"выдел": highlighted}

    def spell(template: Template) -> str:
        first = str(template.params[0].value) if template.params else ""
        form = spelling.get(_name(template), "")
        return form.replace("{}", _russian(first, highlighted=highlighted)) if first or "{}" not in form else ""

    return _stripped(markup, spell=spell)


def _stripped(markup: str, *, spell: Callable[[Template], str]) -> str:
    """One line of text without wiki markup."""
    code = mwparserfromhell.parse(markup)
    for template in code.filter_templates(recursive=code.RECURSE_OTHERS):
        code.replace(template, spell(template))
    text = code.strip_code(normalize=True, collapse=True)
    return tidy(unicodedata.normalize("NFC", text.replace(STRESS, "").replace("''", "")))


def _is_clean(text: str, *, at_least: int) -> bool:
    """Whether no markup is left in a text that is long enough."""
    return len(text) >= at_least and not MARKUP.search(text)


def _name(template: Template) -> str:
    return str(template.name).strip()


def _paragraphs(markup: str) -> Iterator[str]:
    """The lines of an article that are paragraphs of prose."""
    code = mwparserfromhell.parse(markup)
    _drop_what_is_not_prose(code)
    for line in code.strip_code(normalize=True, collapse=True).split("\n"):
        text = "" if DROPPED in line or line.startswith(" ") else tidy(line.replace("''", ""))
        if _is_clean(text, at_least=SHORTEST_PARAGRAPH) and not text[0].islower() and text[-1] in '.!?"”)':
            yield text


def _drop_what_is_not_prose(code: Wikicode) -> None:
    """Tables, headings, notes, pictures, links to other languages go; items of lists and formulas are marked."""
    for node in code.filter(recursive=True, forcetype=(Heading, Tag, Wikilink)):
        if isinstance(node, Wikilink):
            title = str(node.title)
            gone, mark = bool(HIDDEN_LINK.match(title) or (node.text is None and INTERWIKI.match(title))), ""
        elif isinstance(node, Tag):
            gone, mark = str(node.tag) in BLOCK_TAGS | DROPPED_TAGS, DROPPED if str(node.tag) in DROPPED_TAGS else ""
        else:
            gone, mark = True, ""
        if gone and code.contains(node):
            code.replace(node, mark)
