"""A sample has ids, labels, and either a mask or positions that restart at every document."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lep.data.packed_dataset import (
    IGNORE_INDEX,
    PackedDataset,
    PackedLayout,
    PackedSample,
    open_packed_dataset,
    write_metadata,
    write_packed_samples,
)

CHUNKS = [[[7, 8, 9], [7, 5]], [[7, 1, 2, 3, 4, 5]], [[7], [7], [6, 6, 6]]]
SEQUENCE_LENGTH = 6


def make(folder: Path, *, vocab_size: int = 10, document_masking: bool = True) -> PackedDataset:
    layout = PackedLayout(num_samples=len(CHUNKS), sequence_length=SEQUENCE_LENGTH, vocab_size=vocab_size)
    all_samples = []
    for chunks in CHUNKS:
        sample = PackedSample()
        for chunk in chunks:
            sample = sample.with_chunk(np.array(chunk, dtype=np.int32), completes_document=True)
        all_samples.append(sample)
    tokens = write_packed_samples(folder, all_samples, layout=layout)
    samples = PackedDataset(folder, layout, document_masking, tokens, {"ru": 1.0})
    write_metadata(samples, cache_key={"a": 1})
    return samples


@pytest.fixture(params=[10, 100_000])
def samples(request, tmp_path) -> PackedDataset:
    return make(tmp_path, vocab_size=request.param)


def test_with_document_masking_positions_restart_and_first_tokens_carry_no_loss(samples) -> None:
    first, second, third = (samples[i] for i in range(3))
    assert first.keys() == {"input_ids", "position_ids", "labels"}
    assert first["input_ids"].tolist() == [7, 8, 9, 7, 5, 0]
    assert first["position_ids"].tolist() == [0, 1, 2, 0, 1, 0]  # padding restarts as well
    assert first["labels"].tolist() == [IGNORE_INDEX, 8, 9, IGNORE_INDEX, 5, IGNORE_INDEX]
    assert second["position_ids"].tolist() == list(range(6))
    assert second["labels"].tolist() == [IGNORE_INDEX, 1, 2, 3, 4, 5]
    assert third["position_ids"].tolist() == [0, 0, 0, 1, 2, 0]
    assert {value.dtype for value in first.values()} == {torch.int64}


def test_without_document_masking_there_is_a_mask_and_every_token_carries_loss(tmp_path) -> None:
    first = make(tmp_path, document_masking=False)[0]
    assert first.keys() == {"input_ids", "attention_mask", "labels"}
    assert first["attention_mask"].tolist() == [1, 1, 1, 1, 1, 0]
    assert first["labels"].tolist() == [7, 8, 9, 7, 5, IGNORE_INDEX]


def test_tokens_are_counted(samples) -> None:
    assert len(samples) == 3 and samples.tokens == 16
    assert samples.token_counts[:10].tolist() == [0, 1, 1, 1, 1, 2, 3, 5, 1, 1]
    assert len(samples.token_counts) == samples.layout.vocab_size


def test_small_vocabularies_take_two_bytes_an_id(tmp_path) -> None:
    for vocab_size, size in ((1 << 16, 2), ((1 << 16) + 1, 4)):
        make(tmp_path, vocab_size=vocab_size)
        assert (tmp_path / "token_ids.bin").stat().st_size == 3 * SEQUENCE_LENGTH * size


def test_only_the_name_of_the_folder_is_pickled(samples) -> None:
    expected = [samples[i]["labels"].tolist() for i in range(3)]
    text = pickle.dumps(samples)
    assert len(text) < 1000
    assert [item["labels"].tolist() for item in pickle.loads(text)] == expected
    loaded = DataLoader(samples, batch_size=3, num_workers=1)
    assert next(iter(loaded))["labels"].tolist() == expected


def test_a_missing_sample_is_an_index_error(samples) -> None:
    assert samples[-1]["labels"].tolist() == samples[2]["labels"].tolist()
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"sample {index} of 3"):
            samples[index]


def test_samples_are_opened_only_with_their_cache_key_and_layout(samples) -> None:
    def reopen(cache_key: dict[str, int], layout: PackedLayout = samples.layout) -> PackedDataset | None:
        return open_packed_dataset(samples.folder, cache_key=cache_key, layout=layout, document_masking=False)

    dataset = reopen({"a": 1})
    assert dataset is not None and "attention_mask" in dataset[0] and dataset.epochs_by_language == {"ru": 1.0}
    assert reopen({"a": 2}) is None
    assert reopen({"a": 1}, PackedLayout(num_samples=2, sequence_length=SEQUENCE_LENGTH, vocab_size=10)) is None
    (samples.folder / "metadata.json").unlink()
    assert reopen({"a": 1}) is None
