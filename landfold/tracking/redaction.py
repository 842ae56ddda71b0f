"""What may be secret stays out of what is printed or kept: passwords in URLs, and those that the environment holds."""

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


def shown(uri: str) -> str:
    """A store's URI without what may be secret: user, password and query."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "the tracking server"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def redacted(text: str) -> str:
    """A text with ``***`` for users and passwords of URLs, keys in their queries, and the environment's secrets."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri:
        text = text.replace(uri, shown(uri))
    for secret in _secrets(uri):
        text = text.replace(secret, "***")
    return _QUERY.sub(r"\1***", _USER.sub("***@", text))


def reason(error: BaseException) -> str:
    """The gist of an error in one line, without credentials."""
    text, name = redacted(str(error)), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if name:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "***", text)
    lines = text.strip().splitlines()
    gist = lines[0] if lines else type(error).__name__
    return gist if len(gist) <= 200 else gist[:197] + "..."


def _secrets(uri: str) -> Iterator[str]:
    """Longest first, since one may hold another; none so short that it would spoil ordinary words."""
    try:
        password = urlsplit(uri).password or ""
    except ValueError:
        password = ""
    found = {password, unquote(password), *(os.environ.get(name, "") for name in _VARIABLES)}
    yield from sorted((secret for secret in found if len(secret) >= 4), key=len, reverse=True)
