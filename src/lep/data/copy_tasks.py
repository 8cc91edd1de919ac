"""Copy tasks: write a sentence, or a whole article, again. They teach a model to write with its new tokens.

The texts are held-out ones, which training has not seen. Those at the beginning of the held-out half, which
measurements read, are left alone.

Source: METHOD §6.
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

from lep.config import Tuning
from lep.data.conversations import Conversation, Message
from lep.data.corpus import corpus_documents, corpus_languages
from lep.data.language_id import identify_language
from lep.errors import DataError
from lep.progress import note

SOURCE = "copy"
"""Name of the data that these conversations are from."""
MEASURED = 60_000
"""Characters of each held-out half that `evaluate` reads, if it is not told otherwise."""
SENTENCE = (40, 400)
"""Fewest and most characters of a sentence."""
SHORTEST = 400
"""Fewest characters of an article."""
ROOM = 128
"""Tokens left for the instruction and for what the chat template writes."""
SPARE = 2
"""So many times more texts are looked at than are needed: of some, nothing that fits can be taken."""

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
"""How a copy is asked for, by language; an empty line and the text follow."""

_BREAK = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][»”\"')])\s+|(?<=[。！？])|\n+")
_END = re.compile(r"[.!?…。！？][»”\"')]?$")

Take = Callable[[str, Random], str]
"""What is taken of an article; nothing where none of it fits."""


def wanted_copies(settings: Tuning, tokenizer: PreTrainedTokenizerBase) -> list[Conversation]:
    """The copy tasks that a tuning asks for; none where it asks for none."""
    if not settings.copies:
        return []
    return copy_tasks(
        settings.copies.corpus,
        count=settings.copies.count,
        tokenizer=tokenizer,
        maximum_length=settings.maximum_length,
        seed=settings.seed,
    )


def copy_tasks(
    corpus: Path,
    *,
    count: int,
    tokenizer: PreTrainedTokenizerBase,
    maximum_length: int,
    seed: int,
    measured: int = MEASURED,
) -> list[Conversation]:
    """Tasks from a corpus's held-out halves, its languages in turn: half of them a sentence, the others an article.

    A language that runs out of texts leaves its turn to the others. The same corpus and seed give the same tasks.

    Args:
        corpus: see `lep.data.corpus`.
        count: tasks.
        tokenizer: tells how much of an article fits.
        maximum_length: tokens of a conversation, in which the text stands twice.
        seed: of the choice.
        measured: characters at the beginning of each held-out half that are left alone.

    Raises:
        DataError: too little is held out, or there are no words to ask for a copy in a language.
    """
    limit = (maximum_length - ROOM) // 2
    kinds: dict[str, tuple[int, int, Take]] = {
        "sentences": (count // 2, SENTENCE[0], _sentence),
        "articles": (count - count // 2, SHORTEST, lambda text, _: _beginning(text, tokenizer, limit=limit)),
    }
    tasks: list[Conversation] = []
    for kind, (wanted, shortest, take) in kinds.items():
        note(f"copy tasks: choosing {wanted:,} {kind} from what is held out")
        streams = []
        for language in corpus_languages(corpus):
            left = _after(corpus_documents(corpus, language, "heldout"), characters=measured)
            texts = _chosen((text for text in left if len(text) >= shortest), count=SPARE * wanted, seed=seed)
            streams.append(_tasks(texts, take, language=language, seed=seed))
        tasks += _first(wanted, streams, what=f"{corpus}: {wanted} {kind}")
    return tasks


def _first(wanted: int, streams: Sequence[Iterator[Conversation]], *, what: str) -> list[Conversation]:
    made = list(islice(_in_turn(streams), wanted))
    if len(made) < wanted:
        raise DataError(
            f"{what} are needed for copy tasks, of what is held out {len(made)} can be used; hold out more text, or "
            "ask for fewer copies"
        )
    return made


def _in_turn(streams: Sequence[Iterator[Conversation]]) -> Iterator[Conversation]:
    """One task of each stream after the other, until all are at their end; of equal tasks the first."""
    seen: set[str] = set()
    for row in zip_longest(*streams):
        for task in row:
            if task and (text := task.messages[-1].content) not in seen:
                seen.add(text)
                yield task


def _tasks(texts: Sequence[str], take: Take, *, language: str, seed: int) -> Iterator[Conversation]:
    for text in texts:
        random = Random(f"{seed}:{text}")
        if taken := take(text, random):
            place = f"{SOURCE}:{language}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            asked = f"{random.choice(_instructions(language, text))}\n\n{taken}"
            yield Conversation((Message("user", asked), Message("assistant", taken)), place, SOURCE)


def _instructions(language: str, text: str) -> tuple[str, ...]:
    """By the name of the language in the corpus; where that is no code of one, by the text."""
    code = language if language in INSTRUCTIONS else identify_language(text)
    if code not in INSTRUCTIONS:
        raise DataError(
            f"copy tasks: there are no words to ask for a copy in {language!r} (the text is in {code!r}); known: "
            f"{', '.join(INSTRUCTIONS)}; give a corpus without it"
        )
    return INSTRUCTIONS[code]


def _after(documents: Iterator[str], *, characters: int) -> Iterator[str]:
    """The documents after the first so many characters; one that they reach into is left out."""
    for document in documents:
        if characters <= 0:
            yield document
        characters -= len(document)


def _chosen(documents: Iterator[str], *, count: int, seed: int) -> list[str]:
    """Documents with the smallest hashes: which and in which order does not depend on the order of the others."""
    return nsmallest(count, documents, key=lambda text: hashlib.sha256(f"{seed}:{text}".encode()).digest())


def _sentence(text: str, random: Random) -> str:
    """A sentence of the text that is neither too short nor too long."""
    fewest, most = SENTENCE
    parts = [part.strip() for part in _BREAK.split(text)]
    fitting = [part for part in parts if fewest <= len(part) <= most and _END.search(part) and not part[0].islower()]
    return random.choice(fitting) if fitting else ""


def _beginning(text: str, tokenizer: PreTrainedTokenizerBase, *, limit: int) -> str:
    """The whole text, or its beginning up to the last end of a sentence within `limit` tokens; nothing if too short."""
    text = text.strip()
    read: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    if len(read["input_ids"]) > limit:
        reach = read["offset_mapping"][limit][0] if limit > 0 else 0
        ends = [found.start() for found in _BREAK.finditer(text, 0, reach)]
        text = text[: ends[-1]].rstrip() if ends else ""
    return text if len(text) >= SHORTEST else ""
