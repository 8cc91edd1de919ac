"""A model folder → a repository on a hub, by huggingface_hub, once it is healthy and has a card."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from lep.errors import CheckpointError, EndpointError, UsageError
from lep.inspection.inspect import inspect
from lep.io.model_card import CARD
from lep.io.model_writer import LEP_FILES
from lep.reporting.card.write import required_beginning

_COMMIT = "Model, tokenizer and card"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a model folder as one commit, and make the repository where there is none; returns its address.

    What belongs to lep's own work in the folder (its manifest, logs of training) is left out.

    Args:
        folder: the model.
        repository: `owner/name`.
        public: whether a new repository can be seen by all; one that is there stays as it is.

    Raises:
        UsageError: a name that is none, a folder without a card, no key, or a network that is switched off.
        CheckpointError: the folder is not healthy.
        EndpointError: the hub cannot be reached, or refuses.
    """
    if not _NAME.fullmatch(repository):
        raise UsageError(f"{repository}: expected owner/name of a repository")
    if get_token() is None:
        raise UsageError("no key of the hub: `hf auth login`, or set HF_TOKEN")
    if problems := inspect(folder).problems:
        raise CheckpointError("\n  ".join([f"{folder}: not healthy, so it is not published:", *problems]))
    if not (folder / CARD).exists():
        raise UsageError(
            f"{folder}: has no {CARD}, and nobody should have to guess what a model is: `lep card` writes one"
        )
    hub = HfApi()
    try:
        hub.create_repo(repository, private=not public, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=[*LEP_FILES], commit_message=_COMMIT)
    except OfflineModeIsEnabled:
        raise UsageError("HF_HUB_OFFLINE is set, and publishing needs the network: unset it for this command") from None
    except HfHubHTTPError as error:
        raise EndpointError(f"{hub.endpoint}: refuses {repository}: {_reason(error)}") from None
    except Exception as error:  # whatever the hub's client raises when there is no network, no host, a broken line
        raise EndpointError(f"{hub.endpoint}: the upload broke off: {error}; the same command goes on") from None
    return f"{hub.endpoint}/{repository}"


def name_remark(folder: Path, repository: str) -> str | None:
    """What a parent's licence wants of the name, where the name is not so."""
    card = folder / CARD
    wanted = required_beginning(card.read_text(encoding="utf-8")) if card.exists() else None
    name = repository.rpartition("/")[2]
    if wanted is None or _plain(name).startswith(_plain(wanted)):
        return None
    return f"the licence of a parent wants a name that begins with {wanted!r}, and {name} does not: see {card}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()


def _reason(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    remedy = {
        401: "; the key is missing or wrong: `hf auth login`, or set HF_TOKEN",
        403: "; the key may not write there",
    }.get(status, "")
    return f"{error.server_message or error.response.reason_phrase} ({status}){remedy}"
