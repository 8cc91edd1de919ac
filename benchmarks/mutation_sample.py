"""Change one operator, constant or condition of the source at a time, and see whether the tests notice.

    python benchmarks/mutation_sample.py --count 200 --seed 0 --workers 2

Draws mutants at random from the packages that compute, read, write, train, export and score. Each is tested in a copy
of the tree: first the module's own tests, then those of its package, then the stages that use it; the first failure
kills it. Prints every surviving mutant and the share that was killed. Processes are forked from one that has imported
the libraries, so that a mutant costs seconds. Constants of modules (tables, sizes of buffers) are not changed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lep"
STAGE_TESTS = {
    "core": ("stages/test_propagate.py", "stages/test_initialize.py"),
    "io": ("stages/test_propagate.py", "stages/test_propagate_siblings.py"),
    "data": ("stages/test_collect.py", "stages/test_pretrain.py", "stages/test_tune.py", "stages/test_calibrate.py"),
    "modeling": ("stages/test_pretrain.py", "stages/test_pretrain_learn.py", "stages/test_tune.py"),
    "training": ("stages/test_pretrain.py", "stages/test_pretrain_edges.py", "stages/test_tune.py"),
    "tokenization": ("stages/test_retokenize.py", "stages/test_advise.py"),
    "gguf": (),
    "evaluation": ("stages/test_evaluate.py", "stages/test_evaluate_benchmark.py"),
    "sampling": ("stages/test_calibrate.py",),
}
TIMEOUT = 600
"""Seconds after which a mutant counts as killed: it hangs."""
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change of one expression of a file."""

    file: Path
    line: int
    before: str
    after: str
    source: str
    """The whole file with the change."""

    def __str__(self) -> str:
        return f"{self.file.relative_to(SOURCE)}:{self.line}: {self.before}  →  {self.after}"


def mutated_expressions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what an expression could have been by mistake."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield ast.Compare(node.left, [COMPARISONS[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    elif (
        isinstance(node, ast.BinOp)
        and type(node.op) in OPERATORS
        and not isinstance(node.left, ast.Constant | ast.JoinedStr)
    ):
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield ast.Name(NAMES[node.id], ast.Load())
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)


def skipped_nodes(tree: ast.Module) -> set[ast.AST]:
    """Return nodes without logic: annotations, the words of errors, and module constants, which are choices."""
    skipped: set[ast.AST] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if isinstance(part := getattr(node, field, None), ast.AST):
                skipped |= set(ast.walk(part))
        if isinstance(node, ast.Raise | ast.Assert):
            skipped |= set(ast.walk(node))
    return skipped


def mutants(file: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file."""
    text = file.read_text(encoding="utf-8")
    tree, lines = ast.parse(text), text.splitlines(keepends=True)
    skipped = skipped_nodes(tree)
    for node in ast.walk(tree):
        if node in skipped or getattr(node, "lineno", 0) != getattr(node, "end_lineno", -1):
            continue
        for changed in mutated_expressions(node):
            row = lines[node.lineno - 1].encode()
            before, after = row[node.col_offset : node.end_col_offset].decode(), f"({ast.unparse(changed)})"
            line = row[: node.col_offset] + after.encode() + row[node.end_col_offset :]
            source = "".join([*lines[: node.lineno - 1], line.decode(), *lines[node.lineno :]])
            try:
                ast.parse(source)
            except SyntaxError:
                continue
            yield Mutant(file, node.lineno, before, after, source)


def tests_of(file: Path) -> list[list[str]]:
    """Return groups of test files, the nearest first."""
    package, tests = file.relative_to(SOURCE).parts[0], ROOT / "tests"
    own = tests / file.relative_to(SOURCE).parent / f"test_{file.stem}.py"
    groups = [[str(own)]] if own.exists() else []
    groups.append([str(path) for path in sorted((tests / package).rglob("test_*.py")) if path != own])
    groups.append([str(tests / path) for path in STAGE_TESTS[package]])
    return [[str(Path(path).relative_to(ROOT)) for path in group] for group in groups if group]


def is_killed(mutant: Mutant, tree: Path) -> bool:
    """Write the mutant into a copy of the tree and run its tests in forked processes."""
    target = tree / mutant.file.relative_to(ROOT)
    original = target.read_text(encoding="utf-8")
    target.write_text(mutant.source, encoding="utf-8")
    try:
        return any(run_tests(group, tree) for group in tests_of(mutant.file))
    finally:
        target.write_text(original, encoding="utf-8")


def run_tests(files: list[str], tree: Path) -> bool:
    """Return whether a test fails, or takes too long."""
    child = os.fork()
    if child == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.chdir(tree)
        sys.path.insert(0, str(tree / "src"))
        os.environ |= {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        import pytest

        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files])))
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) not in (0, 5)  # 5: no test was collected
        time.sleep(0.1)
    os.killpg(child, 9)
    os.waitpid(child, 0)
    return True


def main() -> None:
    """Draw the sample and print what survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--packages", nargs="+", default=list(STAGE_TESTS))
    options = parser.parse_args()
    files = [file for name in options.packages for file in sorted((SOURCE / name).rglob("*.py"))]
    everything = [mutant for file in files for mutant in mutants(file)]
    sample = random.Random(options.seed).sample(everything, options.count)
    import datasets, peft, pytest, tokenizers, torch, transformers, trl  # noqa: E401, F401, I001

    torch.set_num_threads(1)
    free: list[Path] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.workers):
            tree = Path(folder) / str(number)
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "build", "runs", "__pycache__"))
            free.append(tree)

        def test(mutant: Mutant) -> tuple[Mutant, bool]:
            tree = free.pop()
            try:
                return mutant, is_killed(mutant, tree)
            finally:
                free.append(tree)

        alive = 0
        with ThreadPool(options.workers) as pool:
            for number, (mutant, killed) in enumerate(pool.imap_unordered(test, sample), 1):
                alive += not killed
                print(f"{number:4} {'killed' if killed else 'ALIVE '} {mutant}", flush=True)
    killed = len(sample) - alive
    print(f"{killed} of {len(sample)} mutants killed ({killed / len(sample):.1%}); seed {options.seed}")


if __name__ == "__main__":
    main()
