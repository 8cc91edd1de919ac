"""A conversation that reads otherwise, or whose ids spell otherwise, is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from lep.errors import TokenizerError
from lep.modeling.chat_parity import TEST_CONVERSATION, check_chat_parity

TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"


@pytest.fixture
def make(tokenizers, tmp_path) -> Callable[..., Path]:
    """`make(name, template, family, **parts)`: a tokenizer's folder with a template and other parts of its file."""

    def make(name: str, template: str | None = TEMPLATE, *, family: str = "byte_level", **parts: Any) -> Path:
        folder = Path(shutil.copytree(tokenizers[family], tmp_path / name))
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        if template:
            (folder / "chat_template.jinja").write_text(template)
        file = folder / "tokenizer.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | parts))
        return folder

    return make


def test_its_length_is_counted_in_new_tokens(make) -> None:
    """Russian costs less in the Russian vocabulary."""
    old, new = make("old"), make("new", family="russian_byte_level")
    text = "".join(f"<|im_start|>{message['content']}<|im_end|>" for message in TEST_CONVERSATION)
    assert check_chat_parity(old, new) == len(AutoTokenizer.from_pretrained(new)(text)["input_ids"])
    assert (
        check_chat_parity(old, old)
        == len(AutoTokenizer.from_pretrained(old)(text)["input_ids"])
        > check_chat_parity(old, new)
    )


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ raise_exception('a system message is needed') }}",
        "{{ messages[7]['content'] }}",
        "{{ tools | length }}",
        "{{ 1 + messages }}",
    ],
)
def test_a_template_that_wants_more_than_a_conversation_is_left_alone(make, template) -> None:
    assert check_chat_parity(make("old", template), make("new", template)) is None


@pytest.mark.parametrize("template", [None, "other", TEMPLATE + " ", "{{ raise_exception('no') }}"])
def test_another_text_is_refused(make, template) -> None:
    with pytest.raises(TokenizerError, match=r"new: renders a conversation as .*old as '<\|im_start\|>What is"):
        check_chat_parity(make("old"), make("new", template))


def test_ids_that_spell_another_text_are_refused(make) -> None:
    with pytest.raises(TokenizerError, match=r"new: the ids of a conversation decode to '.*what is.*not to '.*What"):
        check_chat_parity(make("old"), make("new", normalizer={"type": "Lowercase"}))


def test_unless_the_instruct_models_do_as_well(make) -> None:
    lower = {"type": "Lowercase"}
    assert check_chat_parity(make("old", normalizer=lower), make("new", normalizer=lower))


def test_what_stands_around_a_text_is_no_part_of_it(make) -> None:
    """A template writes the beginning itself: the post-processor's must not come twice."""
    first = {"single": [{"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}
    first |= {"type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}]}
    first["pair"] += [{"Sequence": {"id": "B", "type_id": 1}}]
    first["special_tokens"] = {"<|im_end|>": {"id": "<|im_end|>", "ids": [2], "tokens": ["<|im_end|>"]}}
    assert check_chat_parity(make("old", post_processor=first), make("new", post_processor=first)) == check_chat_parity(
        make("plain"), make("plainer")
    )


def test_a_template_of_the_settings_counts_too(make) -> None:
    old, new = make("old"), make("new", None)
    settings = json.loads((new / "tokenizer_config.json").read_text())
    (new / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TEMPLATE}))
    assert check_chat_parity(old, new) == check_chat_parity(old, old)
