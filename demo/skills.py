"""Generate a small instruction set: eight skills, one right answer per item, determined by a seed.

Held-out items have other documents, nouns, adjectives and pairs of numbers, not only other prompts. An answer is right
if it equals the completion. Accuracy of a model that only knows the format:

    copy_ru, copy_en             0    (the phrase is the answer)
    first_ru                     1/3  (for a model that copies a random word of the phrase)
    contains_ru, larger_ru, larger_en, sentiment_en   1/2
    category_en   1/6
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from lep.errors import DataError

TRAIN, HELDOUT = 190, 40
RUSSIAN_WORD, ENGLISH_WORD = "[а-яё]{2,14}", "[a-z]{2,14}"

PROMPT_TEMPLATES: dict[str, tuple[str, ...]] = {
    "copy_ru": ("Повтори слово в слово: {0}", "Напиши это ещё раз: {0}", "Скопируй фразу: {0}"),
    "first_ru": ("Какое слово первое? {0}", "Назови первое слово фразы: {0}"),
    "contains_ru": ("Есть ли слово «{1}» во фразе «{0}»?", "Фраза: {0}. Есть ли в ней слово «{1}»?"),
    "larger_ru": ("Какое число больше: {0} или {1}?", "Назови большее из чисел {0} и {1}."),
    "copy_en": ("Repeat word for word: {0}", "Write this again: {0}", "Copy the phrase: {0}"),
    "larger_en": ("Which number is larger: {0} or {1}?", "Name the larger of {0} and {1}."),
    "category_en": (
        "Animal, food, tool, vehicle, clothing or furniture: {0}?",
        "Is this an animal, food, tool, vehicle, clothing or furniture? {0}",
    ),
    "sentiment_en": ("Positive or negative? {0}", "Is this review positive or negative? {0}"),
}

# The last quarter of each list is for held-out rows.
NOUNS: dict[str, str] = {
    "animal": "dog cow horse sheep goat lion tiger bear wolf fox rabbit mouse monkey elephant camel donkey frog snake "
    "eagle duck shark whale bee ant cat pig deer zebra chicken owl dolphin spider",
    "food": "bread cheese rice soup apple banana orange potato carrot onion cake butter honey pasta salad sausage egg "
    "yogurt pie steak grape lemon peanut pizza tomato cookie pancake strawberry sandwich noodles chocolate bacon",
    "tool": "hammer saw wrench drill shovel axe pliers rake chisel screwdriver file crowbar spade hoe clamp hatchet "
    "sander mallet trowel pickaxe scythe anvil sickle tongs handsaw sledgehammer jackhammer pitchfork scissors "
    "chainsaw toolbox plunger",
    "vehicle": "car bus train truck bicycle airplane boat ship tram taxi van motorcycle helicopter tractor scooter "
    "submarine yacht wagon ferry jeep carriage canoe rocket sled minivan ambulance motorboat sailboat airliner "
    "limousine locomotive moped",
    "clothing": "shirt coat hat dress skirt sock glove scarf jacket sweater jeans shoe boot belt tie pajamas vest "
    "uniform blouse cap suit apron stockings slippers T-shirt raincoat trousers shorts sandals mittens hoodie tuxedo",
    "furniture": "table chair sofa bed desk wardrobe bookcase stool bench cupboard cabinet dresser armchair shelf "
    "couch nightstand cradle crib ottoman sideboard futon recliner hammock headboard bookshelf rocking-chair bunk-bed "
    "loveseat footstool high-chair coffee-table bedstead",
}
OPINIONS: dict[str, str] = {
    "positive": "wonderful excellent great amazing lovely superb brilliant delightful charming perfect beautiful "
    "outstanding splendid marvelous impressive good pleasant enjoyable fine magnificent fantastic fabulous "
    "nice terrific",
    "negative": "terrible awful horrible bad boring dreadful poor disgusting disappointing dull ugly unpleasant "
    "useless annoying miserable nasty lousy weak broken filthy worthless pathetic dirty appalling",
}
REVIEW_TEMPLATES = ("The {0} was {1}.", "We found the {0} quite {1}.", "What a {1} {0}!", "I think this {0} is {1}.")
REVIEW_SUBJECTS = (
    "film book hotel meal song room play concert game trip dinner show story phone lesson party museum camera"
).split()


@dataclass(frozen=True)
class Pool:
    """Material for the rows of one split; the splits share none of it."""

    russian: list[str]
    """Phrases of two to five words."""
    english: list[str]
    """Phrases of two to five words."""
    nouns: dict[str, list[str]]
    """Nouns by category."""
    opinions: dict[str, list[str]]
    """Adjectives by sentiment."""
    heldout: bool
    """Pairs of numbers with a sum divisible by five are held out."""


Item = tuple[tuple[str, ...], str]
"""Values for a prompt template, and the answer."""


def generate_rows(russian: Iterable[str], english: Iterable[str], *, seed: int) -> tuple[list[dict], list[dict]]:
    """Generate training rows, shuffled, and held-out rows, skill by skill.

    Args:
        russian: Russian documents, the source of phrases.
        english: English documents.
        seed: The same seed and documents give the same rows.

    Returns:
        Rows with `skill`, `prompt` and `completion`: `TRAIN` and `HELDOUT` of each skill.

    Raises:
        DataError: The documents have too few phrases.
    """
    random = Random(seed)
    phrases_ru = _iter_phrases(random, list(russian), word=RUSSIAN_WORD)
    phrases_en = _iter_phrases(random, list(english), word=ENGLISH_WORD)
    heldout = _generate_split(random, _build_pool(phrases_ru, phrases_en, heldout=True), count=HELDOUT)
    train = _generate_split(random, _build_pool(phrases_ru, phrases_en, heldout=False), count=TRAIN)
    random.shuffle(train)
    return train, heldout


def _build_pool(phrases_ru: Iterator[str], phrases_en: Iterator[str], *, heldout: bool) -> Pool:
    """Take the next phrases, and the words of this split."""
    size = 4 * (HELDOUT if heldout else TRAIN)

    def select(words: str) -> list[str]:
        all_words = words.split()
        boundary = 3 * len(all_words) // 4
        return all_words[boundary:] if heldout else all_words[:boundary]

    return Pool(
        russian=_take(phrases_ru, size, language="Russian"),
        english=_take(phrases_en, size, language="English"),
        nouns={category: select(words) for category, words in NOUNS.items()},
        opinions={sentiment: select(words) for sentiment, words in OPINIONS.items()},
        heldout=heldout,
    )


def _take(phrases: Iterator[str], count: int, *, language: str) -> list[str]:
    taken = list(islice(phrases, count))
    if len(taken) < count:
        raise DataError(f"{len(taken)} phrases left in the {language} documents, expected {count}: provide more text")
    return taken


def _iter_phrases(random: Random, documents: list[str], *, word: str) -> Iterator[str]:
    """Yield distinct phrases of two to five consecutive different words, at most one per document."""
    patterns = {count: re.compile(rf"(?<![\w-]){word}(?: {word}){{{count - 1}}}(?![\w-])") for count in (2, 3, 4, 5)}
    seen: set[str] = set()
    for document in random.sample(documents, len(documents)):
        candidates = patterns[random.choice((2, 3, 4, 5))].findall(document)
        phrase = random.choice(candidates) if candidates else ""
        if phrase and phrase not in seen and len(set(phrase.split())) == len(phrase.split()):
            seen.add(phrase)
            yield phrase


def _generate_split(random: Random, pool: Pool, *, count: int) -> list[dict]:
    """Generate `count` rows of each skill with distinct prompts."""
    rows: list[dict] = []
    for skill, make in SKILLS.items():
        prompts: set[str] = set()
        while len(prompts) < count:
            values, answer = make(random, pool, len(prompts))
            prompt = random.choice(PROMPT_TEMPLATES[skill]).format(*values)
            if prompt not in prompts:
                prompts.add(prompt)
                rows.append(_build_row(skill, prompt=prompt, answer=answer))
    return rows


def _build_row(skill: str, *, prompt: str, answer: str) -> dict:
    return {
        "skill": skill,
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def _copy_ru(random: Random, pool: Pool, index: int) -> Item:
    phrase = random.choice(pool.russian)
    return (phrase,), phrase


def _copy_en(random: Random, pool: Pool, index: int) -> Item:
    phrase = random.choice(pool.english)
    return (phrase,), phrase


def _first_ru(random: Random, pool: Pool, index: int) -> Item:
    phrase = random.choice(pool.russian)
    return (phrase,), phrase.split()[0]


def _contains_ru(random: Random, pool: Pool, index: int) -> Item:
    """Ask for a word of the phrase for even indices, else for a word of another phrase that is not in it."""
    phrase, other = random.choice(pool.russian), random.choice(pool.russian)
    present = index % 2 == 0
    words = [word for word in (phrase if present else other).split() if (word in phrase) == present and len(word) > 3]
    if not words:
        return _contains_ru(random, pool, index)
    return (phrase, random.choice(words)), "да" if present else "нет"


def _larger(random: Random, pool: Pool, index: int) -> Item:
    """Ask for the larger of two two-digit numbers; it comes first for even indices."""
    low, high = sorted(random.sample(range(10, 100), 2))
    if ((low + high) % 5 == 0) != pool.heldout:
        return _larger(random, pool, index)
    return ((str(high), str(low)) if index % 2 == 0 else (str(low), str(high))), str(high)


def _category_en(random: Random, pool: Pool, index: int) -> Item:
    category = list(pool.nouns)[index % len(pool.nouns)]
    return (random.choice(pool.nouns[category]),), category


def _sentiment_en(random: Random, pool: Pool, index: int) -> Item:
    sentiment = list(pool.opinions)[index % len(pool.opinions)]
    template, subject = random.choice(REVIEW_TEMPLATES), random.choice(REVIEW_SUBJECTS)
    return (template.format(subject, random.choice(pool.opinions[sentiment])),), sentiment


SKILLS: dict[str, Callable[[Random, Pool, int], Item]] = {
    "copy_ru": _copy_ru,
    "first_ru": _first_ru,
    "contains_ru": _contains_ru,
    "larger_ru": _larger,
    "copy_en": _copy_en,
    "larger_en": _larger,
    "category_en": _category_en,
    "sentiment_en": _sentiment_en,
}
