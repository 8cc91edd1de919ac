"""The chat template: absent, broken, with marks that are no tokens, with answers that do not end."""

from __future__ import annotations

import json
from pathlib import Path

from lep.inspection.inspect import inspect


def told(folder: Path) -> dict[str, str]:
    return {fact.name: fact.value for fact in inspect(folder).facts if fact.group == "chat"}


def write(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)


def test_a_template_that_renders(healthy: Path) -> None:
    facts = told(healthy)
    assert facts["template"] == "renders, with <|im_start|> <|im_end|>"
    assert facts["answers end with"] == "2 '<|im_end|>'"


def test_no_template_is_a_fact(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert told(model) == {"template": "none"} and not inspect(model).problems


def test_a_template_that_does_not_render(model: Path) -> None:
    write(model, "{{ messages[0]['content'] + missing.thing }}")
    assert any("the chat template does not render" in problem for problem in inspect(model).problems)
    write(model, "{% for message in %}")
    assert any("TemplateSyntaxError" in problem for problem in inspect(model).problems)


def test_marks_that_are_no_tokens(model: Path) -> None:
    write(model, "{% for m in messages %}<|user|>{{ m['content'] }}<|im_end|>{% endfor %}")
    (words,) = [remark for remark in inspect(model).remarks if "<|user|>" in remark]
    assert "writes <|user|>, which is no token: it is read in " in words and "pieces" in words


def test_an_answer_that_ends_where_generation_goes_on(model: Path, change) -> None:
    change(model / "generation_config.json", eos_token_id=[0])
    (words,) = [remark for remark in inspect(model).remarks if "ends an answer" in remark]
    assert "with 2 '<|im_end|>', at which generation does not stop (it does at 0); add 2 to eos_token_id" in words


def test_an_answer_without_an_end(model: Path) -> None:
    write(model, "{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    assert any("ends an answer with no special token" in remark for remark in inspect(model).remarks)


def test_a_conversation_that_does_not_come_back(model: Path, change) -> None:
    state = json.loads((model / "tokenizer.json").read_text())
    change(model / "tokenizer.json", normalizer={"type": "Lowercase"}, model=state["model"])
    (words,) = [remark for remark in inspect(model).remarks if "does not come back" in remark]
    assert "Какая" in words and "какая" in words
