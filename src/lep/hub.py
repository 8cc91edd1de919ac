"""Upload a healthy model folder with a model card to the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from lep.errors import CheckpointError, EndpointError, UsageError
from lep.inspection.inspect import inspect
from lep.io.model_card import MODEL_CARD_FILE, read_card_metadata
from lep.io.model_writer import LEP_FILES

_COMMIT_MESSAGE = "Model, tokenizer and card"
_REPO_ID_PATTERN = re.compile(r"[\w.-]+/[\w.-]+")


def push_to_hub(folder: Path, repo_id: str, *, public: bool = False) -> str:
    """Upload a model folder as one commit, and create the repository if it does not exist.

    Files of lep itself, such as the manifest and training logs, are left out.

    Args:
        folder: The model folder.
        repo_id: `owner/name` of the repository.
        public: A new repository is public; an existing one keeps its visibility.

    Returns:
        The URL of the repository.

    Raises:
        UsageError: The repository name is invalid, the folder has no model card, there is no access token, or
            HF_HUB_OFFLINE is set.
        CheckpointError: The folder has problems, as `lep inspect` reports them.
        EndpointError: The hub cannot be reached, or refuses the upload.
    """
    if not _REPO_ID_PATTERN.fullmatch(repo_id):
        raise UsageError(f"{repo_id}: expected owner/name of a repository")
    if get_token() is None:
        raise UsageError("no access token for the hub: run `hf auth login`, or set HF_TOKEN")
    if problems := inspect(folder).problems:
        raise CheckpointError("\n  ".join([f"{folder} has problems and is not uploaded:", *problems]))
    if not (folder / MODEL_CARD_FILE).exists():
        raise UsageError(f"{folder} has no model card {MODEL_CARD_FILE}; write one with `lep card`")
    hub = HfApi()
    try:
        hub.create_repo(repo_id, private=not public, exist_ok=True)
        hub.upload_folder(
            repo_id=repo_id, folder_path=folder, ignore_patterns=[*LEP_FILES], commit_message=_COMMIT_MESSAGE
        )
    except OfflineModeIsEnabled:
        raise UsageError("HF_HUB_OFFLINE is set, and an upload needs the network: unset it for this command") from None
    except HfHubHTTPError as error:
        raise EndpointError(f"{hub.endpoint} refuses {repo_id}: {_format_http_error(error)}") from None
    except Exception as error:  # the client raises many types for network errors
        raise EndpointError(f"{hub.endpoint}: the upload failed: {error}; the same command resumes it") from None
    return f"{hub.endpoint}/{repo_id}"


def check_license_naming(folder: Path, repo_id: str) -> str | None:
    """Return a remark if the name of a repository does not begin as the license of a parent demands, else None."""
    metadata = read_card_metadata(folder)
    prefix = metadata.required_name_prefix if metadata else None
    name = repo_id.rpartition("/")[2]
    if prefix is None or _normalize_name(name).startswith(_normalize_name(prefix)):
        return None
    return (
        f"the license of a parent demands a name that begins with {prefix!r}, and {name} does not: see "
        f"{folder / MODEL_CARD_FILE}"
    )


def _normalize_name(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()


def _format_http_error(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    remedy = {
        401: "; the access token is missing or wrong: run `hf auth login`, or set HF_TOKEN",
        403: "; the access token has no write permission there",
    }.get(status, "")
    return f"{error.server_message or error.response.reason_phrase} ({status}){remedy}"
