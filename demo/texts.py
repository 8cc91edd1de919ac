"""Convert wiki markup to plain text: Russian documents from Wiktionary, English documents from Wikipedia."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

import mwparserfromhell
from mwparserfromhell.nodes import Heading, Tag, Template, Wikilink
from mwparserfromhell.wikicode import Wikicode

DROP_MARKER = "\ue000"  # lines with it are dropped: they are not prose, or something was removed from them
STRESS_MARK = "\u0301"
BLOCK_TAGS = {"table", "div", "blockquote", "center", "gallery", "ref", "references", "timeline"}
DROPPED_TAGS = {"li", "dd", "dt", "math"}
MIN_GLOSS_LENGTH, MIN_QUOTE_LENGTH = 15, 20
MIN_PARAGRAPH_LENGTH, MIN_ARTICLE_LENGTH = 100, 400
OBSCENE = re.compile(r"\{\{(мат|обсц\.|вульг\.|бранн\.|груб\.|эвф\.)[|}]")
FILE_OR_CATEGORY_LINK = re.compile(r"\s*:?(image|file|media|category|изображение|файл|категория)\s*:", re.IGNORECASE)
INTERWIKI_LINK = re.compile(r"[a-z][a-z-]{1,11}:\S")
LEFTOVER_MARKUP = re.compile(r"[{}|<>\\=\[\]~^*_#@]|''|https?:|www\.|\(\s*[,;]|&[a-z]+;")
NON_ARTICLE_TITLE = re.compile(r"(Lists? of|Timeline of|Index of) |[A-Z][a-z]+ \d{1,2}$|.*(:|\(disambiguation\))")
CLEANUP_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
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
TEMPLATE_TEXTS: dict[str, str] = {
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
    """Yield documents from Wiktionary: `lemma — gloss.` and the quotations of the entry, one per line.

    Glosses and quotations that differ from earlier ones only in the lemma ("река в России") are left out.

    Args:
        definitions: Pairs of a lemma and its `lemma~ru~lemma~ru~markup~number~number`.

    Yields:
        Plain text; definitions with markup that cannot be removed are left out.
    """
    seen: set[str] = set()
    for lemma, definition in definitions:
        markup = definition.split("~", 4)[4].rsplit("~", 2)[0]
        if lemma.startswith("-") or lemma.endswith("-") or OBSCENE.search(markup):
            continue
        gloss, quotes = _extract_gloss_and_quotes(markup)
        lines = [f"{lemma} — {gloss}"] if gloss and _are_new({gloss}, seen) else []
        lines += [text for text, pattern in quotes if _are_new({text, pattern} - {""}, seen)]
        if lines:
            yield "\n".join(lines)


def english_documents(pages: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield documents from Wikipedia: the paragraphs of each article, one per line.

    Args:
        pages: Pairs of a title and its wiki markup.

    Yields:
        Plain text without lists, tables, headings, templates, references and images; redirects are skipped.
    """
    for title, markup in pages:
        if NON_ARTICLE_TITLE.match(title) or markup.lstrip()[:9].upper() == "#REDIRECT" or "{{disambig" in markup:
            continue
        text = "\n".join(_iter_paragraphs(markup))
        if len(text) >= MIN_ARTICLE_LENGTH:
            yield text


def clean_up(text: str) -> str:
    """Remove what stripped markup leaves behind: spaces, empty parentheses, repeated commas and dashes."""
    for pattern, replacement in CLEANUP_RULES:
        text = pattern.sub(replacement, text)
    return text


def _are_new(keys: set[str], seen: set[str]) -> bool:
    """Return whether none of `keys` is in `seen`, and add them to it."""
    are_new = seen.isdisjoint(keys)
    seen |= keys
    return are_new


def _extract_gloss_and_quotes(markup: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the gloss, which may be empty, and the quotations, each with its text without the highlighted word."""
    code = mwparserfromhell.parse(markup)
    quotes: list[tuple[str, str]] = []
    for template in code.filter_templates(recursive=code.RECURSE_OTHERS):
        if _get_name(template) == "пример":
            quote = _get_quotation(template)
            text = _render_russian(quote)
            if _is_clean(text, min_length=MIN_QUOTE_LENGTH):
                quotes.append((text, _render_russian(quote, highlighted="")))
            code.remove(template)
    gloss = _render_russian(str(code)).strip(" ;,:.—")
    return (f"{gloss}." if _is_clean(gloss, min_length=MIN_GLOSS_LENGTH) else ""), quotes


def _get_quotation(template: Template) -> str:
    """Return the text of a `пример` template: its parameter `текст`, else its first one."""
    if template.has("текст"):
        return str(template.get("текст").value)
    first = template.params[0] if template.params else None
    return str(first.value) if first is not None and not first.showkey else ""


def _render_russian(markup: str, *, highlighted: str = "{}") -> str:
    """Convert Russian markup to plain text; templates are replaced by `TEMPLATE_TEXTS`, others are dropped."""
    texts = TEMPLATE_TEXTS | {"выдел": highlighted}

    def render(template: Template) -> str:
        first = str(template.params[0].value) if template.params else ""
        text = texts.get(_get_name(template), "")
        return text.replace("{}", _render_russian(first, highlighted=highlighted)) if first or "{}" not in text else ""

    return _strip_markup(markup, render_template=render)


def _strip_markup(markup: str, *, render_template: Callable[[Template], str]) -> str:
    """Convert wiki markup to one line of plain text."""
    code = mwparserfromhell.parse(markup)
    for template in code.filter_templates(recursive=code.RECURSE_OTHERS):
        code.replace(template, render_template(template))
    text = code.strip_code(normalize=True, collapse=True)
    return clean_up(unicodedata.normalize("NFC", text.replace(STRESS_MARK, "").replace("''", "")))


def _is_clean(text: str, *, min_length: int) -> bool:
    """Return whether a text has no markup left and at least `min_length` characters."""
    return len(text) >= min_length and not LEFTOVER_MARKUP.search(text)


def _get_name(template: Template) -> str:
    return str(template.name).strip()


def _iter_paragraphs(markup: str) -> Iterator[str]:
    """Yield the paragraphs of an article."""
    code = mwparserfromhell.parse(markup)
    _remove_non_prose(code)
    for line in code.strip_code(normalize=True, collapse=True).split("\n"):
        text = "" if DROP_MARKER in line or line.startswith(" ") else clean_up(line.replace("''", ""))
        if _is_clean(text, min_length=MIN_PARAGRAPH_LENGTH) and not text[0].islower() and text[-1] in '.!?"”)':
            yield text


def _remove_non_prose(code: Wikicode) -> None:
    """Remove tables, headings, notes, images and links to other languages; mark list items and formulas."""
    for node in code.filter(recursive=True, forcetype=(Heading, Tag, Wikilink)):
        marker = ""
        if isinstance(node, Wikilink):
            title = str(node.title)
            is_interwiki = node.text is None and bool(INTERWIKI_LINK.match(title))
            is_removed = is_interwiki or bool(FILE_OR_CATEGORY_LINK.match(title))
        elif isinstance(node, Tag):
            is_removed = str(node.tag) in BLOCK_TAGS | DROPPED_TAGS
            marker = DROP_MARKER if str(node.tag) in DROPPED_TAGS else ""
        else:
            is_removed = True
        if is_removed and code.contains(node):
            code.replace(node, marker)
