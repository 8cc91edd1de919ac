"""Build copy tasks: repeat a sentence or an article word by word. They teach a model to generate its new tokens.

The texts are from the held-out split of a corpus, which training has not seen, after its beginning, which evaluations
read.

Source: arXiv 2412.21140.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from itertools import islice, zip_longest
from pathlib import Path
from random import Random
from typing import Any

from transformers import PreTrainedTokenizerBase

from lep.data.conversations import Conversation, Message
from lep.data.corpus import list_corpus_languages, read_corpus_documents
from lep.data.language_id import identify_language
from lep.errors import DataError
from lep.progress import log_message

SOURCE_NAME = "copy"
"""Name of the data that these conversations are from."""
EVALUATED_CHARACTERS = 60_000
"""Characters of each held-out split that `evaluate` reads by default."""
SENTENCE_LENGTH_RANGE = (40, 400)
"""Minimum and maximum characters of a sentence."""
MIN_ARTICLE_LENGTH = 400
"""Minimum characters of an article."""
RESERVED_TOKENS = 128
"""Tokens reserved for the instruction and the chat template."""
OVERSAMPLING_FACTOR = 2
"""Candidate texts for each task, as nothing that fits can be extracted from some of them."""

INSTRUCTIONS = {
    "ar": ("انسخ النص التالي كلمة بكلمة:", "أعد كتابة هذا النص دون أي تغيير:"),
    "be": ("Скапіруй тэкст слова ў слова:", "Перапішы гэты тэкст без змен:"),
    "de": ("Schreibe den Text Wort für Wort ab:", "Wiederhole diesen Text ohne Änderungen:"),
    "en": ("Copy the text word for word:", "Repeat this text without changes:", "Write the following text again:"),
    "es": ("Copia el texto palabra por palabra:", "Repite este texto sin cambios:"),
    "fr": ("Recopie le texte mot pour mot :", "Répète ce texte sans rien changer :"),
    "it": ("Copia il testo parola per parola:", "Ripeti questo testo senza modifiche:"),
    "ja": ("次の文章を一字一句そのまま書き写してください。", "この文章を変更せずに繰り返してください。"),
    "kk": ("Мәтінді сөзбе-сөз көшіріп жаз:", "Бұл мәтінді өзгертпей қайтала:"),
    "ko": ("다음 글을 그대로 옮겨 쓰세요:", "이 글을 바꾸지 말고 반복하세요:"),
    "pl": ("Przepisz tekst słowo w słowo:", "Powtórz ten tekst bez zmian:"),
    "pt": ("Copie o texto palavra por palavra:", "Repita este texto sem alterações:"),
    "ru": ("Скопируй текст слово в слово:", "Повтори этот текст без изменений:", "Перепиши следующий текст дословно:"),
    "tr": ("Metni kelimesi kelimesine kopyala:", "Bu metni değiştirmeden tekrarla:"),
    "uk": ("Скопіюй текст слово в слово:", "Повтори цей текст без змін:"),
    "zh": ("请逐字抄写以下文本：", "请原样重复这段文字："),
}
"""Instructions by language; an empty line and the text follow."""

_SENTENCE_BREAK = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][»”\"')])\s+|(?<=[。！？])|\n+")
_SENTENCE_END = re.compile(r"[.!?…。！？][»”\"')]?$")

TextExtractor = Callable[[str, Random], str]
"""Extracts the text to copy from an article; empty if nothing fits."""


def build_copy_tasks(
    corpus: Path,
    *,
    count: int,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    seed: int,
    evaluated_characters: int = EVALUATED_CHARACTERS,
) -> list[Conversation]:
    """Build tasks from the held-out splits of a corpus, in rotation over its languages: half sentences, half articles.

    A language without texts left is passed over. The same corpus and seed give the same tasks.

    Args:
        corpus: See `lep.data.corpus`.
        count: Number of tasks.
        tokenizer: Measures how much of an article fits.
        max_length: Tokens of a conversation, which contains the text twice.
        seed: Of the selection.
        evaluated_characters: Characters at the beginning of each held-out split that are not used.

    Returns:
        The tasks, sentences first.

    Raises:
        DataError: Too little text is held out, or there is no instruction in a language.
    """
    max_tokens = (max_length - RESERVED_TOKENS) // 2
    kinds: dict[str, tuple[int, int, TextExtractor]] = {
        "sentences": (count // 2, SENTENCE_LENGTH_RANGE[0], _extract_sentence),
        "articles": (
            count - count // 2,
            MIN_ARTICLE_LENGTH,
            lambda text, _: _extract_beginning(text, tokenizer, max_tokens=max_tokens),
        ),
    }
    tasks: list[Conversation] = []
    for kind, (num_tasks, min_characters, extract) in kinds.items():
        log_message(f"copy tasks: selecting {num_tasks:,} {kind} from the held-out text")
        streams = []
        for language in list_corpus_languages(corpus):
            documents = read_corpus_documents(corpus, language, "heldout")
            unread = _skip_characters(documents, characters=evaluated_characters)
            texts = _select_by_hash(
                (text for text in unread if len(text) >= min_characters),
                count=OVERSAMPLING_FACTOR * num_tasks,
                seed=seed,
            )
            streams.append(_generate_tasks(texts, extract, language=language, seed=seed))
        tasks += _take_tasks(num_tasks, streams, description=f"{corpus}: {num_tasks} {kind}")
    return tasks


def _take_tasks(count: int, streams: Sequence[Iterator[Conversation]], *, description: str) -> list[Conversation]:
    tasks = list(islice(_interleave_unique(streams), count))
    if len(tasks) < count:
        raise DataError(
            f"{description} are needed for copy tasks, but the held-out text gives {len(tasks)}; hold out more text, "
            "or lower copy_tasks.count"
        )
    return tasks


def _interleave_unique(streams: Sequence[Iterator[Conversation]]) -> Iterator[Conversation]:
    """Yield one task of each stream in rotation until all end; tasks with equal texts only once."""
    seen: set[str] = set()
    for row in zip_longest(*streams):
        for task in row:
            if task and (text := task.messages[-1].content) not in seen:
                seen.add(text)
                yield task


def _generate_tasks(
    texts: Sequence[str], extract: TextExtractor, *, language: str, seed: int
) -> Iterator[Conversation]:
    for text in texts:
        random = Random(f"{seed}:{text}")
        if passage := extract(text, random):
            place = f"{SOURCE_NAME}:{language}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            question = f"{random.choice(_select_instructions(language, text))}\n\n{passage}"
            yield Conversation((Message("user", question), Message("assistant", passage)), place, SOURCE_NAME)


def _select_instructions(language: str, text: str) -> tuple[str, ...]:
    """Return the instructions in the language of the corpus; identify it if its name is not a known code."""
    code = language if language in INSTRUCTIONS else identify_language(text)
    if code not in INSTRUCTIONS:
        raise DataError(
            f"copy tasks: no instruction for {language!r} (the text is in {code!r}); known languages: "
            f"{', '.join(INSTRUCTIONS)}; give a corpus without it"
        )
    return INSTRUCTIONS[code]


def _skip_characters(documents: Iterator[str], *, characters: int) -> Iterator[str]:
    """Yield the documents that begin after so many characters."""
    for document in documents:
        if characters <= 0:
            yield document
        characters -= len(document)


def _select_by_hash(documents: Iterator[str], *, count: int, seed: int) -> list[str]:
    """Return the documents with the smallest hashes, a selection that does not depend on their order."""
    return nsmallest(count, documents, key=lambda text: hashlib.sha256(f"{seed}:{text}".encode()).digest())


def _extract_sentence(text: str, random: Random) -> str:
    """Return a random sentence of suitable length; empty if there is none."""
    shortest, longest = SENTENCE_LENGTH_RANGE
    parts = [part.strip() for part in _SENTENCE_BREAK.split(text)]
    sentences = [
        part
        for part in parts
        if shortest <= len(part) <= longest and _SENTENCE_END.search(part) and not part[0].islower()
    ]
    return random.choice(sentences) if sentences else ""


def _extract_beginning(text: str, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int) -> str:
    """Return the text up to the last end of a sentence within the limit of tokens; empty if that is too short."""
    text = text.strip()
    encoding: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    if len(encoding["input_ids"]) > max_tokens:
        limit = encoding["offset_mapping"][max_tokens][0] if max_tokens > 0 else 0
        ends = [match.start() for match in _SENTENCE_BREAK.finditer(text, 0, limit)]
        text = text[: ends[-1]].rstrip() if ends else ""
    return text if len(text) >= MIN_ARTICLE_LENGTH else ""
