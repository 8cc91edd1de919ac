"""The loss in chunks is the loss of whole logits, and so are its gradients, of what learns and of nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lep.data.packing import IGNORE_INDEX
from lep.modeling import chunked_cross_entropy as module
from lep.modeling.chunked_cross_entropy import fused_linear_cross_entropy

TOKENS, VOCAB, DIM = 13, 50, 8


SIZES = {"whole": (2**30, 2**30, 2**30), "few": (VOCAB * 4 * 4, VOCAB * 4 * 2, 7), "one": (1, 1, 1)}


@pytest.fixture(params=SIZES)
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(
        ("LOGITS_CHUNK_BYTES", "SOFTMAX_CHUNK_BYTES", "GRADIENT_CHUNK_ROWS"), SIZES[request.param], strict=True
    ):
        monkeypatch.setattr(module, name, value)


def problem(dtype: torch.dtype, *, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, DIM, generator=generator) * scale
    rows = torch.randn(VOCAB, DIM, generator=generator)
    labels = torch.randint(0, VOCAB, (TOKENS,), generator=generator)
    labels[[2, 7]] = IGNORE_INDEX
    return hidden.to(dtype), rows.to(dtype), labels


def by_whole_logits(hidden: Tensor, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As transformers computes it: loss and gradients of hidden states and rows."""
    hidden, rows = hidden.clone().requires_grad_(), rows.clone().requires_grad_()
    loss = cross_entropy((hidden @ rows.T).float(), labels, reduction="sum", ignore_index=IGNORE_INDEX)
    return (loss.detach(), *torch.autograd.grad(loss / 3, [hidden, rows]))


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("old", [0, 20, VOCAB], ids=["new", "both", "old"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_loss_and_gradients_are_those_of_whole_logits(dtype: torch.dtype, tolerance: float, old: int) -> None:
    hidden, rows, labels = problem(dtype)
    loss, d_hidden, d_rows = by_whole_logits(hidden, rows, labels)
    hidden.requires_grad_()
    parts = [part.float().requires_grad_() for part in rows.split([old, VOCAB - old])]
    actual = fused_linear_cross_entropy(hidden, rows, labels, parameters=parts)
    (actual / 3).backward()
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.detach(), loss, rtol=1e-5, atol=0)
    assert hidden.grad is not None and all(part.grad is not None for part in parts)
    torch.testing.assert_close(hidden.grad, d_hidden, rtol=tolerance, atol=tolerance)
    gradient = torch.cat([part.grad for part in parts if part.grad is not None])
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, d_rows.float(), rtol=tolerance, atol=tolerance)


def test_frozen_rows_get_no_gradient_and_no_needless_gradient_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, rows, labels = problem(torch.float32)
    shapes: list[tuple[int, ...]] = []
    accumulate = module._accumulate_weight_gradient
    monkeypatch.setattr(
        module, "_accumulate_weight_gradient", lambda g, *rest: shapes.append(tuple(g.shape)) or accumulate(g, *rest)
    )
    frozen, trained = rows[:20].clone(), rows[20:].clone().requires_grad_()
    fused_linear_cross_entropy(hidden, rows, labels, parameters=[frozen, trained]).backward()
    assert shapes == [(VOCAB - 20, DIM)]
    assert frozen.grad is None and hidden.grad is None and trained.grad is not None
    with torch.no_grad():
        loss = fused_linear_cross_entropy(hidden, rows, labels, parameters=[frozen, trained])
    assert len(shapes) == 1 and not loss.requires_grad
    torch.testing.assert_close(loss, by_whole_logits(hidden, rows, labels)[0])


def test_very_unlikely_labels_cost_a_finite_loss() -> None:
    hidden, rows, labels = problem(torch.float32, scale=1e3)
    loss, d_hidden, d_rows = by_whole_logits(hidden, rows, labels)
    assert loss > 1e4
    part = rows.clone().requires_grad_()
    actual = fused_linear_cross_entropy(hidden.requires_grad_(), rows, labels, parameters=[part])
    (actual / 3).backward()
    torch.testing.assert_close(actual.detach(), loss)
    torch.testing.assert_close((hidden.grad, part.grad), (d_hidden, d_rows))


def test_without_labels_the_sum_is_nothing() -> None:
    hidden, rows, labels = problem(torch.float32)
    part = rows.clone().requires_grad_()
    actual = fused_linear_cross_entropy(
        hidden.requires_grad_(), rows, torch.full_like(labels, IGNORE_INDEX), parameters=[part]
    )
    actual.backward()
    assert actual == 0 and part.grad is not None and hidden.grad is not None
    assert not part.grad.any() and not hidden.grad.any()


def test_logits_of_all_tokens_are_never_in_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, rows, labels = problem(torch.float32)
    monkeypatch.setattr(module, "LOGITS_CHUNK_BYTES", 3 * VOCAB * 4)
    sizes: list[int] = []
    in_place = module._softmax_minus_onehot_
    monkeypatch.setattr(
        module, "_softmax_minus_onehot_", lambda logits, labels: sizes.append(len(logits)) or in_place(logits, labels)
    )
    fused_linear_cross_entropy(hidden, rows, labels, parameters=[rows])
    assert sizes == [3, 3, 3, 2]
