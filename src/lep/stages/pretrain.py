"""Initialized model + corpus → adapted model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.config import Benchmark, Pretrain
from lep.data.corpus import heldout_excerpts
from lep.data.packed_dataset import Samples
from lep.data.packing import pack_corpus
from lep.distributed import by_main, micro_batches
from lep.errors import CheckpointError, DataError, UsageError
from lep.extras import need
from lep.io.model_folder import ModelFolder, check_rows, open_model, stored_names
from lep.io.model_writer import COMPOSED_ROWS, TRAINING_LOG
from lep.modeling.document_masking import attends_inside_documents
from lep.modeling.loading import load_model, load_tokenizer, seeded
from lep.modeling.new_token_usage import seen_less_often
from lep.modeling.saving import write_changed
from lep.modeling.trainable_embeddings import TrainableTables
from lep.modeling.trainable_layers import decoder_layers, learnt_weights, let_layers_learn
from lep.progress import note
from lep.training.pretraining import Training, train
from lep.training.validation import HeldOut, in_words

WORSE = 1.0
"""Nats per token beyond guessing that no healthy model needs; one that is given another's ids is sure, and wrong."""


def run(settings: Pretrain, out: Path) -> dict[str, Any]:
    """Write a whole model folder; checkpoints stand in `out/checkpoints` until the end."""
    if settings.benchmark:
        need("eval", what="pretrain.benchmark")
    micro_batches(batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size)
    source, tokenizer = open_model(settings.model), load_tokenizer(settings.model)
    check_rows(source, tokens=len(tokenizer))
    _check_block(settings, source)
    new_ids = _composed(source, tokenizer)
    new_rows = _new_rows(settings, source, new_ids)
    texts = heldout_excerpts(settings.corpus, settings.mixture, characters=settings.evaluation_characters)
    heldout = HeldOut(texts, tokenizer, new_ids, settings.mixture, block=settings.block)
    samples = by_main(partial(_packed, settings, tokenizer, folder=out / "samples"))
    with seeded(settings.seed):
        loaded = load_model(settings.model, dtype=settings.dtype, attention=settings.attention, liger=settings.liger)
        _check_tokenizer(heldout, loaded, source)
        samples = replace(samples, inside_documents=_stays_inside(settings, loaded))
        trained = train(
            _trainable(loaded, settings, source, new_rows=new_rows),
            samples,
            settings=settings,
            measure=partial(_measured, heldout, settings.benchmark),
            folder=out / "checkpoints",
            log=out / TRAINING_LOG,
        )
    return by_main(partial(_finish, out, trained, source=source, samples=samples, heldout=heldout))


def _packed(settings: Pretrain, tokenizer: PreTrainedTokenizerBase, *, folder: Path) -> Samples:
    return pack_corpus(
        settings.corpus,
        tokenizer,
        mixture=settings.mixture,
        samples=settings.steps * settings.batch_size,
        block=settings.block,
        seed=settings.seed,
        folder=folder,
    )


def _check_block(settings: Pretrain, source: ModelFolder) -> None:
    if source.positions and settings.block > source.positions:
        raise UsageError(
            f"pretrain: block={settings.block:,} is more than the {source.positions:,} tokens that {source.path} can "
            "see, as its config.json says; give a smaller block"
        )


def _check_tokenizer(heldout: HeldOut, loaded: PreTrainedModel, source: ModelFolder) -> None:
    """`CheckpointError` when the model does worse than one that guesses, in every language, by far."""
    loss, guessing = heldout.first_loss(loaded), log(len(source.rows("embed")))
    if loss > guessing + WORSE:
        raise CheckpointError(
            f"{source.path}: a token of held-out text costs it {loss:.1f} nats, guessing {guessing:.1f}: its tokenizer "
            "is not its own, or its weights are damaged; make the model again"
        )


def _trainable(
    loaded: PreTrainedModel, settings: Pretrain, source: ModelFolder, *, new_rows: torch.Tensor
) -> TrainableTables:
    """The model, with what `learn` names trainable; all of it must have a place in the result."""
    model = TrainableTables(loaded, new_rows=new_rows, old_rows_learn=settings.learn != "new_rows")
    let_layers_learn(loaded, settings.learn, lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha)
    stored_names(source, learnt_weights(loaded))
    if settings.gradient_checkpointing:
        loaded.activation_checkpointing_enable({"use_reentrant": False})
    if settings.compile:
        for layer in decoder_layers(loaded):  # alike, so that what is compiled for one serves all
            layer.compile()
    return model


def _new_rows(settings: Pretrain, source: ModelFolder, new_ids: torch.Tensor) -> torch.Tensor:
    """Rows with the rate `lr`: those of new tokens; all of them when there is one rate for all."""
    if settings.learn != "new_rows" and settings.lr_old_rows is None:
        return torch.arange(len(source.rows("embed")))
    if not len(new_ids):
        raise DataError(
            f"{source.path / COMPOSED_ROWS}: names no new rows, or is not there; learn=new_rows and lr_old_rows need a "
            "model made by `lep initialize`"
        )
    return new_ids


def _composed(source: ModelFolder, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Ids of the new tokens, as far as it is known: those whose rows `initialize` composed."""
    file, end = source.path / COMPOSED_ROWS, 1 + max(tokenizer.get_vocab().values())
    try:
        ids = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        fits = all(type(id_) is int and 0 <= id_ < end for id_ in ids) and len(set(ids)) == len(ids)
    except (ValueError, TypeError):
        ids, fits = [], False
    if not fits:
        raise DataError(
            f"{file}: is no list of different ids of the tokenizer, which end before {end:,}; make the model again by "
            "`lep initialize`"
        )
    return torch.tensor(list(ids), dtype=torch.int64)


def _stays_inside(settings: Pretrain, loaded: PreTrainedModel) -> bool:
    """Whether attention is kept inside documents: as wished, where the model can."""
    if not settings.inside_documents:
        return False
    if not (able := attends_inside_documents(loaded, batch=min(2, settings.micro_batch_size))):
        note("the attention of this model does not stay inside documents: each sees those packed before it")
    return able


def _measured(heldout: HeldOut, benchmark: Benchmark | None, model: TrainableTables) -> dict[str, Any]:
    found = heldout.measure(model)
    note(in_words(found))
    return found | _scored(model, heldout.tokenizer, benchmark) if benchmark else found


def _scored(model: TrainableTables, tokenizer: PreTrainedTokenizerBase, benchmark: Benchmark) -> dict[str, Any]:
    """Averages of the benchmark with their intervals: of the tasks that are asked, and of their groups."""
    from lep.evaluation.darumeru.runner import score_model

    found = score_model(model.model, tokenizer, benchmark, name="benchmark", base=True)
    averages = {"all": found["micro"], **found["groups"]}
    note("benchmark: " + ", ".join(f"{name} {average['score']:.3f}" for name, average in averages.items()))
    return {
        "benchmark": {
            name: {"score": average["score"], "low": average["interval"][0], "high": average["interval"][1]}
            for name, average in averages.items()
        }
    }


def _finish(out: Path, trained: Training, *, source: ModelFolder, samples: Samples, heldout: HeldOut) -> dict[str, Any]:
    """Write the result and take away what only the work needed; returns the room's numbers."""
    write_changed(source, out, tables=trained.tables, weights=trained.layers)
    _tell_of_harm(trained)
    numbers = _numbers(trained, samples, heldout)
    for done in ("checkpoints", "samples"):
        shutil.rmtree(out / done)
    return numbers


def _tell_of_harm(trained: Training) -> None:
    """A note when training did harm: the start is measured, and is never the result."""
    start, *after = (row["score"] for row in trained.curve)
    if min(after) > start:
        note(
            f"training made the model worse: a score of {min(after):.4f} bits per byte at best, and {start:.4f} at the "
            "start; lower the learning rate"
        )


def _numbers(trained: Training, samples: Samples, heldout: HeldOut) -> dict[str, Any]:
    never, rarely = (seen_less_often(heldout.new_ids, samples.counts, times=times) for times in (1, 100))
    return {
        "trained_tokens": samples.tokens,
        "passes": dict(samples.passes),
        "inside_documents": samples.inside_documents,
        "new_tokens": {"known": len(heldout.new_ids), "never_seen": never, "seen_less_than_100_times": rarely},
        "tokens_per_second": trained.tokens_per_second,
        "utilisation": trained.utilisation,
        "best_step": trained.best_step,
        "curve": trained.curve,
        "losses": trained.losses,
    }
