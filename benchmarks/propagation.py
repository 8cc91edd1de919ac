"""Propagation at full size: time, memory, bytes and rate, beside this machine's own limits and torch's least squares.

    python benchmarks/propagation.py size [--base build/real/llama3] [--text build/demo/inputs/ru.jsonl] [--device cpu]
    python benchmarks/propagation.py solvers
    python benchmarks/propagation.py precision
    python benchmarks/propagation.py devices

`size` makes base, adapted and instruct with the shapes of LLaMa-3-8B in build/benchmark: real vocabularies, the new one
with 46,560 tokens learnt from TEXT; random tables, the instruct model's a linear change of the base's and noise; all
other weights in sparse files. It runs `lep propagate` on them as a user does. `solvers` solves one table of
128,256 rows as `torch.linalg.lstsq` does and as lep does, each in a process of its own. `precision` says what the
normal equations, the blocked QR and products in float32 make of tables of growing condition. `devices` fits and writes
one table of LLaMa-3-8B on a GPU, where there is one, and on all cores of the processor.
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

from lep.core.initialization import initialize
from lep.core.least_squares import BlockedQR, IllConditioned, NormalEquations
from lep.core.propagation import Fit, fit_projection, propagate
from lep.core.table_rows import spans
from lep.core.vocabulary import VocabularyMap
from lep.io.model_folder import open_model, write_json
from lep.io.model_writer import lay_out
from lep.io.safetensors_files import read_header, write_shard
from lep.io.stored_rows import StoredRows
from lep.io.tokenizer_file import map_vocabularies, read_tokenizer

FOLDER = Path("build/benchmark")
DIM, LAYERS, KEY_VALUE, INNER = 4096, 32, 1024, 14336
NEW_TOKENS, ROWS = 46_560, 128_256
RESERVED = 256
"""LLaMa-3's special tokens, which its tiktoken file lacks: here rows of no token."""
CONDITION = 1e3


def flops_per_second(dtype: torch.dtype, device: str = "cpu") -> float:
    """The best of three products of 4096 × 4096 matrices."""
    matrix = torch.randn(4096, 4096, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        matrix.mm(matrix)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * 4096**3 / best


def make_models(base: Path, text: Path) -> None:
    """Base, adapted and instruct, unless they are there."""
    if (FOLDER / "ready").exists():
        return
    for name in ("base", "adapted", "instruct"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    lep("retokenize", f"base={base}", f"corpus={text}", f"new_tokens={NEW_TOKENS}", f"out={FOLDER / 'tokenizer'}")
    old, new = read_tokenizer(base), read_tokenizer(FOLDER / "tokenizer")
    chance = torch.Generator().manual_seed(0)
    change = 0.05 * torch.randn(DIM, DIM, generator=chance) / DIM**0.5
    models = {"base": old, "instruct": old, "adapted": new}
    tables = {name: make_model(FOLDER / name, rows=len(read.vocabulary) + RESERVED) for name, read in models.items()}
    for name, read in models.items():
        (FOLDER / name / "tokenizer.json").write_text(json.dumps(read.state))
        write_json(FOLDER / name / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    scales = torch.logspace(0, -torch.tensor(CONDITION).log10(), DIM) / 50
    for table in ("embed", "head"):
        for span in spans(len(tables["base"][table]), dim=DIM):
            rows = torch.randn(span.stop - span.start, DIM, generator=chance) * scales
            noise = torch.randn(rows.shape, generator=chance) * scales
            tables["base"][table][span] = rows
            tables["instruct"][table][span] = rows + rows @ change + 0.02 * noise
        initialize(tables["base"][table], map_vocabularies(old, new), out=tables["adapted"][table])
    (FOLDER / "ready").touch()


def make_model(folder: Path, *, rows: int) -> dict[str, StoredRows]:
    """A Llama folder of three shards: layers that take no space on the disk, and each table for itself."""
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
    tables = {}
    for table, (number, name) in names.items():
        file = folder / f"model-{number}-of-00003.safetensors"
        tables[table] = StoredRows(write_shard(file, kept={}, fresh={name: ("BF16", (rows, DIM))})[name])
    places = {name: file.name for file in folder.glob("*.safetensors") for name in read_header(file)}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    config = {"model_type": "llama", "vocab_size": rows, "hidden_size": DIM, "tie_word_embeddings": False}
    config |= {"num_hidden_layers": LAYERS, "intermediate_size": INNER, "num_key_value_heads": 8}
    write_json(folder / "config.json", config | {"num_attention_heads": 32, "architectures": ["LlamaForCausalLM"]})
    return tables


def write_sparse(file: Path, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Tensors of zeros as holes of the file system."""
    write_shard(file, kept={}, fresh=tensors)
    size, header = file.stat().st_size, min(entry.begin for entry in read_header(file).values())
    os.truncate(file, header)
    os.truncate(file, size)


def lep(*words: str) -> tuple[float, float]:
    """Run the command; its seconds, and the peak memory of all children so far in GiB."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lep.cli.main", *words], check=True)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def size(base: Path, text: Path, device: str) -> None:
    """Propagate at full size and print what it took."""
    make_models(base, text)
    out = FOLDER / "propagated"
    shutil.rmtree(out, ignore_errors=True)
    words = [f"{name}={FOLDER / name}" for name in ("base", "adapted", "instruct")] + [f"device={device}", f"out={out}"]
    before = {dtype: flops_per_second(dtype, device) for dtype in (torch.float64, torch.float32)}
    lep("propagate", "--dry-run", *words)
    seconds, memory = lep("propagate", *words)
    after = {dtype: flops_per_second(dtype, device) for dtype in before}
    numbers = json.loads((out / "manifest.json").read_text())["numbers"]
    fits = [fit["seconds"]["fit"] for fit in numbers["tables"].values()]
    writes = [fit["seconds"]["write"] for fit in numbers["tables"].values()]
    rows = len(open_model(FOLDER / "adapted").rows("embed"))
    work = rows * DIM**2 * (2 + 1 + 512 / DIM + 0.2) + 7 * DIM**3
    peak = max(before[torch.float64], after[torch.float64])
    tables = 2 * rows * DIM * 2
    written = sum(file.stat().st_size for file in out.iterdir() if file.stat().st_nlink == 1)
    floor = 2 * (work / peak + 2 * rows * DIM**2 / max(before[torch.float32], after[torch.float32]))
    print(f"\n{'propagation, LLaMa-3-8B shapes':<46}{device:>12}")
    print(f"{'tokens':<46}{len(open_model(FOLDER / 'base').rows('embed')):>12,} → {rows:,}")
    print(f"{'seconds, the whole command':<46}{seconds:>12.0f}")
    print(f"{'seconds, fitting embed and head':<46}{fits[0]:>12.0f} + {fits[1]:.0f}")
    print(f"{'seconds, writing embed and head':<46}{writes[0]:>12.0f} + {writes[1]:.0f}")
    print(f"{'floor by counted operations, seconds':<46}{floor:>12.0f}")
    print(f"{'peak memory, GiB':<46}{memory:>12.2f}")
    measured = f"{before[torch.float64] / 1e9:>12.1f}, {after[torch.float64] / 1e9:.1f}"
    print(f"{'float64 products, GFLOP/s: before, after':<46}{measured}")
    print(f"{'fits, GFLOP/s':<46}{2 * work / sum(fits) / 1e9:>12.1f}")
    print(f"{'fits over products, %':<46}{100 * 2 * work / sum(fits) / peak:>12.0f}")
    print(f"{'bytes written over new tables':<46}{written / tables:>12.2f}")
    print(
        f"{'held-out residual, embed and head':<46}"
        + " and ".join(f"{t['residual_heldout']:.4f}" for t in numbers["tables"].values())
    )
    beside = sum(
        entry.end - entry.begin for entry in read_header(FOLDER / "base" / "model-00002-of-00003.safetensors").values()
    )
    print(f"{'all other weights, GB, linked':<46}{beside / 1e9:>12.1f}")
    assert lay_out(open_model(FOLDER / "instruct"), rows=rows).bytes == numbers["bytes_written"]


def one_table(dim: int, how: str) -> tuple[float, float, Tensor]:
    """Solve X Δ = D for 128,256 rows; seconds, peak memory in GiB, and a part of Δ."""
    chance = torch.Generator().manual_seed(dim)
    base = torch.randn(ROWS, dim, generator=chance)
    instruct = base + 0.1 * torch.randn(ROWS, dim, generator=chance)
    ids = torch.arange(ROWS)
    started = time.perf_counter()
    if how == "lep":
        same = VocabularyMap(ids, ids >= 0, torch.arange(ROWS + 1), ROWS)
        delta = fit_projection(Fit(same, base, instruct), "conversion").delta
    else:
        delta = torch.linalg.lstsq(base.double(), instruct.double() - base.double(), driver="gels").solution
    seconds = time.perf_counter() - started
    assert delta is not None
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, delta[:64]


def solvers() -> None:
    """One table, by lep (which also fits and judges the held-out rows) and by torch."""
    print(f"{'columns':>8}{'gels, s':>10}{'lep, s':>10}{'ratio':>8}{'gels, GiB':>11}{'lep, GiB':>10}{'difference':>12}")
    for dim in (1024, 2048):
        found = {}
        for how in ("gels", "lep"):
            with get_context("spawn").Pool(1) as pool:
                found[how] = pool.apply(one_table, (dim, how))
        (torch_s, torch_gib, theirs), (lep_s, lep_gib, ours) = found["gels"], found["lep"]
        difference = float((ours - theirs).norm() / theirs.norm())
        took = f"{torch_s:>10.1f}{lep_s:>10.1f}{torch_s / lep_s:>8.2f}{torch_gib:>11.1f}{lep_gib:>10.1f}"
        print(f"{dim:>8}{took}{difference:>12.0e}", flush=True)


def precision() -> None:
    """Relative error of Δ against an exact linear change, 20,000 × 512, by condition of X."""
    print(f"{'condition':>10}{'float64 sums':>14}{'blocked QR':>12}{'float32 products':>18}")
    chance = torch.Generator().manual_seed(0)
    exact = 0.1 * torch.randn(512, 512, generator=chance, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(512, 512, generator=chance, dtype=torch.float64))[0]
    for power in range(1, 9):
        x = torch.randn(20_000, 512, generator=chance, dtype=torch.float64)
        x = x @ torch.logspace(0, -power, 512, dtype=torch.float64).diag() @ turn
        d = x @ exact
        errors = []
        for kind, dtype in (
            (NormalEquations, torch.float64),
            (BlockedQR, torch.float64),
            (NormalEquations, torch.float32),
        ):
            equations = kind.empty(512)
            for rows, change in zip(x.split(4096), d.split(4096), strict=True):
                if dtype == torch.float64:
                    equations.add(rows, change)
                else:  # products in float32, added up in float64
                    equations.gram += (rows.float().T @ rows.float()).double()
                    equations.cross += (rows.float().T @ change.float()).double()
                    equations.rows += len(rows)
            try:
                errors.append(f"{float((equations.solve().delta - exact).norm() / exact.norm()):.0e}")
            except IllConditioned:
                errors.append("refused")
        print(f"{10.0**power:>10.0e}{errors[0]:>14}{errors[1]:>12}{errors[2]:>18}", flush=True)


def devices() -> None:
    """Seconds of one fit and one writing on each device, and how far its P and rows are from the processor's."""
    chance = torch.Generator().manual_seed(0)
    base = torch.randn(ROWS, DIM, generator=chance).bfloat16()
    instruct = (base.float() + 0.1 * torch.randn(ROWS, DIM, generator=chance)).bfloat16()
    ids = torch.arange(ROWS)
    same = VocabularyMap(ids, ids >= 0, torch.arange(ROWS + 1), ROWS)
    print(f"{'device':<8}{'fit, s':>8}{'write, s':>10}{'Δ differs by':>14}{'rows by':>10}")
    reference: tuple[Tensor, Tensor] | None = None
    for device in ("cpu", *(["cuda", "cuda"] if torch.cuda.is_available() else [])):
        out, started = torch.empty_like(base), time.perf_counter()
        projection = fit_projection(Fit(same, base, instruct, device=device), "conversion")
        fitted = time.perf_counter()
        propagate(base, projection, out=out, device=device)
        written = time.perf_counter()
        assert projection.delta is not None
        found = projection.delta.cpu(), out.float()
        reference = reference or found
        apart = [float((ours - theirs).norm() / theirs.norm()) for ours, theirs in zip(found, reference, strict=True)]
        took = f"{fitted - started:>8.2f}{written - fitted:>10.2f}"
        print(f"{device:<8}{took}{apart[0]:>14.0e}{apart[1]:>10.0e}", flush=True)


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
