"""Texts without the secrets that they may hold."""

from __future__ import annotations

import re

HIDDEN = "***"
SHORTEST = 8
"""Characters of a secret; a shorter one (`EMPTY`, `ollama`) stands in for none, and may be part of any text."""
_USER_INFO = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(?i)([?&][^=&\s]*(?:token|key|secret|password|signature|credential)[^=&\s]*=)[^&\s]+")
_KNOWN_TOKENS = re.compile(r"\b(?:hf_|sk-|gh[pousr]_|github_pat_|AKIA)[A-Za-z0-9_-]{12,}")


def without_secrets(text: str) -> str:
    """Return `text` without user names and passwords in URLs, signed query values and well-known token shapes."""
    text = _USER_INFO.sub("", text)
    return _KNOWN_TOKENS.sub(HIDDEN, _QUERY.sub(rf"\g<1>{HIDDEN}", text))


def masked(data: bytes, secret: str) -> bytes:
    r"""Return `data` with `secret` hidden, also where JSON writes its characters as `\u002b` or `\/`."""
    if len(secret) < SHORTEST:
        return data
    shapes = (rf"(?:{re.escape(one)}|\\{re.escape(one)}|\\u(?i:{ord(one):04x}))" for one in secret)
    return re.sub("".join(shapes).encode(), HIDDEN.encode(), data)
