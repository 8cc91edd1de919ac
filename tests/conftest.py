"""What tests share: shapes checked in core and engine, text in two languages, tokenizers of every family, tiny models.

Nothing here needs a network: tokenizers are trained in a second, models have a few thousand weights.
"""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import jaxtyping
import pytest
from jaxtyping import install_import_hook

install_import_hook(
    ["lep.core", "lep.data", "lep.tokenization", "lep.modeling", "lep.training", "lep.sampling"], "beartype.beartype"
)

FAMILIES = ("byte_level", "russian_byte_level", "tiktoken", "sentencepiece_bpe", "sentencepiece_unigram", "metaspace")
"""Names of the trained tokenizers, see `tokenizers`; give them to `pytest.mark.parametrize`."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_WORDS = {
    "ru": (
        "Старый профессор|Маленькая девочка|Усталый путешественник|Неизвестный художник|Наш сосед|Молодая учительница",
        "внимательно прочитал|наконец увидела|случайно нашёл|давно забыла|снова написал|быстро перевела",
        "удивительную историю|длинное письмо|государственный документ|1234 страницы|красивую картину|«новый» словарь",
        "в библиотеке|на берегу моря|после обеда|рядом с университетом|перед самым рассветом|ещё в 1987 году",
    ),
    "en": (
        "The old professor|A little girl|The tired traveller|An unknown painter|Our neighbour|The young teacher",
        "carefully read|finally saw|accidentally found|completely forgot|has written|quickly translated",
        "a surprising story|the long letter|an official document|1234 pages|a beautiful picture|the 'new' dictionary",
        "in the library|at the seaside|after lunch|near the university|just before the sunrise|back in 1987",
    ),
}


@pytest.fixture(scope="session")
def texts() -> dict[str, list[str]]:
    """A thousand different sentences by language: `ru` and `en`; the same in every run."""
    found = {}
    for language, slots in _WORDS.items():
        chosen = random.Random(language)
        parts = [slot.split("|") for slot in slots]
        found[language] = [" ".join(map(chosen.choice, parts)) + chosen.choice(".!?…") for _ in range(1000)]
    return found


@pytest.fixture(scope="session")
def tokenizers(texts: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with a tokenizer trained here, by family.

    byte_level: tokenizer.json as SmolLM's (digits one by one, byte-level BPE, three special tokens), learnt from
    English with a little Russian; russian_byte_level: the same from Russian; tiktoken: a rank file with byte_level's
    tokens; sentencepiece_bpe, sentencepiece_unigram: tokenizer.model with byte fallback, from both languages;
    metaspace: sentencepiece_bpe as a tokenizer.json with normalizer and decoder, as Llama-2's.
    """
    root = tmp_path_factory.mktemp("tokenizers")
    folders = {name: root / name for name in FAMILIES}
    for folder in folders.values():
        folder.mkdir()
    both = [*texts["en"], *texts["ru"]]
    _train_byte_level(folders["byte_level"], [*texts["en"], *texts["ru"][:20]], size=500)
    _train_byte_level(folders["russian_byte_level"], texts["ru"], size=600)
    _write_tiktoken(folders["byte_level"], folders["tiktoken"])
    _train_sentencepiece(folders["sentencepiece_bpe"], both, kind="bpe", size=440)
    _train_sentencepiece(folders["sentencepiece_unigram"], both, kind="unigram", size=400)
    _write_metaspace(folders["sentencepiece_bpe"], folders["metaspace"])
    return folders


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    """`make_model(path, tokenizer, *, tied, dtype, seed, shards)`: see `_make_model`."""
    return _make_model


@pytest.fixture(scope="session")
def train_sentencepiece() -> Callable[..., None]:
    """`train_sentencepiece(folder, documents, *, kind, size, …)`: writes a tokenizer.model with byte fallback."""
    return _train_sentencepiece


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`without("trl", peft="0.1")`: from now on `lep` finds no trl, and an old peft."""
    from importlib.metadata import PackageNotFoundError, version

    from lep import extras

    def change(*gone: str, **old: str) -> None:
        def found(name: str) -> str:
            if name in gone:
                raise PackageNotFoundError(name)
            return old.get(name) or version(name)

        monkeypatch.setattr(extras, "version", found)

    return change


class Server:
    """`transformers serve` on this machine: loads any model folder by its name; can be killed, and started again."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu", "--dtype", "float32"]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            command = [str(Path(sys.executable).with_name("transformers")), "serve", *where]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        until = time.monotonic() + 120
        while not self._is_up():
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def _is_up(self) -> bool:
        try:
            return urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).status == 200
        except OSError:
            return False


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server of models, OpenAI-compatible: see `Server`."""
    server = Server(tmp_path_factory.mktemp("server") / "log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes are not checked by jaxtyping, so that a function's own check of them is seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _make_model(
    path: Path,
    tokenizer: Path,
    *,
    tied: bool = True,
    dtype: str = "float32",
    seed: int = 0,
    shards: int = 1,
    layers: int = 2,
) -> Path:
    """Write a random Llama, 32 wide, with the tokenizer files of a folder; returns its folder.

    Args:
        path: the folder to make.
        tokenizer: a folder of `tokenizers`; the tables get as many rows as it has ids.
        tied: whether one matrix is both tables.
        dtype: of all weights.
        seed: models of two seeds differ in every weight.
        shards: 1 writes model.safetensors; more write that many files and an index, `embed` in the first, `head` in
            the last.
        layers: of the decoder.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lep.io.model_writer import copy_tokenizer
    from lep.io.tokenizer_file import read_tokenizer

    read = read_tokenizer(tokenizer)
    end = read.added_tokens.get(SPECIAL[0], 0)
    config = LlamaConfig(
        vocab_size=len(read.vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=end,
        eos_token_id=end,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(path)
    if shards > 1:
        _shard(path, shards)
    copy_tokenizer(tokenizer, path)
    return path


def _shard(path: Path, shards: int) -> None:
    from safetensors.torch import load_file, save_file

    single = path / "model.safetensors"
    tensors = load_file(single)
    names = sorted(tensors, key=lambda name: ("embed" not in name, "lm_head" in name, name))
    weight_map = {name: i * shards // len(names) for i, name in enumerate(names)}
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        inside = {name: tensors[name] for name, shard in weight_map.items() if shard == i}
        save_file(inside, path / file, metadata={"format": "pt"})
    size = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": {name: files[i] for name, i in weight_map.items()}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    single.unlink()


def _train_byte_level(folder: Path, documents: list[str], *, size: int) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    settings |= {"bos_token": SPECIAL[0], "eos_token": SPECIAL[0], "pad_token": SPECIAL[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def _train_sentencepiece(folder: Path, documents: list[str], *, kind: str, size: int, **more: object) -> None:
    import sentencepiece

    options = {
        "byte_fallback": True,
        "split_digits": True,
        "character_coverage": 0.999,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "num_threads": 1,
        "minloglevel": 2,
    }
    prefix = str(folder / "tokenizer")
    options |= {"model_prefix": prefix, "model_type": kind, "vocab_size": size} | more
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(documents), **options)


def _write_tiktoken(source: Path, target: Path) -> None:
    """The single bytes in byte order, then the source's longer tokens in the order of its merges."""
    from lep.core.token_bytes import decode_byte_level

    merges = json.loads((source / "tokenizer.json").read_text())["model"]["merges"]
    ranked = [bytes([byte]) for byte in range(256)]
    ranked += [decode_byte_level("".join(merge)) for merge in merges]
    lines = [base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranked)]
    (target / "tokenizer.model").write_bytes(b"".join(lines))


def _write_metaspace(source: Path, target: Path) -> None:
    from lep.io.tokenizer_file import read_tokenizer

    prepend, replace = {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}}
    normalizer = {"type": "Sequence", "normalizers": [prepend, replace | {"content": "▁"}]}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoder = {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]}
    state = read_tokenizer(source).tokenizer_json | {"normalizer": normalizer, "decoder": decoder}
    (target / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False))
    (target / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
