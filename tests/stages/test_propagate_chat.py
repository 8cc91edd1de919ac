"""A chat survives a replaced vocabulary: special tokens get new ids, and so do all files that name them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from lep.config import InitializeSettings, PropagateSettings, RetokenizeSettings
from lep.errors import TokenizerError
from lep.io.model_folder import read_json, write_json
from lep.io.model_writer import copy_tokenizer

EMBED, DIM = "model.embed_tokens.weight", 32
END, START, STOP, CALL, BACK = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<call>", "</call>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<call>' + message['content'] "
    "+ '</call><|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<call>' }}{% endif %}"
)
CHAT = [
    {"role": "user", "content": "What did the old professor read? Что он прочитал?"},
    {"role": "assistant", "content": "Длинное письмо. 1987 🙂"},
]


@pytest.fixture(scope="module")
def special_last(tokenizers, tmp_path_factory) -> Path:
    """byte_level with its special tokens after the others, like Llama-3: ids 497, 498, 499."""
    folder = tmp_path_factory.mktemp("special_last") / "tokenizer"
    shutil.copytree(tokenizers["byte_level"], folder)
    state = read_json(folder / "tokenizer.json")
    vocab = state["model"]["vocab"]
    state["model"]["vocab"] = {text: id_ - 3 for text, id_ in vocab.items() if id_ > 2}
    for item in state["added_tokens"]:
        item["id"] += 497
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


@pytest.fixture(scope="module")
def replaced(special_last, corpus, run_stage, tmp_path_factory) -> dict[str, Path]:
    """A new vocabulary of each kind, trained on the corpus."""
    root = tmp_path_factory.mktemp("replaced")
    for kind, size in (("bpe", 450), ("unigram", 400)):
        run_stage(RetokenizeSettings(base=special_last, corpus=corpus, kind=kind, vocab_size=size), root / kind)
    return {kind: root / kind for kind in ("bpe", "unigram")}


def add_chat_files(folder: Path) -> Path:
    """Make the model an instruct model: two added tokens, a chat template, and files with their ids."""
    state = read_json(folder / "tokenizer.json")
    for id_, text in ((500, CALL), (501, BACK)):
        state["added_tokens"].append({**state["added_tokens"][0], "id": id_, "content": text})
    (folder / "tokenizer.json").write_text(json.dumps(state))
    settings = read_json(folder / "tokenizer_config.json") | {"eos_token": STOP, "pad_token": CALL}
    write_json(folder / "tokenizer_config.json", settings)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    generation = {"bos_token_id": 497, "eos_token_id": [501, 499, 497], "pad_token_id": 500, "temperature": 0.5}
    generation |= {"suppress_tokens": [498], "begin_suppress_tokens": [497, 499], "max_new_tokens": 500}
    write_json(folder / "generation_config.json", generation)
    return folder


def append_rows(folder: Path, rows: int) -> Path:
    """Append rows for the added tokens."""
    inside = load_file(folder / "model.safetensors")
    names = [name for name, tensor in inside.items() if tensor.shape == (500, DIM)]
    for name in names:
        new_rows = torch.randn(rows - 500, DIM, generator=torch.Generator().manual_seed(4))
        inside[name] = torch.cat([inside[name], new_rows])
    save_file(inside, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def ids(folder: Path, *texts: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.token_to_id(text) for text in texts]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_every_token_id_in_the_files_is_remapped(
    special_last, replaced, make_model, run_stage, tensors, tmp_path, kind
) -> None:
    base = make_model(tmp_path / "base", special_last)
    write_json(base / "generation_config.json", {"eos_token_id": [499, 497], "forced_eos_token_id": 499})
    run_stage(InitializeSettings(base=base, tokenizer=replaced[kind], pad_to_multiple_of=1), tmp_path / "initialized")
    end, start, stop = ids(tmp_path / "initialized", END, START, STOP)
    assert (end, start, stop) != (497, 498, 499)
    initialized = [read_json(tmp_path / "initialized" / f"{name}config.json") for name in ("", "generation_")]
    assert (initialized[0]["bos_token_id"], initialized[0]["eos_token_id"]) == (end, end)
    assert initialized[1] == {"eos_token_id": [stop, end], "forced_eos_token_id": stop}

    instruct = append_rows(add_chat_files(make_model(tmp_path / "instruct", special_last, seed=1)), 502)
    write_json(instruct / "config.json", read_json(instruct / "config.json") | {"eos_token_id": [499, 501]})
    models = {"base": base, "adapted": tmp_path / "initialized", "instruct": instruct}
    result = run_stage(PropagateSettings(**models), tmp_path / "out")
    out = tmp_path / "out"
    assert ids(out, END, START, STOP) == [end, start, stop]
    call, back = ids(out, CALL, BACK)
    rows = tensors(out)[EMBED]
    assert torch.equal(rows[[end, start, stop, call, back]], tensors(instruct)[EMBED][497:])
    config = read_json(out / "config.json")
    assert (config["bos_token_id"], config["eos_token_id"], config["vocab_size"]) == (end, [stop, back], len(rows))
    new_ids = {"bos_token_id": end, "eos_token_id": [back, stop, end], "pad_token_id": call}
    new_ids |= {"suppress_tokens": [start], "begin_suppress_tokens": [end, stop]}
    assert read_json(out / "generation_config.json") == read_json(instruct / "generation_config.json") | new_ids

    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (instruct, out))
    options = {"tokenize": False, "add_generation_prompt": True}
    text = old.apply_chat_template(CHAT, **options)
    assert new.apply_chat_template(CHAT, **options) == text and text.startswith(END)
    token_ids = new(text, add_special_tokens=False)["input_ids"]
    assert new.decode(token_ids) == text and token_ids.count(call) == 3 and max(token_ids) < len(rows)
    assert (new.bos_token_id, new.eos_token_id, new.pad_token_id) == (end, stop, call)
    assert result.chat_tokens > 0
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.generation_config.eos_token_id == [back, stop, end]
    with torch.no_grad():
        assert model(torch.tensor([token_ids])).logits.isfinite().all()


@pytest.fixture(scope="module")
def make_llava(special_last) -> Callable[..., Path]:
    """A tiny model with vision: its text model's configuration is nested, and an image is a token."""

    def make(path: Path, *, seed: int, rows: int = 500, image: int = 498) -> Path:
        sizes = {"hidden_size": DIM, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
        text = sizes | {"model_type": "llama", "vocab_size": rows, "num_key_value_heads": 2, "pad_token_id": 499}
        text |= {"bos_token_id": 497, "eos_token_id": [499, 497]}
        vision = sizes | {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14}
        parts: dict[str, Any] = {"text_config": text, "vision_config": vision, "image_token_index": image}
        config = AutoConfig.for_model("llava", **parts, tie_word_embeddings=False)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            AutoModelForImageTextToText.from_config(config).save_pretrained(path)
        copy_tokenizer(special_last, path)
        return path

    return make


def test_a_model_with_vision_keeps_its_image_token(make_llava, replaced, run_stage, tmp_path) -> None:
    base = make_llava(tmp_path / "base", seed=0)
    instruct = add_chat_files(make_llava(tmp_path / "instruct", seed=1, rows=502, image=500))
    run_stage(InitializeSettings(base=base, tokenizer=replaced["bpe"]), tmp_path / "adapted")
    models = {"base": base, "adapted": tmp_path / "adapted", "instruct": instruct}
    run_stage(PropagateSettings(**models), tmp_path / "out")
    end, stop, start, call, back = ids(tmp_path / "out", END, STOP, START, CALL, BACK)
    for folder, image in ((tmp_path / "adapted", start), (tmp_path / "out", call)):
        config = read_json(folder / "config.json")
        assert {config.get("image_token_index"), config.get("image_token_id")} <= {image, None}
        nested = config["text_config"]
        assert (nested["bos_token_id"], nested["eos_token_id"], nested["pad_token_id"]) == (end, [stop, end], stop)
        assert config["vision_config"] == read_json(base / "config.json")["vision_config"]
        model = AutoModelForImageTextToText.from_pretrained(folder)
        assert model.config.image_token_id == image and model.get_input_embeddings().num_embeddings > image
    assert read_json(tmp_path / "out" / "generation_config.json")["eos_token_id"] == [back, stop, end]


@pytest.fixture
def models(bases, adapteds, instructs, tmp_path) -> dict[str, Path]:
    """The small family, with a copy of the instruct model that the test may change."""
    instruct = shutil.copytree(instructs["tied"], tmp_path / "instruct")
    return {"base": bases["tied"], "adapted": adapteds["tied"], "instruct": Path(instruct)}


def test_the_post_processor_of_the_instruct_tokenizer_is_kept(models, run_stage, tmp_path) -> None:
    state = read_json(models["instruct"] / "tokenizer.json")
    tokenizer = Tokenizer.from_str(json.dumps(state))
    first = {"type": "TemplateProcessing", "pair": [{"Sequence": {"id": "A", "type_id": 0}}]}
    first["pair"] += [{"Sequence": {"id": "B", "type_id": 1}}]
    first["single"] = [{"SpecialToken": {"id": START, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    first["special_tokens"] = {START: {"id": START, "ids": [tokenizer.token_to_id(START)], "tokens": [START]}}
    (models["instruct"] / "tokenizer.json").write_text(json.dumps(state | {"post_processor": first}))
    run_stage(PropagateSettings(**models), tmp_path / "out")
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (models["instruct"], tmp_path / "out"))
    assert new.decode(new("в библиотеке")["input_ids"]) == old.decode(old("в библиотеке")["input_ids"])


def test_an_added_token_that_is_not_special_stays_so(models, run_stage, tmp_path) -> None:
    """As Qwen's <think>: a token of its own that is no special one."""
    state = read_json(models["instruct"] / "tokenizer.json")
    state["added_tokens"][1]["special"] = False
    (models["instruct"] / "tokenizer.json").write_text(json.dumps(state))
    run_stage(PropagateSettings(**models), tmp_path / "out")
    for folder in (models["instruct"], tmp_path / "out"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.decode(tokenizer(START + "a" + STOP)["input_ids"], skip_special_tokens=True) == START + "a"


def test_the_unknown_token_keeps_its_row(tokenizers, make_model, run_stage, tensors, tmp_path) -> None:
    """It is special by its role, though the file does not list it as added."""
    models = {}
    for seed, role in enumerate(("base", "adapted", "instruct")):
        models[role] = make_model(tmp_path / role, tokenizers["metaspace"], seed=seed)
        state = read_json(models[role] / "tokenizer.json")
        state["added_tokens"] = [item for item in state["added_tokens"] if item["content"] != "<unk>"]
        (models[role] / "tokenizer.json").write_text(json.dumps(state))
    run_stage(PropagateSettings(**models, layers_scale=0), tmp_path / "out")
    assert torch.equal(tensors(tmp_path / "out")[EMBED][:3], tensors(models["instruct"])[EMBED][:3])


def test_all_templates_are_kept(models, run_stage, tmp_path) -> None:
    folder = models["instruct"] / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("{{ tools }}")
    run_stage(PropagateSettings(**models), tmp_path / "out")
    assert set(AutoTokenizer.from_pretrained(tmp_path / "out").chat_template) == {"default", "tool_use"}


def test_an_instruct_model_without_added_tokens(tokenizers, make_model, run_stage, tensors, tmp_path) -> None:
    """As one whose tokenizer is a tiktoken file."""
    roles = ("base", "adapted", "instruct")
    models = {role: make_model(tmp_path / role, tokenizers["tiktoken"], seed=i) for i, role in enumerate(roles)}
    result = run_stage(PropagateSettings(**models, method="swap", layers_scale=0), tmp_path / "out")
    assert result.special_tokens_kept == 0
    assert torch.equal(tensors(tmp_path / "out")[EMBED], tensors(models["adapted"])[EMBED])


def with_added(folder: Path, text: str, id_: int) -> None:
    state = read_json(folder / "tokenizer.json")
    state["added_tokens"].append({**state["added_tokens"][0], "id": id_, "content": text})
    (folder / "tokenizer.json").write_text(json.dumps(state))


def copy_with_embeddings(source: Path, target: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A copy of a model with other embeddings."""
    shutil.copytree(source, target)
    inside = load_file(source / "model.safetensors")
    save_file(inside | {EMBED: change(inside[EMBED])}, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_padding_changes_no_other_row(bases, adapteds, instructs, run_stage, tensors, tmp_path) -> None:
    """Rows beyond the vocabulary, of another number in each model; the first of them receives an added token."""

    def padded(source: Path, rows: int) -> Path:
        return copy_with_embeddings(
            source, tmp_path / f"{rows}", lambda t: torch.cat([t, 9 + torch.randn(rows - len(t), DIM)])
        )

    plain = {"base": bases["tied"], "adapted": adapteds["tied"], "instruct": instructs["tied"]}
    rows = {"base": 512, "adapted": 576, "instruct": 640}
    models = {role: padded(folder, rows[role]) for role, folder in plain.items()}
    with_added(models["instruct"], CALL, 500)
    run_stage(PropagateSettings(**plain), tmp_path / "plain")
    result = run_stage(PropagateSettings(**models), tmp_path / "out")
    rows_out = tensors(tmp_path / "out")[EMBED]
    assert rows_out.shape == (576, DIM) and read_json(tmp_path / "out" / "config.json")["vocab_size"] == 576
    assert torch.equal(rows_out[:560], tensors(tmp_path / "plain")[EMBED])
    assert ids(tmp_path / "out", CALL) == [560]
    assert torch.equal(rows_out[560], tensors(models["instruct"])[EMBED][500])
    assert result.fits["embed"].coverage == 1


def test_a_gap_in_the_ids_is_only_a_row(bases, adapteds, instructs, run_stage, tensors, tmp_path) -> None:
    """The adapted vocabulary has no token 530: the tokens behind it, and their rows, are one further."""

    def widened(table: torch.Tensor) -> torch.Tensor:
        return torch.cat([table[:530], torch.zeros(1, DIM), table[530:]])

    models = {"base": bases["tied"], "adapted": adapteds["tied"]}
    models["instruct"] = copy_with_embeddings(
        instructs["tied"], tmp_path / "instruct", lambda t: torch.cat([t, torch.ones(1, DIM)])
    )
    with_added(models["instruct"], CALL, 500)
    run_stage(PropagateSettings(**models), tmp_path / "without")
    models["adapted"] = copy_with_embeddings(adapteds["tied"], tmp_path / "adapted", widened)
    state = read_json(models["adapted"] / "tokenizer.json")
    state["model"]["vocab"] = {text: id_ + (id_ >= 530) for text, id_ in state["model"]["vocab"].items()}
    (models["adapted"] / "tokenizer.json").write_text(json.dumps(state))
    run_stage(PropagateSettings(**models), tmp_path / "out")
    found, wanted = tensors(tmp_path / "out")[EMBED], widened(tensors(tmp_path / "without")[EMBED])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
    for folder, id_ in ((tmp_path / "without", 560), (tmp_path / "out", 561)):
        assert AutoTokenizer.from_pretrained(folder)(CALL, add_special_tokens=False)["input_ids"] == [id_]


@pytest.mark.parametrize("which", ["adapted", "instruct"])
def test_an_added_token_behind_a_hole_is_refused(bases, adapteds, instructs, run_stage, tmp_path, which) -> None:
    """The file says 580, which `tokenizers` and transformers read as the first free id: rows of which are meant?"""
    models = {"base": bases["tied"], "adapted": adapteds["tied"], "instruct": instructs["tied"]}
    models[which] = copy_with_embeddings(
        models[which], tmp_path / which, lambda t: torch.cat([t, torch.ones(100, DIM)])
    )
    with_added(models[which], "<apart>", 580)
    with pytest.raises(TokenizerError, match=r"<apart>.*580"):
        run_stage(PropagateSettings(**models), tmp_path / "out")
