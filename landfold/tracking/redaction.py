"""Secrets stay out of what is printed or kept: passwords in URLs, and those that the environment holds."""

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

_USER = re.compile(r"(?<=://)[^/\s\"'<>]+@")
_QUERY = re.compile(
    r"([?&;](?:sig|[\w.-]*(?:signature|token|password|passwd|secret|key|credential))=)[^&\s\"'<>#]+", re.IGNORECASE
)
_VARIABLES = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
)


def redact_uri(uri: str) -> str:
    """The URI of a store without user, password and query."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "the tracking server"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def redact_secrets(text: str) -> str:
    """A text with ``***`` for users and passwords of URLs, keys in their queries, and the environment's secrets."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri:
        text = text.replace(uri, redact_uri(uri))
    for secret in _secrets(uri):
        text = text.replace(secret, "***")
    return _QUERY.sub(r"\1***", _USER.sub("***@", text))


def error_summary(error: BaseException) -> str:
    """The first line of an error, at most 200 characters, without credentials."""
    text, name = redact_secrets(str(error)), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if name:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "***", text)
    lines = text.strip().splitlines()
    summary = lines[0] if lines else type(error).__name__
    return summary if len(summary) <= 200 else summary[:197] + "..."


def _secrets(uri: str) -> Iterator[str]:
    """Longest first, since one may hold another; none so short that it would spoil ordinary words."""
    try:
        password = urlsplit(uri).password or ""
    except ValueError:
        password = ""
    secrets = {password, unquote(password), *(os.environ.get(name, "") for name in _VARIABLES)}
    yield from sorted((secret for secret in secrets if len(secret) >= 4), key=len, reverse=True)
