"""Edit a parsed tokenizer.json: replace its model, merge added tokens, remap the ids of special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lep.io.sentencepiece_file import TokenizerJson


def replace_model(
    tokenizer_json: TokenizerJson, model: TokenizerJson, *, added_token_ids: Mapping[str, int]
) -> TokenizerJson:
    """Return the tokenizer with another model, keeping normalizer, pre-tokenizer, decoder and added tokens.

    Args:
        tokenizer_json: a parsed tokenizer.json.
        model: its new model.
        added_token_ids: the new id of every added token, by its text.

    Returns:
        A new tokenizer.json.
    """
    changed = tokenizer_json | {"model": model}
    changed["added_tokens"] = sorted(
        ({**item, "id": added_token_ids[item["content"]]} for item in tokenizer_json.get("added_tokens", [])),
        key=lambda item: item["id"],
    )
    changed["post_processor"] = _remap_post_processor(tokenizer_json.get("post_processor"), added_token_ids)
    if tokenizer_json.get("padding"):
        changed["padding"] = tokenizer_json["padding"] | {
            "pad_id": added_token_ids[tokenizer_json["padding"]["pad_token"]]
        }
    return changed


def merge_added_tokens(tokenizer_json: TokenizerJson, instruct: TokenizerJson, *, first_id: int) -> TokenizerJson:
    """Return the adapted tokenizer with the added tokens and the post-processor of the instruct model's.

    Added tokens that it lacks get ids from `first_id` on. Those in both keep their id and take the instruct model's
    attributes (special, stripping). `tokenizers` gives an added token the id after all tokens, whatever the file says:
    where ids below `first_id` are unused, the token is also written into the model's vocabulary.

    Args:
        tokenizer_json: the adapted tokenizer.
        instruct: the instruct model's tokenizer.
        first_id: the number of ids of the adapted tokenizer.

    Returns:
        A new tokenizer.json.
    """
    missing = {item["content"]: item for item in instruct.get("added_tokens", [])}
    kept = [{**missing.pop(item["content"], item), "id": item["id"]} for item in tokenizer_json.get("added_tokens", [])]
    added = [{**item, "id": first_id + i} for i, item in enumerate(missing.values())]
    model, ids = tokenizer_json["model"], {item["content"]: item["id"] for item in [*kept, *added]}
    if isinstance(model["vocab"], Mapping):
        if len({*model["vocab"].values(), *(item["id"] for item in kept)}) < first_id:
            model = model | {"vocab": model["vocab"] | {item["content"]: item["id"] for item in added}}
        ids = {**model["vocab"], **ids}
    changed = tokenizer_json | {"added_tokens": [*kept, *added], "model": model}
    return changed | {"post_processor": _remap_post_processor(instruct.get("post_processor"), ids)}


def _remap_post_processor(post_processor: Any, token_ids: Mapping[str, int]) -> Any:
    """Return a post-processor that adds the same tokens to a text, with their new ids."""
    if not isinstance(post_processor, dict):
        return post_processor
    changed = dict(post_processor)
    if post_processor["type"] == "Sequence":
        changed["processors"] = [_remap_post_processor(item, token_ids) for item in post_processor["processors"]]
    if post_processor["type"] == "TemplateProcessing":
        changed["special_tokens"] = {
            name: token | {"ids": [token_ids[text] for text in token["tokens"]]}
            for name, token in post_processor["special_tokens"].items()
        }
    if post_processor["type"] in ("BertProcessing", "RobertaProcessing"):
        changed |= {key: [post_processor[key][0], token_ids[post_processor[key][0]]] for key in ("sep", "cls")}
    return changed
