"""What looks like a secret: refused in files of the configuration, masked in records. Runs where a person types."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
NAMES = re.compile(r"(^|[_-])(api_?key|key|token|secret|password|passwd|passphrase|credentials?)$", re.IGNORECASE)
HARMLESS = re.compile(r"|[/~].*|true|false|yes|no|none|\d{1,6}", re.IGNORECASE)  # a file's name, a switch
IN_URL = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)(?=@)")
FORMS = re.compile(  # what services give out, by how it begins
    r"\b(sk-(?=[\w-]*\d)[\w-]{20,}|hf_[A-Za-z0-9]{30,}|gh[opsu]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abp]-[\w-]{20,}"
    r"|AKIA[A-Z0-9]{16}|AIza[\w-]{35})"
)
ASSIGNED = re.compile(  # by a shell
    r"\b(\w*(?:api_?key|access_key|kaggle_key|token|secret|password|passwd))=(\"[^\"$`/]{4,}\"|'[^'/]{4,}'|[^\s\"'$`/;]{4,})",
    re.IGNORECASE,
)


def is_secret(name: str, value: str) -> bool:
    """Whether a value that is called so looks like one that nobody else may read."""
    named = bool(NAMES.search(name)) and not HARMLESS.fullmatch(value.strip())
    return named or mask(value) != value


def mask(text: str) -> str:
    """A text without the passwords of URLs, tokens of a known form, and values that a shell assigns to a secret's name."""
    text = FORMS.sub(MASK, IN_URL.sub(rf"\1:{MASK}", text))
    return ASSIGNED.sub(lambda match: match[0] if HARMLESS.fullmatch(match[2]) else f"{match[1]}={MASK}", text)


def masked(data: Any, name: str = "") -> Any:
    """A record without secrets, those in the words of a command line included."""
    if isinstance(data, dict):
        return {key: masked(value, str(key)) for key, value in data.items()}
    if isinstance(data, list):
        return [masked(value) for value in data]
    if not isinstance(data, str):
        return data
    return MASK if NAMES.search(name) and is_secret(name, data) else mask(data)
