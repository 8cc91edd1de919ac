#!/bin/sh
# Fetch real tokenizers and a real llama.cpp for tests and benchmarks/exactness.py: sh tests/real/fetch.sh [FOLDER]
# By pinned version and hash, through pip as it is configured. Of three packages only tokenizer files are kept; the
# fourth is llama.cpp's server in a wheel for Linux on x86-64: it is unpacked, not installed.
set -eu
target=${1:-${LEP_REAL_TOKENIZERS:-build/real}}
python=${PYTHON:-.venv/bin/python}
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
cat > "$packages/requirements.txt" <<'LIST'
llama-models==0.3.0 --hash=sha256:7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f
mistral-common==1.13.1 --hash=sha256:98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af
dashscope==2.0.2 --hash=sha256:0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258
LIST
"$python" -m pip download --quiet --no-deps --require-hashes --dest "$packages" \
    --requirement "$packages/requirements.txt"
keep() { # WHEEL MEMBER NAME
    mkdir -p "$target/$3"
    "$python" -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
        "$packages"/$1-*.whl "$2" > "$target/$3/tokenizer.model"
}
keep llama_models llama_models/llama3/tokenizer.model llama3
keep mistral_common mistral_common/data/tokenizer.model.v1 mistral
keep dashscope dashscope/resources/qwen.tiktoken qwen
if [ "$(uname -sm)" = "Linux x86_64" ] && [ ! -d "$target/xllamacpp" ]; then
    echo "xllamacpp==2026.10.11549 --hash=sha256:c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261" > "$packages/llama.cpp.txt"
    "$python" -m pip download --quiet --no-deps --require-hashes --only-binary :all: --dest "$packages" \
        --requirement "$packages/llama.cpp.txt"
    "$python" -m zipfile --extract "$packages"/xllamacpp-*.whl "$target/xllamacpp"
fi
smollm2=build/demo/inputs/published/tokenizer.json
if [ -f "$smollm2" ]; then
    mkdir -p "$target/smollm2"
    cp "$smollm2" "$target/smollm2/tokenizer.json"
fi
# A Russian BPE and a Russian Unigram of 32,000, as in the paper: digits split, bytes to fall back on.
"$python" - "$target" <<'PYTHON'
import itertools, json, pathlib, sys
import sentencepiece

target, source = pathlib.Path(sys.argv[1]), pathlib.Path("build/demo/inputs/ru.jsonl")
for kind in ("bpe", "unigram") if source.exists() else ():
    folder = target / f"ru_{kind}"
    if (folder / "tokenizer.model").exists():
        continue
    folder.mkdir(exist_ok=True)
    with source.open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in itertools.islice(lines, 40_000)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(part for text in texts for part in text.split("\n") if part),
        model_prefix=str(folder / "tokenizer"), model_type=kind, vocab_size=32_000, byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        max_sentence_length=20_000, num_threads=1, minloglevel=2,
    )
PYTHON
