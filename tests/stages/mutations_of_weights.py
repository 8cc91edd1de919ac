"""Weight files, broken: shards, their headers, the index, and the numbers in the tables."""

from __future__ import annotations

import torch
from safetensors.torch import load_file, save_file

from .edits import (
    Change,
    all_of,
    as_the_hub_caches,
    content,
    dangling,
    data,
    entry,
    gone,
    header,
    more_rows,
    nothing_but_a_folder,
    one_more,
    place,
    put,
    raw_header,
    rename,
    row,
    shard_of,
    shift,
    table,
    tables,
    tensors,
    too_deep,
    whole,
)
from .family import DIM, EMBED, HEAD, INDEX, LAYER, SINGLE

Refusal = str | None | dict[str, str | None]
"""What the error says; none: the result must be right; or either, by model."""
Changes = dict[str, tuple[Change, Refusal]]

CUT, HEADER, NO_INDEX = r"truncated|fetch the file again", r"header|truncated in", "not a safetensors index"
FOLDER = r"[Ii]s a directory|a folder"

SHARDS: Changes = {
    "empty": (data(lambda old: b""), CUT),
    "seven bytes": (data(lambda old: old[:7]), CUT),
    "cut in its header": (data(lambda old: old[:40]), CUT),
    "cut in the table": (data(lambda old: old[:-3000]), CUT),
    "cut by a byte": (data(lambda old: old[:-1]), CUT),
    "bytes at its end": (data(lambda old: old + b"more"), CUT),
    "a web page": (data(lambda old: b"<!doctype html><html>not found</html>"), CUT),
    "a pointer of git-lfs": (data(lambda old: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), CUT),
    "gone": (gone(SINGLE), "no weights"),
    "a folder": (nothing_but_a_folder(SINGLE), FOLDER),
    "a dangling link": (dangling(SINGLE), "neither .* nor"),
    "a header of no length": (data(lambda old: bytes(8) + old[8:]), HEADER),
    "a header of a huge length": (data(lambda old: b"\xff" * 8 + old[8:]), HEADER),
    "a header shorter than said": (data(lambda old: (999).to_bytes(8, "little") + old[8:]), HEADER),
    "a header that is no JSON": (raw_header(lambda old: old[:-9] + b"!" * 9), HEADER),
    "a header that is a list": (raw_header(lambda old: b"[" + old.strip() + b"]"), HEADER),
    "a header that is no UTF-8": (raw_header(lambda old: old.replace(b"embed", b"emb\xffd")), HEADER),
    "a header too deep": (raw_header(too_deep), HEADER),
    "a number too long": (raw_header(lambda old: old.replace(b":[0,", b":[" + b"9" * 5000 + b",")), HEADER),
    "a name twice": (raw_header(lambda old: old.replace(LAYER.encode(), EMBED.encode())), HEADER),
    "no tensors": (raw_header(lambda old: b"{}"), "its header needs"),
    "metadata that is a list": (header(lambda h: h.update(__metadata__=[1])), HEADER),
    "an entry that is a list": (header(lambda h: h.update({EMBED: [1, 2]})), HEADER),
    "an entry without a dtype": (entry(dtype=...), HEADER),
    "an entry without a shape": (entry(shape=...), HEADER),
    "an entry without offsets": (entry(data_offsets=...), HEADER),
    "a dtype unknown": (entry(dtype="Q4_K"), "Q4_K"),
    "a dtype that is a list": (entry(dtype=["F32"]), HEADER),
    "a dtype of another width": (entry(dtype="F64"), HEADER),
    "a shape that does not fit": (entry(shape=[7, 8]), HEADER),
    "a shape that is text": (entry(shape="88"), HEADER),
    "a shape that is a number": (entry(shape=2), HEADER),
    "a shape with a fraction": (entry(shape=[275.0, 8]), HEADER),
    "a shape with negative sides": (
        header(
            lambda h: (
                [h[EMBED]["shape"].append(-at) or h[EMBED]["shape"].pop(0) for at in (*h[EMBED]["shape"],)] and None
            )
        ),
        HEADER,
    ),
    "a shape beyond counting": (entry(shape=[2**62, 2**62]), HEADER),
    "a shape with text in it": (entry(shape=["275", 8]), HEADER),
    "offsets that are three": (entry(data_offsets=[0, 10, 20]), HEADER),
    "offsets that are one": (entry(data_offsets=[0]), HEADER),
    "offsets that are text": (entry(data_offsets=["0", "8"]), HEADER),
    "offsets that are not whole": (
        header(lambda h: h[EMBED].update(data_offsets=[float(at) for at in h[EMBED]["data_offsets"]])),
        HEADER,
    ),
    "offsets that are none": (entry(data_offsets=None), HEADER),
    "offsets that are no number": (entry(data_offsets=[0, float("nan")]), HEADER),
    "offsets below zero": (shift(-10_000), HEADER),
    "offsets in reverse": (header(lambda h: h[EMBED]["data_offsets"].reverse()), HEADER),
    "offsets beyond the file": (shift(10**9), HEADER),
    "offsets within another tensor": (shift(4, LAYER), HEADER),
    "a hole between tensors": (header(lambda h: h.pop(LAYER) and None), HEADER),
}
"""Of the one file of a model, by what it is or has."""

INDICES: Changes = {
    "no JSON": (content(INDEX, "{"), NO_INDEX),
    "empty": (content(INDEX, ""), NO_INDEX),
    "no UTF-8": (content(INDEX, b'{"weight_map": "\xff"}'), NO_INDEX),
    "too deep": (content(INDEX, too_deep()), NO_INDEX),
    "a list": (whole(INDEX, lambda i: [i]), NO_INDEX),
    "without a map": (put(INDEX, weight_map=...), NO_INDEX),
    "a map that is a list": (put(INDEX, weight_map=[1, 2]), NO_INDEX),
    "a map that is text": (put(INDEX, weight_map="model"), NO_INDEX),
    "an empty map": (put(INDEX, weight_map={}), NO_INDEX),
    "a place that is a number": (place(model__mask=3), NO_INDEX),
    "a place that is a list": (place(model__mask=[]), NO_INDEX),
    "a place that is empty": (place(model__mask=""), "cannot be read|" + NO_INDEX),
    "a place outside": (place(model__mask="../text.txt"), NO_INDEX),
    "a place that is absolute": (place(model__mask="/etc/passwd"), NO_INDEX),
    "a shard that is not there": (place(model__mask="gone.safetensors"), "gone"),
    "a tensor that is not there": (place(no__tensor="model-00001-of-00003.safetensors"), "no.tensor"),
    "a tensor in another shard": (place(model__mask="model-00001-of-00003.safetensors"), "it is not there"),
    "a tensor left out": (place(model__mask=...), None),
    "no metadata": (put(INDEX, metadata=...), None),
    "metadata that is none": (put(INDEX, metadata=None), None),
    "metadata that is a list": (put(INDEX, metadata=[1]), None),
    "gone": (gone(INDEX), "neither .* nor"),
    "a folder": (nothing_but_a_folder(INDEX), FOLDER),
    "a dangling link": (dangling(INDEX), "neither .* nor"),
    "beside a single file": (lambda f: save_file({EMBED: torch.ones(9, DIM)}, f / SINGLE), "both"),
    "over a first shard that is gone": (lambda f: shard_of(f).unlink(), "not there"),
    "over a last shard that is gone": (lambda f: shard_of(f, HEAD).unlink(), "not there"),
    "over a shard that is a folder": (nothing_but_a_folder("model-00002-of-00003.safetensors"), FOLDER),
    "over a dangling link": (dangling("model-00002-of-00003.safetensors"), "not there"),
    "over a shard cut at its end": (data(lambda old: old[:-1], HEAD), CUT),
    "over layers cut at their end": (data(lambda old: old[:-1], "model.mask"), CUT),
    "over a tensor stored twice": (lambda f: tensors(lambda i: i | load_file(shard_of(f)), HEAD)(f), "is in .* and "),
    "beside a stale shard": (lambda f: save_file({EMBED: torch.ones(9, DIM)}, f / "old.safetensors"), None),
    "among links": (as_the_hub_caches, None),
}
"""Of a model of three files."""

FINITE, QUANTIZED, NO_HEAD = r"not finite", "use the unquantized checkpoint", "says untied embeddings"
NARROW, SHORT = "do not come from one base", "rows for .* tokens"

LAYERS = "layers_scale=1"

TABLES: Changes = {
    "NaN in a token's row": (tables(row(120, torch.nan)), FINITE),
    "infinity in a token's row": (tables(row(265, torch.inf)), FINITE),
    "NaN in a special row": (tables(row(1, torch.nan)), {"base": FINITE, "adapted": None, "instruct": FINITE}),
    "NaN in padding": (tables(more_rows(3, torch.nan)), {"base": None, "adapted": FINITE, "instruct": None}),
    "a zero row": (tables(row(120, 0)), {"base": None, "adapted": "zero or not finite", "instruct": None}),
    "a zero row of a special token": (tables(row(1, 0)), None),
    "all rows zero": (tables(torch.zeros_like), {"base": None, "adapted": "zero or not finite", "instruct": "zero"}),
    "all rows alike": (tables(lambda t: t[:1].repeat(len(t), 1)), None),
    "a column twice": (tables(lambda t: t[:, [*range(DIM - 1), 0]]), None),
    "one row for all and one other": (tables(lambda t: row(120, 2.0)(torch.ones_like(t))), None),
    "numbers near the largest": (tables(lambda t: t * 1e36), {"adapted": FINITE, "instruct": FINITE}),
    "numbers a thousand times as large": (tables(lambda t: t * 1000), None),
    "numbers a thousand times as small": (tables(lambda t: t / 1000), None),
    "padding": (tables(more_rows(5)), None),
    "transposed": (tables(lambda t: t.T), r"\d"),
    "of one axis": (tables(lambda t: t.flatten()), "matrix|shape|table"),
    "of three axes": (tables(lambda t: t[None]), "matrix|shape|table"),
    "of no axis": (tables(lambda t: t[0, 0]), "matrix|shape|table"),
    "of no rows": (tables(lambda t: t[:0]), SHORT),
    "of no columns": (tables(lambda t: t[:, :0]), r"rows of 0|of 0;"),
    "narrower": (tables(lambda t: t[:, :-1]), NARROW),
    "wider": (tables(lambda t: torch.cat([t, t], dim=1)), NARROW),
    "shorter": (tables(lambda t: t[:200]), SHORT),
    "int8": (tables(lambda t: t.to(torch.int8)), QUANTIZED),
    "fp8": (tables(lambda t: t.to(torch.float8_e4m3fn)), QUANTIZED),
    "float64": (tables(lambda t: t.double()), None),
    "float32": (tables(lambda t: t.float()), None),
    "float16": (tables(lambda t: t.half()), None),
    "bfloat16": (tables(lambda t: t.bfloat16()), None),
    "no embed": (rename(EMBED, None), "cannot identify the embeddings"),
    "a bias for each token": (
        one_more("lm_head.bias", torch.ones(0)),
        {"base": None, "adapted": LAYERS, "instruct": None},
    ),
    "a number of a quantizer": (one_more("model.embed_tokens.qweight", torch.ones(2, dtype=torch.int32)), QUANTIZED),
}
"""Of models of one file and of three."""

HEADS: Changes = {
    "no head": (rename(HEAD, None), NO_HEAD),
    "no head, and it says tied": (all_of(rename(HEAD, None), put("config.json", tie_word_embeddings=True)), None),
    "a head of other height": (table(more_rows(2), HEAD), "matrices of one shape"),
    "a head of other width": (table(lambda t: t[:, :-1], HEAD), "as"),
    "a head of another dtype": (table(lambda t: t.float(), HEAD), None),
    "a head that is quantized": (table(lambda t: t.to(torch.int8), HEAD), QUANTIZED),
    "a head of one axis": (table(lambda t: t.flatten(), HEAD), "matrix|shape|table|rows"),
    "a head of NaN in a token's row": (table(row(120, torch.nan), HEAD), FINITE),
    "a head of zeros": (
        table(torch.zeros_like, HEAD),
        {"base": None, "adapted": "zero or not finite", "instruct": "zero or not finite"},
    ),
    "a third table": (
        one_more("model.embed_tokens_2.weight", torch.ones(275, DIM)),
        {"base": None, "adapted": LAYERS, "instruct": "has vocabulary rows too"},
    ),
    "another layer": (
        tensors(lambda i: i | {LAYER: i[LAYER] + 1}, LAYER),
        {"base": LAYERS, "adapted": LAYERS, "instruct": None},
    ),
}
"""Of models of three files, whose tables are two."""
