"""Errors that `lep` raises on purpose: one readable message that says what was expected and what to do.

The command line prints them as one line on standard error; `UsageError` exits with 2, the others with 1.
"""


class LepError(Exception):
    """Something outside the program is wrong; the message says what, where, and the remedy."""


class UsageError(LepError):
    """The command line or the recipe is wrong; nothing was started."""


class TokenizerError(LepError):
    """A tokenizer file cannot be read exactly, or two vocabularies do not agree."""


class CheckpointError(LepError):
    """A model folder is incomplete, truncated, of the wrong shape, or in an unsupported format."""


class ArtifactError(LepError):
    """An artifact folder is missing, unfinished, or was made with other settings."""


class DataError(LepError):
    """A text or data file cannot be read as documents, or contains too little."""


class EndpointError(LepError):
    """A served model cannot be reached, refuses, or stopped answering."""
