"""Propagation at full size: time, memory, bytes and rate, beside this machine's own limits and torch's least squares.

    python benchmarks/propagation.py size [--base build/real/llama3] [--text build/demo/inputs/ru.jsonl] [--device cpu]
    python benchmarks/propagation.py solvers
    python benchmarks/propagation.py precision
    python benchmarks/propagation.py devices

`size` makes base, adapted and instruct with the shapes of LLaMa-3-8B in build/benchmark: real vocabularies, the new one
with 46,560 tokens learned from TEXT; random embeddings, the instruct model's a linear change of the base's plus noise;
all other weights in sparse files. It runs `lep propagate` on them as a user does. `solvers` solves one matrix of
128,256 rows with `torch.linalg.lstsq` and with lep, each in its own process. `precision` prints the error of the normal
equations, the blocked QR and products in float32 for growing condition numbers. `devices` fits and writes one matrix of
LLaMa-3-8B on a GPU, where there is one, and on all CPU cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from lep.core.embedding_matrix import iter_row_blocks
from lep.core.initialization import initialize_embeddings
from lep.core.least_squares import BlockedQR, IllConditionedError, NormalEquations
from lep.core.propagation import fit_projection, propagate_embeddings
from lep.core.vocabulary import VocabularyMap
from lep.io.model_folder import open_model, write_json
from lep.io.model_writer import plan_model_copy
from lep.io.safetensors_files import read_header, write_shard
from lep.io.stored_embedding_matrix import StoredEmbeddingMatrix
from lep.io.tokenizer_file import map_vocabularies, read_tokenizer

FOLDER = Path("build/benchmark")
DIM, LAYERS, KEY_VALUE, INNER = 4096, 32, 1024, 14336
NEW_TOKENS, ROWS = 46_560, 128_256
RESERVED = 256
"""LLaMa-3's special tokens, which its tiktoken file lacks: here unused rows."""
CONDITION = 1e3


def flops_per_second(dtype: torch.dtype, device: str = "cpu") -> float:
    """Return the best rate of three products of 4096 × 4096 matrices."""
    matrix = torch.randn(4096, 4096, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        matrix.mm(matrix)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * 4096**3 / best


def make_models(base: Path, text: Path) -> None:
    """Make base, adapted and instruct, unless they exist."""
    if (FOLDER / "ready").exists():
        return
    for name in ("base", "adapted", "instruct"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    lep("retokenize", f"base={base}", f"corpus={text}", f"new_tokens={NEW_TOKENS}", f"out={FOLDER / 'tokenizer'}")
    old, new = read_tokenizer(base), read_tokenizer(FOLDER / "tokenizer")
    generator = torch.Generator().manual_seed(0)
    change = 0.05 * torch.randn(DIM, DIM, generator=generator) / DIM**0.5
    models = {"base": old, "instruct": old, "adapted": new}
    matrices = {name: make_model(FOLDER / name, rows=len(file.vocabulary) + RESERVED) for name, file in models.items()}
    for name, file in models.items():
        (FOLDER / name / "tokenizer.json").write_text(json.dumps(file.tokenizer_json))
        write_json(FOLDER / name / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    scales = torch.logspace(0, -torch.tensor(CONDITION).log10(), DIM) / 50
    for name in ("embed", "head"):
        for span in iter_row_blocks(len(matrices["base"][name]), dim=DIM):
            rows = torch.randn(span.stop - span.start, DIM, generator=generator) * scales
            noise = torch.randn(rows.shape, generator=generator) * scales
            matrices["base"][name][span] = rows
            matrices["instruct"][name][span] = rows + rows @ change + 0.02 * noise
        initialize_embeddings(matrices["base"][name], map_vocabularies(old, new), out=matrices["adapted"][name])
    (FOLDER / "ready").touch()


def make_model(folder: Path, *, rows: int) -> dict[str, StoredEmbeddingMatrix]:
    """Write a Llama folder of three shards: layers as holes of the file system, and each embedding in its own shard."""
    folder.mkdir(parents=True)
    layers: dict[str, tuple[str, tuple[int, ...]]] = {"model.norm.weight": ("BF16", (DIM,))}
    shapes = {
        "self_attn.q_proj": (DIM, DIM),
        "self_attn.k_proj": (KEY_VALUE, DIM),
        "self_attn.v_proj": (KEY_VALUE, DIM),
    }
    shapes |= {"self_attn.o_proj": (DIM, DIM), "mlp.gate_proj": (INNER, DIM), "mlp.up_proj": (INNER, DIM)}
    shapes |= {"mlp.down_proj": (DIM, INNER), "input_layernorm": (DIM,), "post_attention_layernorm": (DIM,)}
    for layer in range(LAYERS):
        layers |= {f"model.layers.{layer}.{name}.weight": ("BF16", shape) for name, shape in shapes.items()}
    write_sparse(folder / "model-00002-of-00003.safetensors", layers)
    names = {"embed": ("00001", "model.embed_tokens.weight"), "head": ("00003", "lm_head.weight")}
    matrices = {}
    for key, (number, name) in names.items():
        file = folder / f"model-{number}-of-00003.safetensors"
        infos = write_shard(file, copied={}, allocated={name: ("BF16", (rows, DIM))})
        matrices[key] = StoredEmbeddingMatrix(infos[name])
    weight_map = {name: file.name for file in folder.glob("*.safetensors") for name in read_header(file)}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    config = {"model_type": "llama", "vocab_size": rows, "hidden_size": DIM, "tie_word_embeddings": False}
    config |= {"num_hidden_layers": LAYERS, "intermediate_size": INNER, "num_key_value_heads": 8}
    write_json(folder / "config.json", config | {"num_attention_heads": 32, "architectures": ["LlamaForCausalLM"]})
    return matrices


def write_sparse(file: Path, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Write tensors of zeros as holes of the file system."""
    write_shard(file, copied={}, allocated=tensors)
    size, header = file.stat().st_size, min(entry.begin for entry in read_header(file).values())
    os.truncate(file, header)
    os.truncate(file, size)


def lep(*words: str) -> tuple[float, float]:
    """Run the command; return its seconds, and the peak memory of all child processes so far in GiB."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lep.cli.main", *words], check=True)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def size(base: Path, text: Path, device: str) -> None:
    """Propagate at full size and print time, memory and rates."""
    make_models(base, text)
    out = FOLDER / "propagated"
    shutil.rmtree(out, ignore_errors=True)
    words = [f"{name}={FOLDER / name}" for name in ("base", "adapted", "instruct")] + [f"device={device}", f"out={out}"]
    before = {dtype: flops_per_second(dtype, device) for dtype in (torch.float64, torch.float32)}
    lep("propagate", "--dry-run", *words)
    seconds, memory = lep("propagate", *words)
    after = {dtype: flops_per_second(dtype, device) for dtype in before}
    result = json.loads((out / "manifest.json").read_text())["result"]
    fits = [fit["fit_seconds"] for fit in result["fits"].values()]
    writes = [fit["write_seconds"] for fit in result["fits"].values()]
    rows = len(open_model(FOLDER / "adapted").embedding_matrix("embed"))
    work = rows * DIM**2 * (2 + 1 + 512 / DIM + 0.2) + 7 * DIM**3
    peak = max(before[torch.float64], after[torch.float64])
    new_bytes = 2 * rows * DIM * 2
    written = sum(file.stat().st_size for file in out.iterdir() if file.stat().st_nlink == 1)
    floor = 2 * (work / peak + 2 * rows * DIM**2 / max(before[torch.float32], after[torch.float32]))
    print(f"\n{'propagation, LLaMa-3-8B shapes':<46}{device:>12}")
    print(f"{'tokens':<46}{len(open_model(FOLDER / 'base').embedding_matrix('embed')):>12,} → {rows:,}")
    print(f"{'seconds, the whole command':<46}{seconds:>12.0f}")
    print(f"{'seconds, fitting embed and head':<46}{fits[0]:>12.0f} + {fits[1]:.0f}")
    print(f"{'seconds, writing embed and head':<46}{writes[0]:>12.0f} + {writes[1]:.0f}")
    print(f"{'floor by counted operations, seconds':<46}{floor:>12.0f}")
    print(f"{'peak memory, GiB':<46}{memory:>12.2f}")
    measured = f"{before[torch.float64] / 1e9:>12.1f}, {after[torch.float64] / 1e9:.1f}"
    print(f"{'float64 products, GFLOP/s: before, after':<46}{measured}")
    print(f"{'fits, GFLOP/s':<46}{2 * work / sum(fits) / 1e9:>12.1f}")
    print(f"{'fits over products, %':<46}{100 * 2 * work / sum(fits) / peak:>12.0f}")
    print(f"{'bytes written over new embeddings':<46}{written / new_bytes:>12.2f}")
    print(
        f"{'held-out residual, embed and head':<46}"
        + " and ".join(f"{t['residual_heldout']:.4f}" for t in result["fits"].values())
    )
    linked = sum(
        entry.end - entry.begin for entry in read_header(FOLDER / "base" / "model-00002-of-00003.safetensors").values()
    )
    print(f"{'all other weights, GB, linked':<46}{linked / 1e9:>12.1f}")
    assert (
        plan_model_copy(open_model(FOLDER / "instruct"), num_embeddings=rows).bytes_to_write == result["bytes_written"]
    )


def solve_matrix(dim: int, solver: str) -> tuple[float, float, Tensor]:
    """Solve X Δ = D for 128,256 rows; return seconds, peak memory in GiB, and a part of Δ."""
    generator = torch.Generator().manual_seed(dim)
    base = torch.randn(ROWS, dim, generator=generator)
    instruct = base + 0.1 * torch.randn(ROWS, dim, generator=generator)
    ids = torch.arange(ROWS)
    started = time.perf_counter()
    if solver == "lep":
        same = VocabularyMap(ids, ids >= 0, torch.arange(ROWS + 1), ROWS)
        delta = fit_projection(base, instruct, same, method="conversion").delta
    else:
        delta = torch.linalg.lstsq(base.double(), instruct.double() - base.double(), driver="gels").solution
    seconds = time.perf_counter() - started
    assert delta is not None
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, delta[:64]


def solvers() -> None:
    """Solve one matrix by lep (which also measures the held-out error) and by torch."""
    print(f"{'columns':>8}{'gels, s':>10}{'lep, s':>10}{'ratio':>8}{'gels, GiB':>11}{'lep, GiB':>10}{'difference':>12}")
    for dim in (1024, 2048):
        results = {}
        for solver in ("gels", "lep"):
            with get_context("spawn").Pool(1) as pool:
                results[solver] = pool.apply(solve_matrix, (dim, solver))
        (torch_s, torch_gib, torch_delta), (lep_s, lep_gib, lep_delta) = results["gels"], results["lep"]
        difference = float((lep_delta - torch_delta).norm() / torch_delta.norm())
        row = f"{torch_s:>10.1f}{lep_s:>10.1f}{torch_s / lep_s:>8.2f}{torch_gib:>11.1f}{lep_gib:>10.1f}"
        print(f"{dim:>8}{row}{difference:>12.0e}", flush=True)


def precision() -> None:
    """Print the relative error of Δ against an exact linear change, 20,000 × 512, by condition of X."""
    print(f"{'condition':>10}{'float64 sums':>14}{'blocked QR':>12}{'float32 products':>18}")
    generator = torch.Generator().manual_seed(0)
    exact = 0.1 * torch.randn(512, 512, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(512, 512, generator=generator, dtype=torch.float64))[0]
    for power in range(1, 9):
        x = torch.randn(20_000, 512, generator=generator, dtype=torch.float64)
        x = x @ torch.logspace(0, -power, 512, dtype=torch.float64).diag() @ rotation
        d = x @ exact
        errors = []
        for kind, dtype in (
            (NormalEquations, torch.float64),
            (BlockedQR, torch.float64),
            (NormalEquations, torch.float32),
        ):
            equations = kind.empty(512)
            for rows, change in zip(x.split(4096), d.split(4096), strict=True):
                if dtype == torch.float64 or isinstance(equations, BlockedQR):
                    equations.add_rows(rows, change)
                else:  # products in float32, added up in float64
                    equations.gram_triangle += (rows.float().T @ rows.float()).double()
                    equations.cross += (rows.float().T @ change.float()).double()
                    equations.rows += len(rows)
            try:
                errors.append(f"{float((equations.solve().delta - exact).norm() / exact.norm()):.0e}")
            except IllConditionedError:
                errors.append("refused")
        print(f"{10.0**power:>10.0e}{errors[0]:>14}{errors[1]:>12}{errors[2]:>18}", flush=True)


def devices() -> None:
    """Print the seconds of one fit and one propagation on each device, and the difference from the CPU's result."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(ROWS, DIM, generator=generator).bfloat16()
    instruct = (base.float() + 0.1 * torch.randn(ROWS, DIM, generator=generator)).bfloat16()
    ids = torch.arange(ROWS)
    same = VocabularyMap(ids, ids >= 0, torch.arange(ROWS + 1), ROWS)
    print(f"{'device':<8}{'fit, s':>8}{'write, s':>10}{'Δ differs by':>14}{'rows by':>10}")
    reference: tuple[Tensor, Tensor] | None = None
    for device in ("cpu", *(["cuda", "cuda"] if torch.cuda.is_available() else [])):
        out, started = torch.empty_like(base), time.perf_counter()
        projection = fit_projection(base, instruct, same, method="conversion", device=device)
        fitted = time.perf_counter()
        propagate_embeddings(base, projection, out=out, device=device)
        written = time.perf_counter()
        assert projection.delta is not None
        outputs = projection.delta.cpu(), out.float()
        reference = reference or outputs
        differences = [float((new - old).norm() / old.norm()) for new, old in zip(outputs, reference, strict=True)]
        row = f"{fitted - started:>8.2f}{written - fitted:>10.2f}"
        print(f"{device:<8}{row}{differences[0]:>14.0e}{differences[1]:>10.0e}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("size", "solvers", "precision", "devices"))
    parser.add_argument("--base", type=Path, default=Path("build/real/llama3"))
    parser.add_argument("--text", type=Path, default=Path("build/demo/inputs/ru.jsonl"))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.what == "size":
        size(options.base, options.text, options.device)
    else:
        {"solvers": solvers, "precision": precision, "devices": devices}[options.what]()
