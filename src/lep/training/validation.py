"""Measure a model on held-out text while it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.core.metrics import bits_per_byte
from lep.data.document_tokens import get_document_prefix_id
from lep.modeling.likelihood import Likelihood, compute_likelihood
from lep.modeling.new_token_usage import compute_generated_new_fraction

MIN_NEW_TOKEN_FRACTION = 0.01
"""Fraction of new tokens in a text below which generation is not examined for them."""

_INITIAL_LOSS_DOCUMENTS, _INITIAL_LOSS_CHARACTERS = 2, 1000
"""Documents of each language, and characters of each, on which the initial loss is measured."""


@dataclass(frozen=True)
class ValidationSet:
    """Held-out texts by language, and the tokens that are new."""

    texts: Mapping[str, Sequence[str]]
    tokenizer: PreTrainedTokenizerBase
    new_ids: Int[Tensor, " new"]
    mixture: Mapping[str, float]
    """Weight of each language in the score; a language that is not in it has none."""
    sequence_length: int
    """Tokens of a window."""

    def compute_metrics(self, model: PreTrainedModel) -> dict[str, Any]:
        """Measure a model on every language.

        Args:
            model: A causal language model.

        Returns:
            By the names of the fields of `lep.results.stages.ValidationPoint`: `score`, mean bits per byte of the
            mixture, and by language what is measured of it.
        """
        rows = {language: self._compute_text_metrics(model, documents) for language, documents in self.texts.items()}
        names = dict.fromkeys(name for row in rows.values() for name in row)
        metrics = {name: {language: row[name] for language, row in rows.items() if name in row} for name in names}
        weights = {language: self.mixture.get(language, 0.0) for language in rows}
        score = sum(weight * rows[language]["bits_per_byte"] for language, weight in weights.items())
        return {"score": score / sum(weights.values()), **metrics}

    def compute_initial_loss(self, model: PreTrainedModel) -> float:
        """Return nats per token at the beginning of a few texts, of the language where it is least."""
        beginnings = (
            [text[:_INITIAL_LOSS_CHARACTERS] for text in documents[:_INITIAL_LOSS_DOCUMENTS]]
            for documents in self.texts.values()
        )
        likelihoods = [self._compute_likelihood(model, self._encode(texts)) for texts in beginnings]
        return min(likelihood.bits * log(2) / likelihood.tokens for likelihood in likelihoods)

    def _encode(self, documents: Sequence[str]) -> list[list[int]]:
        return [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in documents]  # pyright: ignore[reportReturnType]

    def _compute_likelihood(self, model: PreTrainedModel, ids: Sequence[Sequence[int]]) -> Likelihood:
        prefix_id = get_document_prefix_id(self.tokenizer)
        return compute_likelihood(
            model, ids, new_ids=self.new_ids, prefix_id=prefix_id, sequence_length=self.sequence_length
        )

    def _compute_text_metrics(self, model: PreTrainedModel, documents: Sequence[str]) -> dict[str, float]:
        ids = self._encode(documents)
        likelihood = self._compute_likelihood(model, ids)
        row: dict[str, float | None] = {"bits_per_byte": bits_per_byte(documents, bits=likelihood.bits)}
        if len(self.new_ids):
            row |= {
                name: getattr(likelihood, name)
                for name in ("new_token_loss", "old_token_loss", "new_token_probability", "new_token_fraction")
            }
        if likelihood.new_token_fraction >= MIN_NEW_TOKEN_FRACTION:
            row["generated_new_fraction"] = compute_generated_new_fraction(
                model, ids, new_ids=self.new_ids, prefix_id=get_document_prefix_id(self.tokenizer)
            )
        return {name: value for name, value in row.items() if value is not None}


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Return one line about a measurement."""
    bits = ", ".join(f"{language} {value:.4f}" for language, value in metrics["bits_per_byte"].items())
    sentences = [f"held-out bits per byte: {bits}"]
    for language, generated in metrics.get("generated_new_fraction", {}).items():
        fraction, probability, loss = (
            metrics[name][language] for name in ("new_token_fraction", "new_token_probability", "new_token_loss")
        )
        sentences.append(
            f"{language}: {fraction:.0%} of the tokens are new, with a loss of {loss:.2f} nats (other tokens "
            f"{metrics['old_token_loss'].get(language, 0):.2f}); the model gives them {probability:.0%} "
            f"probability and generates {generated:.0%}"
        )
    return "; ".join(sentences)
