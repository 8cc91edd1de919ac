"""Speed is taken in turns and told in characters; memory is what is really there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DeepseekV3Config,
    Gemma3TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
)

from lep.config.efficiency import Efficiency
from lep.errors import DataError, TokenizerError, UsageError
from lep.evaluation.efficiency.compression import densities
from lep.evaluation.efficiency.measure import measure as efficiency
from lep.evaluation.efficiency.measure import measure_efficiency
from lep.evaluation.efficiency.measure import throughput as rates
from lep.evaluation.efficiency.memory import footprint
from lep.evaluation.efficiency.summary import ledger
from lep.evaluation.efficiency.throughput import Rates, measure_rates
from lep.evaluation.tokenize import encode

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
LATENT: dict[str, Any] = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}
WANTED = Efficiency(language="ru", prompts=2, prompt_tokens=8, new_tokens=3)


def footprint_of(config: Any) -> Any:
    return footprint(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval())


def test_keys_and_values_of_each_layer_and_head_are_what_a_token_costs() -> None:
    found = footprint_of(LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True))
    assert found.cache_per_token == 2 * 2 * 2 * 8 * 4 and found.cache_fixed == 0  # K and V, layers, heads, size, bytes
    assert (found.positions, found.window) == (2048, None)
    untied = footprint_of(LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=False))
    assert untied.weights - found.weights == 64 * 32 * 4


def test_families_keep_what_they_keep() -> None:
    state = footprint_of(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2))
    assert state.cache_per_token == 0 and state.cache_fixed > 0 and state.positions is None
    sliding = footprint_of(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4096))
    assert (sliding.cache_per_token, sliding.cache_fixed, sliding.window) == (256, 0, 4096)
    kinds = ["sliding_attention", "full_attention"]
    both = footprint_of(Gemma3TextConfig(**SIZES, num_key_value_heads=1, head_dim=8, layer_types=kinds))
    assert both.cache_per_token == 2 * 2 * 8 * 4 and both.window == 4096
    latent = footprint_of(DeepseekV3Config(**SIZES, **LATENT, v_head_dim=8, first_k_dense_replace=2))
    assert latent.cache_per_token and latent.cache_fixed == 0


def test_rates_are_tokens_over_the_time_between_logits(make_model, tokenizers, tmp_path, monkeypatch) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_model(tmp_path / "m", tokenizers["byte_level"]))
    seen: list[int] = []
    monkeypatch.setattr(rates.time, "perf_counter", lambda: float(len(seen)))
    model.register_forward_hook(lambda *_: seen.append(1))
    found = measure_rates(model, [[1, 2, 3, 4]] * 3, new_tokens=5)
    assert found == Rates(reading=12.0, writing=3.0, peak=None)  # a second a step: 3 × 4 tokens, then 3 a step
    assert len(seen) == rates.WARMING + 5


def test_an_end_that_the_model_writes_does_not_end_the_measurement(make_speaker, tmp_path) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_speaker(tmp_path / "m"))  # every 13th token is an end
    lengths: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True)
    measure_rates(model, [[5, 6, 7]], new_tokens=40)
    assert lengths[rates.WARMING :] == [3] + [1] * 39


def turns(fast: float, slow: float) -> dict[str, Any]:
    """Of `new`, twice as fast as `old` in tokens, in rounds of a machine that gets slower."""
    weight = {"weights": 100, "cache_per_token": 10.0, "cache_fixed": 0.0, "positions": 512, "window": None}
    machine = [fast + (slow - fast) * i / 5 for i in range(6)]
    return {
        name: {
            "footprint": weight,
            "rates": [{"reading": 10 * times * speed, "writing": times * speed, "peak": None} for speed in machine],
        }
        for name, times in (("new", 2.0), ("old", 1.0))
    }


def dense(tokenizers: Mapping[str, Path], texts: Mapping[str, list[str]]) -> dict[str, Any]:
    names = {"old": "byte_level", "new": "russian_byte_level"}
    return {
        name: densities(AutoTokenizer.from_pretrained(tokenizers[kind]), texts, model=name)
        for name, kind in names.items()
    }


def test_ratios_are_of_rounds_and_characters_are_tokens_times_density(tokenizers, texts) -> None:
    found = dense(tokenizers, {language: documents[:50] for language, documents in texts.items()})
    told = ledger({"new": turns(100.0, 1.0)}, found, reference="old")
    ratio = told["ratios"]["new"]
    assert ratio["tokens_per_second"]["writing"] == {"ratio": 2.0, "interval": [2.0, 2.0]}  # the noise is paired away
    assert told["models"]["new"]["tokens_per_second"]["writing"]["interval"] == [2.0, 200.0]  # and stands here
    symbols = {name: found[name]["ru"].symbols_per_token.value for name in found}
    times = symbols["new"] / symbols["old"]
    russian = ratio["texts"]["ru"]
    assert times > 1.5 and russian["symbols_per_token"]["ratio"] == pytest.approx(times)
    assert russian["writing"]["ratio"] == pytest.approx(2 * times)
    assert russian["cache_per_1000_characters"]["ratio"] == pytest.approx(1 / times)
    assert russian["context_characters"]["ratio"] == pytest.approx(times)
    own = told["models"]["new"]["texts"]["ru"]
    assert own["cache_per_1000_characters"] == pytest.approx(10 * 1000 / symbols["new"])
    assert own["context_characters"] == pytest.approx(512 * symbols["new"])
    low, high = russian["symbols_per_token"]["interval"]
    assert low < times < high < 1.2 * low


def test_the_density_of_five_documents_has_no_interval(tokenizers, texts) -> None:
    found = dense(tokenizers, {"ru": texts["ru"][:5]})
    told = ledger({"new": turns(1.0, 1.0)}, found, reference="old")
    assert told["models"]["new"]["texts"]["ru"]["symbols_per_token"]["interval"] is None
    assert told["ratios"]["new"]["texts"]["ru"]["symbols_per_token"]["interval"] is None


@pytest.fixture(scope="module")
def models(make_model: Callable[..., Path], tokenizers, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    kinds = {"old": "byte_level", "new": "russian_byte_level", "other": "metaspace"}
    return {name: make_model(root / name, tokenizers[kind]) for name, kind in kinds.items()}


def measure(models: dict[str, Path], texts: dict[str, list[str]], out: Path, wanted: Efficiency = WANTED) -> Any:
    return measure_efficiency(wanted, models, texts, reference="old", dtype="float32", out=out)


def test_each_pair_takes_turns_and_is_kept(models, texts, tmp_path, monkeypatch) -> None:
    order: list[str] = []
    original = efficiency.measure_rates

    def watched(model: Any, prompts: Any, *, new_tokens: int) -> Rates:
        order.append(Path(model.name_or_path).name)
        if len(order) == 16:
            raise KeyboardInterrupt
        return original(model, prompts, new_tokens=new_tokens)

    monkeypatch.setattr(efficiency, "measure_rates", watched)
    short = {language: documents[:40] for language, documents in texts.items()}
    with pytest.raises(KeyboardInterrupt):
        measure(models, short, tmp_path)
    assert order[:14] == ["old", "new", *["old", "new", "new", "old"] * 3]  # the first of each are not counted
    order.clear()
    found = measure(models, short, tmp_path)
    assert order.count("new") == 0 and order.count("other") == 7  # what was done is not done again
    assert found["models"].keys() == models.keys() and found["ratios"].keys() == {"new", "other"}
    assert found["settings"] | {"device": "", "threads": 0} == {
        "language": "ru",
        "prompts": 2,
        "prompt_tokens": 8,
        "new_tokens": 3,
        "rounds": 6,
        "device": "",
        "threads": 0,
    }


def test_a_model_alone_is_measured_without_ratios(models, texts, tmp_path) -> None:
    found = measure({"old": models["old"]}, {"ru": texts["ru"][:9]}, tmp_path)
    assert found["ratios"] == {} and found["models"]["old"]["texts"]["ru"]["writing"]["value"] > 0


def test_what_cannot_be_measured_is_said_before_the_work(models, texts, tmp_path, monkeypatch) -> None:
    with pytest.raises(UsageError, match=r"514 tokens are to be read and written, but the model has 512 positions"):
        measure(models, {"ru": texts["ru"][:200]}, tmp_path, WANTED.model_copy(update={"prompt_tokens": 511}))
    monkeypatch.setattr(efficiency, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(DataError, match=r"2 prompts of 8 tokens .* 'ru' has only \d+ tokens of old; raise"):
        measure(models, {"ru": ["кот"]}, tmp_path)


def test_a_text_that_a_tokenizer_cannot_write_is_named(tokenizers) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizers["byte_level"])
    with pytest.raises(TokenizerError, match=r"m: its tokenizer cannot write document 2 of 'de': it gives no tokens"):
        encode(tokenizer, ["ja", ""], model="m", text="de")
    with pytest.raises(TokenizerError, match=r"document 1 of 'de' \(\w+Error"):
        encode(tokenizer, [None], model="m", text="de")  # type: ignore[list-item]
    tokenizer.add_special_tokens({"unk_token": "<unk>"})
    monkey = {"input_ids": [1, tokenizer.unk_token_id]}
    tokenizer._encode_plus = lambda *_, **__: monkey  # type: ignore[method-assign]
    with pytest.raises(TokenizerError, match=r"parts of it become '<unk>'.*falls back to bytes"):
        encode(tokenizer, ["ß"], model="m", text="de")
    assert encode(tokenizer, ["<unk>"], model="m", text="de") == [monkey["input_ids"]]  # it is really there


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_an_accelerator_holds_one_model_at_a_time(models, texts, tmp_path) -> None:
    found = measure(models, {"ru": texts["ru"][:40]}, tmp_path)
    for told in found["models"].values():
        assert told["memory"]["weights"] < told["memory"]["peak"] and told["texts"]["ru"]["writing"]["value"] > 0
    assert torch.cuda.memory_allocated() < min(told["memory"]["peak"] for told in found["models"].values())
