"""What is measured on held-out text while a model learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from lep.core.metrics import bits_per_byte
from lep.data.document_tokens import document_prefix
from lep.modeling.likelihood import likelihood
from lep.modeling.new_token_usage import written_share

SPOKEN = 0.01
"""Share of new tokens in a text below which it is not asked whether the model writes them."""

_LOOK = 1000
"""Characters of a document that a first look takes."""


@dataclass(frozen=True)
class HeldOut:
    """Texts that are kept from training, by language, and the tokens that are new."""

    texts: Mapping[str, Sequence[str]]
    tokenizer: PreTrainedTokenizerBase
    new_ids: Int[Tensor, " new"]
    mixture: Mapping[str, float]
    """What each language weighs in the score; one that is not there weighs nothing."""
    block: int
    """Tokens that are seen at a time."""

    def measure(self, model: nn.Module) -> dict[str, Any]:
        """Bits per byte by language, `score`, their mean by the mixture, and how the new tokens fare.

        By language: `loss_new` and `loss_old`, nats per token that is new or not; `mass_new`, the probability that the
        model gives to new tokens, and `share_new`, how many of the text's tokens are new; `written_new`, how many of
        those are that it writes when it continues the text greedily.
        """
        found = {language: self._of_text(model, documents) for language, documents in self.texts.items()}
        keys = dict.fromkeys(key for row in found.values() for key in row)
        by_key = {key: {language: row[key] for language, row in found.items() if key in row} for key in keys}
        shares = {language: self.mixture.get(language, 0.0) for language in found}
        score = sum(share * found[language]["bits_per_byte"] for language, share in shares.items())
        return {"score": score / sum(shares.values()), **by_key}

    def first_loss(self, model: nn.Module) -> float:
        """Nats per token of the first few hundred tokens of each language, the least of them."""
        losses = []
        for documents in self.texts.values():
            ids = [self.tokenizer(text[:_LOOK], add_special_tokens=False)["input_ids"] for text in documents[:2]]
            told = likelihood(
                model, ids, new_ids=self.new_ids, prefix=document_prefix(self.tokenizer), block=self.block
            )
            losses.append(told.bits * log(2) / told.tokens)
        return min(losses)

    def _of_text(self, model: nn.Module, documents: Sequence[str]) -> dict[str, float]:
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in documents]
        prefix = document_prefix(self.tokenizer)
        told = likelihood(model, ids, new_ids=self.new_ids, prefix=prefix, block=self.block)
        row: dict[str, float | None] = {"bits_per_byte": bits_per_byte(documents, bits=told.bits)}
        if len(self.new_ids):
            row |= {"loss_new": told.new_loss, "loss_old": told.old_loss}
            row |= {"mass_new": told.new_mass, "share_new": told.new_share}
        if told.new_share >= SPOKEN:
            row["written_new"] = written_share(model, ids, new_ids=self.new_ids, prefix=prefix)
        return {name: value for name, value in row.items() if value is not None}


def in_words(found: Mapping[str, Any]) -> str:
    """One line about a measurement."""
    bits = ", ".join(f"{language} {value:.4f}" for language, value in found["bits_per_byte"].items())
    words = [f"held-out bits per byte: {bits}"]
    for language, written in found.get("written_new", {}).items():
        share, mass, loss = (found[name][language] for name in ("share_new", "mass_new", "loss_new"))
        words.append(
            f"{language}: {share:.0%} of the tokens are new, their loss is {loss:.2f} nats (of others "
            f"{found['loss_old'].get(language, 0):.2f}), the model expects {mass:.0%} and writes {written:.0%}"
        )
    return "; ".join(words)
