"""What a model is given: ids, labels, and either a mask or positions that restart at every document."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lep.data.packed_dataset import IGNORED, Block, Layout, Samples, finish_samples, open_samples, write_blocks

PARTS = [[[7, 8, 9], [7, 5]], [[7, 1, 2, 3, 4, 5]], [[7], [7], [6, 6, 6]]]
BLOCK = 6


def make(folder: Path, *, vocabulary: int = 10, inside_documents: bool = True) -> Samples:
    layout = Layout(samples=len(PARTS), block=BLOCK, vocabulary=vocabulary)
    blocks = []
    for parts in PARTS:
        block = Block()
        for part in parts:
            block = block.with_part(np.array(part, dtype=np.int32), last=True)
        blocks.append(block)
    tokens = write_blocks(folder, blocks, layout=layout)
    samples = Samples(folder, layout, inside_documents, tokens, {"ru": 1.0})
    finish_samples(samples, made_from={"a": 1})
    return samples


@pytest.fixture(params=[10, 100_000])
def samples(request, tmp_path) -> Samples:
    return make(tmp_path, vocabulary=request.param)


def test_positions_restart_and_first_tokens_are_not_predicted(samples) -> None:
    first, second, third = (samples[i] for i in range(3))
    assert first.keys() == {"input_ids", "position_ids", "labels"}
    assert first["input_ids"].tolist() == [7, 8, 9, 7, 5, 0]
    assert first["position_ids"].tolist() == [0, 1, 2, 0, 1, 0]  # padding restarts as well
    assert first["labels"].tolist() == [IGNORED, 8, 9, IGNORED, 5, IGNORED]
    assert second["position_ids"].tolist() == list(range(6))
    assert second["labels"].tolist() == [IGNORED, 1, 2, 3, 4, 5]
    assert third["position_ids"].tolist() == [0, 0, 0, 1, 2, 0]
    assert {value.dtype for value in first.values()} == {torch.int64}


def test_across_documents_there_is_a_mask_and_every_token_is_predicted(tmp_path) -> None:
    first = make(tmp_path, inside_documents=False)[0]
    assert first.keys() == {"input_ids", "attention_mask", "labels"}
    assert first["attention_mask"].tolist() == [1, 1, 1, 1, 1, 0]
    assert first["labels"].tolist() == [7, 8, 9, 7, 5, IGNORED]


def test_what_is_counted(samples) -> None:
    assert len(samples) == 3 and samples.tokens == 16
    assert samples.counts[:10].tolist() == [0, 1, 1, 1, 1, 2, 3, 5, 1, 1]
    assert len(samples.counts) == samples.layout.vocabulary


def test_ids_take_no_more_room_than_they_need(tmp_path) -> None:
    for vocabulary, size in ((1 << 16, 2), ((1 << 16) + 1, 4)):
        make(tmp_path, vocabulary=vocabulary)
        assert (tmp_path / "ids.bin").stat().st_size == 3 * BLOCK * size


def test_only_the_folders_name_goes_to_another_process(samples) -> None:
    expected = [samples[i]["labels"].tolist() for i in range(3)]
    text = pickle.dumps(samples)
    assert len(text) < 1000
    assert [item["labels"].tolist() for item in pickle.loads(text)] == expected
    loaded = DataLoader(samples, batch_size=3, num_workers=1)
    assert next(iter(loaded))["labels"].tolist() == expected


def test_a_sample_that_is_not_there_is_an_index_error(samples) -> None:
    assert samples[-1]["labels"].tolist() == samples[2]["labels"].tolist()
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"sample {index} of 3"):
            samples[index]


def test_they_are_opened_only_for_what_they_were_made_from(samples) -> None:
    def opened(made_from: dict[str, int], layout: Layout = samples.layout) -> Samples | None:
        return open_samples(samples.folder, made_from=made_from, layout=layout, inside_documents=False)

    found = opened({"a": 1})
    assert found is not None and "attention_mask" in found[0] and found.passes == {"ru": 1.0}
    assert opened({"a": 2}) is None
    assert opened({"a": 1}, Layout(samples=2, block=BLOCK, vocabulary=10)) is None
    (samples.folder / "samples.json").unlink()
    assert opened({"a": 1}) is None
