"""Languages are identified from one sentence on, and unknown codes are named with similar ones."""

from __future__ import annotations

import pytest

from lep.data.language_id import check_language, identify_language
from lep.errors import UsageError

SENTENCES = {
    "ru": ["Сегодня утром мы долго гуляли по берегу реки.", "Этот роман написан в девятнадцатом веке."],
    "uk": ["Сьогодні вранці ми довго гуляли берегом річки.", "Цей роман написано у дев'ятнадцятому столітті."],
    "kk": ["Бүгін таңертең біз өзен жағасында ұзақ серуендедік.", "Бұл роман он тоғызыншы ғасырда жазылған."],
    "en": ["This morning we walked along the river for a long time.", "This novel was written in the last century."],
    "de": ["Heute Morgen sind wir lange am Fluss spazieren gegangen.", "Dieser Roman wurde im Winter geschrieben."],
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_enough(language: str) -> None:
    check_language(language, setting="here")
    assert [identify_language(text) for text in SENTENCES[language]] == [language] * 2


def test_only_the_beginning_is_used() -> None:
    ru, en = SENTENCES["ru"][0] + " ", SENTENCES["en"][0] + " "
    assert identify_language(ru * 50 + en * 1000) == "ru"


def test_text_in_no_language_has_its_own_code() -> None:
    assert {identify_language("12 345 678"), identify_language("")}.isdisjoint(SENTENCES)


@pytest.mark.parametrize(("code", "similar"), [("rus", "ru"), ("EN", "en"), ("kzk", "kk")])
def test_an_unknown_code_is_named_with_similar_and_known_ones(code: str, similar: str) -> None:
    with pytest.raises(UsageError, match=rf"here: '{code}' is not .*; similar: .*\b{similar}\b.*; known: ace, .*, zu$"):
        check_language(code, setting="here")
