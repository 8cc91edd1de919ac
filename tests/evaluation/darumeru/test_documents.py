"""Documents have what scoring needs, and an invalid row is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lep.data.records import Record
from lep.errors import DataError, TokenizerError
from lep.evaluation.darumeru import task_functions
from lep.evaluation.darumeru.documents import load_documents
from lep.evaluation.darumeru.prompts import build_instruction
from lep.evaluation.darumeru.text_units import tokenize_text


def write(folder: Path, name: str, **changes: object) -> str:
    """Write a local folder with one row of a data set, changed; None removes a column."""
    source = Path(__file__).parent / "data" / name
    (folder / name).mkdir()
    for split in ("test", "prompt"):
        row = {**json.loads((source / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()[0]), **changes}
        row = {key: value for key, value in row.items() if value is not None}
        (folder / name / f"{split}.jsonl").write_text(json.dumps(row), encoding="utf-8")
    return str(folder)


def test_a_pair_has_both_orders(data: str) -> None:
    first, second = list(load_documents(task="darumeru_parus", data=data)["test"])[:2]
    assert "1. Улица стала мокрой.\n2. Лампа погасла." in first["prompt"]
    assert "1. Лампа погасла.\n2. Улица стала мокрой." in second["prompt"]
    assert (first["gold"], second["gold"]) == (0, 1)
    assert first["pair_id"] == second["pair_id"]


def test_sentences_have_as_many_tokens_as_the_shortest(data: str, tokenizer: str) -> None:
    for name in ("", tokenizer):
        document = load_documents(task="darumeru_extractive", data=data, tokenizer=name)["test"][0]
        lengths = [len(tokenize_text(choice, tokenizer=name)) for choice in document["choices"]]
        assert len(set(lengths)) == 1 and lengths == document["token_counts"], name
        assert "Погода стояла ясная." in document["choices"]  # the shortest is complete
        assert "Вчера в Томске открылся новый мост через реку.".startswith(document["choices"][0])


def test_sentences_of_unlike_length_are_compared_by_the_mean(tmp_path: Path, tokenizer: str) -> None:
    """Each of these characters is three tokens: the cut after six would be inside the third of the first sentence."""
    data = write(tmp_path, "gazeta", sentences=["a日本語", "日本"], labels=[1, 0])
    document = load_documents(task="darumeru_extractive", data=data, tokenizer=tokenizer)["test"][0]
    assert (document["choices"], document["token_counts"]) == (["a日本", "日本"], [7, 6])
    assert task_functions.score_extraction(document, [(-7.0, False), (-6.6, False)])["score"] == 1
    assert task_functions.score_extraction(document, [(-7.0, False), (-5.4, False)])["score"] == 0


def test_copies_are_measured_in_the_model_s_tokens(data: str, tokenizer: str) -> None:
    document = load_documents(task="darumeru_cp_sent_ru", data=data, pretrained=tokenizer)["test"][1]
    output = "Над рекой"
    token_score = task_functions.score_sentence_copy(document, [output])["score"]
    original_length, length = (len(tokenize_text(text, tokenizer=tokenizer)) for text in (document["target"], output))
    assert token_score == length / original_length
    word_score = task_functions.score_sentence_copy({**document, "tokenizer": ""}, [output])["score"]
    assert word_score == 2 / 5


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no tokenizer to count tokens with"):
        tokenize_text("a", tokenizer=str(tmp_path))


@pytest.mark.parametrize(
    ("task", "name", "changes", "message"),
    [
        ("parus", "parus", {"outputs": None}, "no column 'outputs'; parus needs inputs, outputs, the row has"),
        ("parus", "parus", {"outputs": "3"}, "column 'outputs' is '3'; expected one of 1, 2"),
        ("parus", "parus", {"inputs": {"premise": "x"}}, "column 'inputs' needs choice1 and choice2"),
        ("rcb", "rcb", {"instruction": None}, "no column 'instruction' with a text"),
        ("rcb", "rcb", {"inputs": {"premise": "x"}}, "needs 'hypothesis', but column 'inputs' has premise"),
        ("use", "use", {"meta": {"id_task": "1"}}, "column 'meta' needs 'variant'"),
        ("multiq", "multiq", {"outputs": []}, "column 'outputs' has no answer"),
        ("rucola", "rucola", {"acceptable": 2}, "column 'acceptable' is 2; expected 0 or 1"),
        ("mmlu_ru", "mmlu_ru", {"choices_ru": ["a"]}, "column 'choices_ru' has 1 options; expected 4"),
        ("mmlu_en", "mmlu_ru", {"subject": "alchemy"}, "column 'subject' is 'alchemy'"),
        ("mmlu_en", "mmlu_ru", {"answer": 4}, "column 'answer' is 4; expected 0 to 3"),
        ("extractive", "gazeta", {"labels": [0, 0, 0, 0]}, "column 'labels' needs a 0 or 1 for each of 'sentences'"),
        ("extractive", "gazeta", {"sentences": ["a", "", "b", "c"]}, "column 'sentences' has an empty one"),
        ("cp_sent_en", "cp_sent_en", {"outputs": " "}, "column 'outputs' is empty"),
        (
            "cp_sent_en",
            "cp_sent_en",
            {"outputs": {}},
            "column 'outputs' is {}; cp_sent_en needs a text or a whole number",
        ),
        ("abstractive", "gazeta", {"text": 5}, "column 'text' is 5; gazeta needs a text there"),
        ("extractive", "gazeta", {"labels": "1"}, "column 'labels' is '1'; gazeta needs a list there"),
        ("rucola", "rucola", {"acceptable": "1"}, "column 'acceptable' is '1'; rucola needs a whole number there"),
    ],
)
def test_an_invalid_row_is_named(
    tmp_path: Path, task: str, name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError) as error:
        load_documents(task=f"darumeru_{task}", data=write(tmp_path, name, **changes))
    assert message in str(error.value)
    assert f"{name}/test.jsonl:1: " in str(error.value)


def test_an_instruction_may_be_messages() -> None:
    turns = [{"role": "user", "content": "Скопируй: {text}\n"}, {"role": "bot", "content": ""}]
    for column in ("instruction", "messages"):
        assert build_instruction(Record({column: turns, "inputs": {"text": "да"}}, "f:1")) == "Скопируй: да"
    assert build_instruction(Record({"instruction": "Copy: {inputs}", "inputs": "a {b}"}, "f:1")) == "Copy: a {b}"
