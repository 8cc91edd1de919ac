"""A tokenizer.json with another model: special tokens get other ids, everything else stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lep.io.sentencepiece_files import State


def with_model(state: State, model: State, *, ids: Mapping[str, int]) -> State:
    """The same normalizer, pre-tokenizer, decoder and added tokens around another model.

    Args:
        state: a tokenizer.json.
        model: its new model.
        ids: the id of every added token, by its text.
    """
    changed = state | {"model": model}
    changed["added_tokens"] = sorted(
        ({**item, "id": ids[item["content"]]} for item in state.get("added_tokens", [])), key=lambda item: item["id"]
    )
    changed["post_processor"] = _renumbered(state.get("post_processor"), ids)
    if state.get("padding"):
        changed["padding"] = state["padding"] | {"pad_id": ids[state["padding"]["pad_token"]]}
    return changed


def with_added_tokens(state: State, instruct: State, *, first: int) -> State:
    """The adapted tokenizer, with the added tokens of the instruct model that it lacks, numbered from `first`.

    `tokenizers` numbers an added token after the tokens that there are, whatever the file says: where ids below
    `first` are not used, the vocabulary names the token too.
    """
    items, model = list(state.get("added_tokens", [])), state["model"]
    known = {item["content"] for item in items}
    lacking = [item for item in instruct.get("added_tokens", []) if item["content"] not in known]
    lacking = [{**item, "id": first + i} for i, item in enumerate(lacking)]
    if isinstance(model["vocab"], Mapping) and len({*model["vocab"].values(), *(item["id"] for item in items)}) < first:
        model = model | {"vocab": model["vocab"] | {item["content"]: item["id"] for item in lacking}}
    return state | {"added_tokens": [*items, *lacking], "model": model}


def _renumbered(part: Any, ids: Mapping[str, int]) -> Any:
    """A post-processor that puts the same tokens around a text, by their new ids."""
    if not isinstance(part, dict):
        return part
    changed = dict(part)
    if part["type"] == "Sequence":
        changed["processors"] = [_renumbered(item, ids) for item in part["processors"]]
    if part["type"] == "TemplateProcessing":
        changed["special_tokens"] = {
            name: token | {"ids": [ids[text] for text in token["tokens"]]}
            for name, token in part["special_tokens"].items()
        }
    if part["type"] in ("BertProcessing", "RobertaProcessing"):
        changed |= {key: [part[key][0], ids[part[key][0]]] for key in ("sep", "cls")}
    return changed
