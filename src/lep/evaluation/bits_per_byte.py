"""Measure how well a model predicts texts, and into how many tokens its tokenizer encodes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.core.metrics import bits_per_byte, characters_per_token
from lep.data.document_tokens import get_document_prefix_id
from lep.evaluation.tokenize import tokenize_documents
from lep.modeling.likelihood import compute_total_bits
from lep.progress import track_progress
from lep.results.evaluation import ModelEvaluation


def measure_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Mapping[str, Sequence[str]],
    *,
    model_name: str,
    sequence_length: int,
) -> ModelEvaluation:
    """Compute characters per token and bits per byte. See `docs/mathematics.md#bits-per-byte`.

    Args:
        model: A causal language model, in evaluation mode.
        tokenizer: Of the model.
        texts: Documents by language or kind.
        model_name: Of progress and errors.
        sequence_length: Length of the windows in which documents are predicted, in tokens.

    Returns:
        Both measures for each kind of text.
    """
    prefix_id = get_document_prefix_id(tokenizer)
    characters, bits = {}, {}
    for name, documents in texts.items():
        ids = tokenize_documents(tokenizer, documents, model_name=model_name, text_name=name)
        tokens = sum(map(len, ids))
        characters[name] = characters_per_token(documents, tokens=tokens)
        with track_progress(f"{model_name}: reading {name}", total=tokens, unit="tokens") as advance:
            total = compute_total_bits(
                model, ids, prefix_id=prefix_id, sequence_length=sequence_length, advance=advance
            )
        bits[name] = bits_per_byte(documents, bits=total)
    return ModelEvaluation(characters, bits)
