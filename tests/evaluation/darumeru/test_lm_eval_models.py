"""The model gets the ids that its chat template and its tokenizer make of the prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.evaluation.darumeru.document_records import DocumentRecord
from lep.evaluation.darumeru.lm_eval_models import CheckedLM, build_lm_eval_model
from lep.evaluation.darumeru.lm_eval_run import run_lm_eval_task
from lep.modeling.loading import load_model, load_tokenizer
from lep.progress import set_listener

BOS = "<|endoftext|>"


@pytest.fixture
def model_with_bos(make_random_model: Callable[..., Path], tmp_path: Path) -> Path:
    """As Llama-3: the tokenizer puts a token before every text, and so does the chat template."""
    folder = make_random_model(tmp_path / "model_with_bos")
    state = json.loads((folder / "tokenizer.json").read_text())
    template: list[Any] = [{"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {BOS: {"id": BOS, "ids": [0], "tokens": [BOS]}}
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": template,
        "pair": template,
        "special_tokens": special,
    }
    (folder / "tokenizer.json").write_text(json.dumps(state))
    chat_template = folder / "chat_template.jinja"
    chat_template.write_text("{{ bos_token }}" + chat_template.read_text())
    return folder


def run_task(
    folder: Path, task: str, data: Path, *, num_fewshot: int, chat_template: bool
) -> tuple[list[list[int]], list[DocumentRecord]]:
    """Return the prompt ids of each request, one at a time, and the records."""
    model, prompts = load_model(folder, dtype="float32"), []

    def record_prompt(module: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        ids = (args[0] if args else kwargs["input_ids"])[0].tolist()
        if len(ids) > 1:  # else the next token of an answer
            prompts.append(ids)

    model.register_forward_pre_hook(record_prompt, with_kwargs=True)
    lm = CheckedLM(build_lm_eval_model(model, load_tokenizer(folder), batch_size=1), label="")
    metadata = {"data": str(data), "tokenizer": str(folder)}
    return prompts, run_lm_eval_task(
        task, lm, num_fewshot=num_fewshot, chat_template=chat_template, limit=None, metadata=metadata
    )


@pytest.mark.parametrize("task", ["darumeru_parus", "darumeru_use"])
@pytest.mark.parametrize("chat", [True, False])
def test_a_prompt_has_one_bos_token(model_with_bos: Path, task: str, chat: bool, tiny_data: Path) -> None:
    prompts, records = run_task(model_with_bos, task, tiny_data, num_fewshot=2, chat_template=chat)
    assert len(prompts) == len(records)  # the options of a question are in one batch
    assert all(ids[0] == 0 and ids.count(0) == 1 for ids in prompts)


def test_the_prompt_is_rendered_by_the_chat_template(model_with_bos: Path, tiny_data: Path) -> None:
    tokenizer = load_tokenizer(model_with_bos)
    prompts, records = run_task(model_with_bos, "darumeru_use", tiny_data, num_fewshot=0, chat_template=True)
    questions = [record.prompt.partition("user\n")[2].partition("<|im_end|>")[0] for record in records]
    expected: list[Any] = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        for question in questions
    ]
    assert sorted(prompts) == sorted(expected)


def test_progress_counts_requests(make_random_model, tiny_data: Path, tmp_path: Path) -> None:
    class Listener:
        total, done, begun = 0.0, 0.0, 0

        def begin(self, label: str, total: float, unit: str, done: float) -> None:
            self.total, self.begun = self.total + total, self.begun + 1

        def advance(self, amount: float) -> None:
            self.done += amount

        def note(self, text: str) -> None: ...
        def status(self, text: str) -> None: ...
        def end(self) -> None: ...

    listener = Listener()
    set_listener(listener)
    try:
        for task in ("darumeru_rwsd", "darumeru_use"):
            run_task(make_random_model(tmp_path / task), task, tiny_data, num_fewshot=0, chat_template=True)
    finally:
        set_listener(None)
    assert listener.begun == 2 and listener.total == listener.done == 4 * 2 + 8
