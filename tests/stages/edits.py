"""Ways to break a model folder: each a function of the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .family import EMBED, HEAD, INDEX, SINGLE, read, write

Change = Callable[[Path], object]
Edit = Callable[[Any], object]
"""Changes a value in place, or returns another; but None replaces nothing."""


def all_of(*changes: Change) -> Change:
    """One after another."""
    return lambda folder: [change(folder) for change in changes]


# -- files -----------------------------------------------------------------------------------------------------------


def gone(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def content(name: str, fresh: bytes | str) -> Change:
    """A file of other content."""
    return lambda folder: (folder / name).write_bytes(fresh if isinstance(fresh, bytes) else fresh.encode())


def cut(name: str, share: float = 0.5) -> Change:
    """The beginning of a file."""

    def change(folder: Path) -> None:
        old = (folder / name).read_bytes()
        (folder / name).write_bytes(old[: int(len(old) * share)])

    return change


def nothing_but_a_folder(name: str) -> Change:
    return lambda folder: ((folder / name).unlink(missing_ok=True), (folder / name).mkdir())


def dangling(name: str) -> Change:
    return lambda folder: ((folder / name).unlink(missing_ok=True), (folder / name).symlink_to("../gone"))


def as_the_hub_caches(folder: Path) -> None:
    """Every file a link to a blob of another name."""
    blobs = folder.parent / f"blobs-{folder.name}"
    blobs.mkdir()
    for i, item in enumerate(sorted(folder.iterdir())):
        item.rename(blobs / f"blob{i}")
        item.symlink_to(Path("..") / blobs.name / f"blob{i}")


# -- JSON ------------------------------------------------------------------------------------------------------------


def edited(value: Any, edit: Edit) -> Any:
    return value if (fresh := edit(value)) is None else fresh


def whole(name: str, edit: Edit) -> Change:
    """A JSON file edited."""
    return lambda folder: write(folder / name, edited(read(folder / name), edit))


def put(name: str, **values: Any) -> Change:
    """Keys of a JSON object set; `...` drops one."""

    def edit(found: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in (found | values).items() if value is not ...}

    return whole(name, edit)


def model(edit: Edit) -> Change:
    """The model of tokenizer.json edited."""
    return whole("tokenizer.json", lambda state: state | {"model": edited(state["model"], edit)})


def vocab(edit: Edit) -> Change:
    return model(lambda inside: inside | {"vocab": edited(inside["vocab"], edit)})


def merges(edit: Edit) -> Change:
    return model(lambda inside: inside | {"merges": edited(inside["merges"], edit)})


def added(edit: Edit) -> Change:
    """The added tokens of tokenizer.json edited."""
    return whole("tokenizer.json", lambda state: state | {"added_tokens": edited(state["added_tokens"], edit)})


def too_deep(_: Any = None) -> bytes:
    return b"[" * 100_000


# -- weights ---------------------------------------------------------------------------------------------------------


def shard_of(folder: Path, name: str = EMBED) -> Path:
    """The file that holds a tensor, through the index where there is one."""
    return folder / (read(folder / INDEX)["weight_map"][name] if (folder / INDEX).exists() else SINGLE)


def data(edit: Callable[[bytes], bytes], name: str = EMBED) -> Change:
    """Other bytes in the file that holds a tensor."""
    return lambda folder: shard_of(folder, name).write_bytes(edit(shard_of(folder, name).read_bytes()))


def raw_header(edit: Callable[[bytes], bytes]) -> Change:
    """Another header around the same tensors."""

    def change(old: bytes) -> bytes:
        end = 8 + int.from_bytes(old[:8], "little")
        fresh = edit(old[8:end])
        return len(fresh).to_bytes(8, "little") + fresh + old[end:]

    return data(change)


def header(edit: Edit) -> Change:
    """Another header, as JSON."""
    return raw_header(lambda text: json.dumps(edited(json.loads(text), edit)).encode())


def entry(**values: Any) -> Change:
    """The header says something else of `embed`; `...` drops a key."""

    def edit(found: dict[str, Any]) -> None:
        found[EMBED] = {key: value for key, value in (found[EMBED] | values).items() if value is not ...}

    return header(edit)


def shift(by: int, name: str = EMBED) -> Change:
    """The header says that a tensor lies elsewhere."""

    def edit(found: dict[str, Any]) -> None:
        found[name]["data_offsets"] = [at + by for at in found[name]["data_offsets"]]

    return header(edit)


def place(**values: Any) -> Change:
    """The index places tensors elsewhere: __ stands for a dot, `...` drops one."""
    values = {name.replace("__", "."): value for name, value in values.items()}

    def edit(found: dict[str, Any]) -> None:
        inside = found["weight_map"] | values
        found["weight_map"] = {name: value for name, value in inside.items() if value is not ...}

    return whole(INDEX, edit)


def tensors(edit: Edit, name: str = EMBED) -> Change:
    """The file that holds a tensor saved again, with its tensors edited."""

    def change(folder: Path) -> None:
        path = shard_of(folder, name)
        save_file({k: v.contiguous() for k, v in edited(load_file(path), edit).items()}, path, {"format": "pt"})

    return change


def table(edit: Callable[[Tensor], Tensor], name: str = EMBED) -> Change:
    """Another table in the place of one."""
    return tensors(lambda inside: inside | {name: edit(inside[name])}, name)


def tables(edit: Callable[[Tensor], Tensor]) -> Change:
    """The same for `embed` and, where there is one, for `head`."""

    def change(folder: Path) -> None:
        stored = read(folder / INDEX)["weight_map"] if (folder / INDEX).exists() else {EMBED}
        all_of(*(table(edit, name) for name in (EMBED, HEAD) if name in stored))(folder)

    return change


def row(at: int, value: float) -> Callable[[Tensor], Tensor]:
    """A table with one row of one value."""
    return lambda old: torch.cat([old[:at], torch.full_like(old[at:][:1], value), old[at:][1:]])


def more_rows(count: int, value: float = 0.0) -> Callable[[Tensor], Tensor]:
    return lambda old: torch.cat([old, torch.full((count, old.shape[1]), value, dtype=old.dtype)])


def rename(old: str, new: str | None) -> Change:
    """A tensor under another name, or dropped."""

    def change(folder: Path) -> None:
        path = shard_of(folder, old)
        tensors(
            lambda inside: {(new if name == old else name): inside[name] for name in inside if new or name != old}, old
        )(folder)
        if (folder / INDEX).exists():
            place(**{old: ...} | ({new: path.name} if new else {}))(folder)

    return change


def one_more(name: str, value: Tensor) -> Change:
    """A tensor beside `embed`."""

    def change(folder: Path) -> None:
        tensors(lambda inside: inside | {name: value})(folder)
        if (folder / INDEX).exists():
            place(**{name: shard_of(folder).name})(folder)

    return change
