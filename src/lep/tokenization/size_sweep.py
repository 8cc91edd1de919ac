"""Token counts of a text at every size of a vocabulary candidate, from one pass with its largest size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lep.core.vocabulary_sizing import SizeMeasurement, candidate_sizes, compute_counts_at_sizes
from lep.io.tokenizer_file import TokenizerFile
from lep.tokenization.builders import BuiltVocabulary, VocabularyCandidate


def sweep_sizes(
    base: TokenizerFile,
    candidate: VocabularyCandidate,
    *,
    texts: Mapping[str, Sequence[str]],
    words: Iterable[tuple[str, int]],
    training_tokens: int | None,
) -> list[SizeMeasurement]:
    """Measure the base as it is, then each size of `lep.core.vocabulary_sizing.candidate_sizes`.

    Args:
        base: a BPE tokenizer.
        candidate: continued merges of the base or of a pruned base.
        texts: held-out documents by language.
        words: words of the training text, with counts.
        training_tokens: length of the training in tokens; None: the words, as often as they are counted.

    Returns:
        One measurement per size, the base first.
    """
    largest = candidate.build(candidate.num_available)
    parts = _find_token_parts(largest, first_new_id=candidate.num_fixed)
    new_tokens = candidate_sizes(candidate.num_available)
    vocab_sizes = [candidate.num_fixed + count for count in new_tokens]
    heldout = {
        language: compute_counts_at_sizes(
            _count_text_ids(largest.tokenizer, documents), parts, vocabulary_sizes=vocab_sizes
        )
        for language, documents in texts.items()
    }
    train = compute_counts_at_sizes(_count_word_ids(largest.tokenizer, words), parts, vocabulary_sizes=vocab_sizes)
    before = {language: base.count_tokens(documents) for language, documents in texts.items()}
    sizes = [SizeMeasurement(0, len(base.vocabulary), before, [], 0.0)]
    for count, size in zip(new_tokens, vocab_sizes, strict=True):
        trained = float(training_tokens or sum(train[size]))
        factor = trained / sum(train[size])
        after = {language: sum(counts[size]) for language, counts in heldout.items()}
        occurrences = [uses * factor for uses in train[size][candidate.num_fixed :]]
        sizes.append(SizeMeasurement(count, size, after, occurrences, trained))
    return sizes


def _find_token_parts(vocabulary: BuiltVocabulary, *, first_new_id: int) -> dict[int, tuple[int, ...]]:
    """Map each new id to the two ids that merge into it or, for a character without a merge, to its byte ids."""
    old = {expansion[0]: id_ for id_, expansion in vocabulary.expansions.items() if id_ < first_new_id}
    new = {id_: expansion for id_, expansion in vocabulary.expansions.items() if id_ >= first_new_id}
    spelled = {id_: tuple(old[base_id] for base_id in expansion) for id_, expansion in new.items()}
    vocab = vocabulary.tokenizer.tokenizer_json["model"]["vocab"]
    merged = ((vocab[left + right], (vocab[left], vocab[right])) for left, right in vocabulary.tokenizer.merges)
    return spelled | {id_: pair for id_, pair in merged if id_ in new}


def _count_text_ids(tokenizer: TokenizerFile, texts: Sequence[str]) -> list[int]:
    counts = Counter(id_ for ids in tokenizer.encode_batch(texts) for id_ in ids)
    return [counts[id_] for id_ in range(len(tokenizer.vocabulary))]


def _count_word_ids(tokenizer: TokenizerFile, words: Iterable[tuple[str, int]]) -> list[int]:
    tokenize = tokenizer.tokenizer.model.tokenize
    counts = [0] * len(tokenizer.vocabulary)
    for word, count in words:
        for token in tokenize(word):
            counts[token.id] += count
    return counts
