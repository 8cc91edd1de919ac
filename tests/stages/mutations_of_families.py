"""What is wrong with a whole family, its settings, its place on the disk, or the disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .edits import added, all_of, gone, put, shard_of, vocab
from .family import (
    EMBED,
    LAYER,
    OLD_WORDS,
    OWN,
    SPECIAL,
    World,
    byte_level,
    write,
)

Case = tuple[Callable[[World], object], str | None]
Cases = dict[str, Case]


def setting(**values: Any) -> Callable[[World], None]:
    """Other settings; `...` leaves one out, {root} stands for the world's folder."""

    def change(world: World) -> None:
        for key, value in values.items():
            is_path = isinstance(value, str) and value.startswith("{root}")
            world.settings[key] = Path(value.format(root=world.root)) if is_path else value
        world.settings = {key: value for key, value in world.settings.items() if value is not ...}

    return change


def one(which: str, *changes: Callable[[Path], object]) -> Callable[[World], object]:
    """Changes of one model's folder."""
    return lambda world: all_of(*changes)(world.root / which)


def several(*changes: Callable[[World], object]) -> Callable[[World], object]:
    return lambda world: [change(world) for change in changes]


def text(name: str, inside: str) -> Callable[[World], object]:
    """A file beside the models."""

    def change(world: World) -> None:
        (world.root / name).parent.mkdir(exist_ok=True)
        (world.root / name).write_text(inside, encoding="utf-8")

    return change


def folder(name: str) -> Callable[[World], object]:
    return lambda world: (world.root / name).mkdir(parents=True)


FREQUENCY = setting(weights="frequency", corpus="{root}/corpus")
AGREE, CHOICE = "belong together", "Input should be"

SETTINGS: Cases = {
    "method=swap": (setting(method="swap"), None),
    "method=overlap": (setting(method="overlap"), None),
    "method=conversion": (setting(method="conversion"), None),
    "method=auto": (setting(method="auto"), None),
    "method=magic": (setting(method="magic"), CHOICE),
    "ridge=1e-12": (setting(ridge=1e-12), None),
    "ridge=1": (setting(ridge=1), None),
    "ridge=1e12": (setting(ridge=1e12), None),
    "ridge=1e300": (setting(ridge=1e300), None),
    "ridge=-1": (setting(ridge=-1), CHOICE),
    "ridge=.nan": (setting(ridge=".nan"), CHOICE),
    "ridge=.inf": (setting(ridge=".inf"), CHOICE),
    "ridge=many": (setting(ridge="many"), CHOICE),
    "layers_scale=0": (setting(layers_scale=0), None),
    "layers_scale=1": (setting(layers_scale=1), None),
    "layers_scale=.nan": (setting(layers_scale=".nan"), CHOICE),
    "layers_scale=.inf": (setting(layers_scale=".inf"), CHOICE),
    "link=copy": (setting(link="copy"), None),
    "link=soft": (setting(link="soft"), CHOICE),
    "device=tpu": (setting(device="tpu"), "device"),
    "device=cuda:99": (setting(device="cuda:99"), "cuda"),
    "an unknown setting": (setting(magic=1), "settings: base, adapted"),
    "no instruct": (setting(instruct=...), "instruct: Field required"),
    "base that is nowhere": (setting(base="{root}/nowhere"), "nowhere does not exist"),
    "base that is empty": (several(folder("void"), setting(base="{root}/void")), "void/config.json: is not there"),
    "instruct that is a file": (setting(instruct="{root}/instruct/config.json"), "config.json"),
    "embeddings that are named": (setting(**{"embedding_names.embed": EMBED, "embedding_names.head": EMBED}), None),
    "embeddings that are not there": (
        setting(**{"embedding_names.embed": "a", "embedding_names.head": "b"}),
        "no matrix 'a'",
    ),
    "embeddings that are layers": (
        setting(**{"embedding_names.embed": LAYER, "embedding_names.head": LAYER}),
        "choose another model",
    ),
    "frequency without a corpus": (setting(weights="frequency"), AGREE),
    "a corpus without frequency": (setting(corpus="{root}/text.txt"), AGREE),
    "frequency": (several(text("corpus/ru.train.jsonl", '{"text": " привет привет the"}\n'), FREQUENCY), None),
    "frequency of no new token": (several(text("corpus/ru.train.jsonl", '{"text": "xyz"}\n'), FREQUENCY), None),
    "frequency of nothing": (several(text("corpus/ru.train.jsonl", ""), FREQUENCY), None),
    "frequency of no files": (several(folder("corpus"), FREQUENCY), "no text; expected"),
    "frequency of another kind of file": (several(text("corpus", "text"), FREQUENCY), "expected .jsonl"),
    "frequency of rows without text": (
        several(text("corpus/ru.train.jsonl", '{"a": 1}\n'), FREQUENCY),
        "invalid document",
    ),
    "frequency of what is no gzip": (several(text("corpus/ru.train.jsonl.gz", "text"), FREQUENCY), "damaged"),
}
"""Of a model of one file."""


def tokenizer(state: dict[str, Any]) -> Callable[[Path], object]:
    """Another tokenizer.json."""
    return lambda folder: write(folder / "tokenizer.json", state)


def with_ids(ids: dict[str, int]) -> Callable[[Path], object]:
    """Tokens renumbered."""
    return all_of(
        vocab(lambda v: {token: ids.get(token, id_) for token, id_ in v.items()}),
        added(lambda a: [item | {"id": ids.get(item["content"], item["id"])} for item in a]),
    )


def without_special(text: str) -> Callable[[Path], object]:
    """A special token that is gone, its id taken by another."""
    return all_of(
        vocab(lambda v: {("<|new|>" if token == text else token): id_ for token, id_ in v.items()}),
        added(lambda a: [item | {"content": "<|new|>"} if item["content"] == text else item for item in a]),
    )


ROTATED = dict(zip(SPECIAL, (1, 2, 0), strict=True))
FEW = byte_level() | {"added_tokens": []}
UNLIKE = FEW | {"model": {"type": "BPE", "vocab": {"ÐĺÐ": 0, "ĠÐĺÐĺ": 1, "abc": 2}, "merges": []}}
UNSPELT = byte_level() | {"model": {"type": "BPE", "vocab": {}, "merges": []}}
UNSPELT["added_tokens"] = [item | {"content": f"<|x{item['id']}|>"} for item in UNSPELT["added_tokens"]]
MUTE = one("instruct", gone("chat_template.jinja"))
OTHER = byte_level(["de", "der", " und"])

FAMILIES: Cases = {
    "untouched": (lambda world: None, None),
    "base is adapted": (setting(adapted="{root}/base"), None),
    "base is instruct": (setting(instruct="{root}/base"), None),
    "adapted is instruct": (setting(adapted="{root}/instruct", layers_scale=0), None),
    "adapted is instruct, with its layers": (setting(adapted="{root}/instruct"), "layers_scale=1"),
    "all are one": (setting(adapted="{root}/base", instruct="{root}/base"), None),
    "base and instruct change places": (setting(base="{root}/instruct", instruct="{root}/base", layers_scale=0), None),
    "base and adapted change places": (setting(base="{root}/adapted", adapted="{root}/base"), "must have the base's"),
    "adapted with the base's tokenizer": (one("adapted", tokenizer(byte_level(OLD_WORDS))), None),
    "adapted with another tokenizer": (one("adapted", tokenizer(OTHER)), None),
    "base with another tokenizer": (one("base", tokenizer(OTHER)), "must have the base's vocabulary"),
    "instruct with another tokenizer": (one("instruct", tokenizer(OTHER)), "must have the base's vocabulary"),
    "one new token": (one("adapted", tokenizer(byte_level(OLD_WORDS, more=["xy"]))), None),
    "a smaller vocabulary": (one("adapted", tokenizer(byte_level())), None),
    "nothing shared": (several(one("adapted", tokenizer(UNLIKE)), MUTE), None),
    "nothing shared, and a chat": (one("adapted", tokenizer(UNLIKE)), "the ids of a conversation decode to"),
    "nothing shared, by overlap": (several(one("adapted", tokenizer(UNLIKE)), setting(method="overlap")), "no rows"),
    "nothing that can be spelt": (one("adapted", tokenizer(UNSPELT)), "no rows"),
    "nothing that can be spelt, by swap": (
        several(one("adapted", tokenizer(UNSPELT)), MUTE, setting(method="swap")),
        None,
    ),
    "special tokens permuted in base": (one("base", with_ids(ROTATED)), None),
    "special tokens permuted in adapted": (one("adapted", with_ids(ROTATED)), None),
    "special tokens permuted in instruct": (one("instruct", with_ids(ROTATED)), None),
    "a special token less in base": (one("base", without_special(SPECIAL[1])), None),
    "a special token less in adapted": (one("adapted", without_special(SPECIAL[1])), None),
    "a special token less in instruct": (one("instruct", without_special(SPECIAL[1])), None),
    "more chat tokens": (one("instruct", tokenizer(byte_level(OLD_WORDS, added=[OWN, "<a>", "<b>"]))), None),
    "more chat tokens than rows": (
        one("instruct", tokenizer(byte_level(OLD_WORDS, added=[OWN, *(f"<{i}>" for i in range(9))]))),
        "rows for 280 tokens",
    ),
    "a chat token that is learnt": (
        several(
            one("instruct", with_ids({}), lambda f: write(f / "tokenizer.json", byte_level(OLD_WORDS, added=["xy"]))),
            one("adapted", tokenizer(byte_level(OLD_WORDS, more=["xy"]))),
            one("instruct", put("generation_config.json", eos_token_id=2, pad_token_id=0)),
        ),
        "but tokenizers gives it",
    ),
}
"""Of models of one file and of three."""


def busy(name: str) -> Callable[[World], None]:
    """Something of the user's at a place."""
    return several(folder(name), text(f"{name}/mine.txt", "mine"))


PLACES: Cases = {
    "out in a folder that is not there": (setting(out="{root}/a/b/result"), None),
    "out in the base": (setting(out="{root}/base/result"), "base.*another out="),
    "out in the instruct model": (setting(out="{root}/instruct/result"), "instruct.*another out="),
    "out is the base": (setting(out="{root}/base"), "base.*another out="),
    "out is the instruct model": (setting(out="{root}/instruct"), "instruct.*another out="),
    "out is above the models": (setting(out="{root}"), "another out="),
    "out whose unfinished folder is an input": (
        several(
            lambda world: (world.root / "instruct").rename(world.root / "result.partial"),
            setting(instruct="{root}/result.partial"),
        ),
        "another out=",
    ),
    "out is a file": (text("result", "mine"), "not a lep artifact"),
    "out is an empty folder": (folder("result"), "not a lep artifact"),
    "out is another's folder": (busy("result"), "not a lep artifact"),
    "out is in a file": (setting(out="{root}/text.txt/result"), "text.txt.*expected a folder"),
    "out of a name too long": (setting(out="{root}/" + "x" * 300), "shorter out="),
    "out is a dangling link": (lambda world: world.out.symlink_to("nowhere"), "expected a folder"),
    "its unfinished folder is another's": (busy("result.partial"), "another out="),
    "its unfinished folder is a file": (text("result.partial", "mine"), "folder|another out="),
    "its unfinished folder is empty": (folder("result.partial"), None),
    "its unfinished folder is of other settings": (
        several(folder("result.partial"), text("result.partial/.work", '{"fingerprint": "0", "seconds": 1}')),
        None,
    ),
    "its unfinished folder does not say what it is": (
        several(folder("result.partial"), text("result.partial/.work", "{"), text("result.partial/a.bin", "")),
        None,
    ),
}


def fails(target: str, number: int) -> Callable[[World], None]:
    """A function of the system that refuses."""

    def refuse(*args: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    return lambda world: world.patches.update({target: refuse})


def cut_meanwhile(which: str) -> Callable[[World], None]:
    """A file that becomes shorter between two reads."""

    def change(world: World) -> None:
        from lep.io.stored_embedding_matrix import StoredEmbeddingMatrix

        original, path = StoredEmbeddingMatrix.__getitem__, shard_of(world.settings[which])

        def shorter(self: StoredEmbeddingMatrix, rows: object) -> object:
            os.truncate(path, min(path.stat().st_size, 700))
            return original(self, rows)

        world.patches["lep.io.stored_embedding_matrix.StoredEmbeddingMatrix.__getitem__"] = shorter
        world.loses = path

    return change


SPACE, RIGHT = "No space left.*free some disk space", "change the permissions"

DISKS: Cases = {
    "full when space is taken": (fails("os.posix_fallocate", errno.ENOSPC), SPACE),
    "full when rows are written": (
        fails("lep.io.stored_embedding_matrix.StoredEmbeddingMatrix.__setitem__", errno.ENOSPC),
        SPACE,
    ),
    "full when files are copied": (fails("shutil.copyfile", errno.ENOSPC), SPACE),
    "full when text is written": (fails("pathlib.Path.write_text", errno.ENOSPC), SPACE),
    "full when the manifest is written": (fails("os.fsync", errno.ENOSPC), SPACE),
    "full by quota": (fails("os.posix_fallocate", errno.EDQUOT), "free some disk space"),
    "too full, as can be told before": (
        lambda world: world.patches.update({"shutil.disk_usage": lambda path: shutil._ntuple_diskusage(9, 9, 0)}),
        "are free; make room",
    ),
    "read-only": (fails("pathlib.Path.mkdir", errno.EROFS), RIGHT),
    "not the user's": (fails("pathlib.Path.mkdir", errno.EACCES), RIGHT),
    "broken when it is read": (fails("lep.io.artifact._hash_file", errno.EIO), "try another disk"),
    "broken when it is written": (
        fails("lep.io.stored_embedding_matrix.StoredEmbeddingMatrix.__setitem__", errno.EIO),
        "try another disk",
    ),
    "without hard links": (fails("os.link", errno.EPERM), None),
    "without copies inside the kernel": (fails("os.copy_file_range", errno.EXDEV), None),
    "that loses a part of base": (cut_meanwhile("base"), "was truncated while it was read"),
    "that loses a part of adapted": (cut_meanwhile("adapted"), "was truncated while it was read"),
    "that loses a part of instruct": (cut_meanwhile("instruct"), "was truncated while it was read"),
}
