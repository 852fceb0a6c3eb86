"""Where a model answers: at a fixed address, or as a file says, which is read anew when a server may have come back elsewhere."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from helpers.datagen.schemas import InputValidationError
from helpers.lib import disk

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class NoEndpoint(Exception):
    """There is no address just now: a server's job is gone, or not there yet; the message says which file and why."""


@dataclass(frozen=True)
class Endpoint:
    """One address. certificate: the file of the one that the server must have, None for the usual authorities; is_ours: reached directly,
    not through the environment's proxies."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    certificate: str | None = None
    is_ours: bool = False

    @property
    def shown(self) -> str:
        """The address without a password."""
        return re.sub("//[^/@]*@", "//", self.url)


class Fixed:
    """An address that stays. Raises InputValidationError where it is none."""

    def __init__(self, url: str, model: str, key: str | None = None):
        try:
            host = _host(url)
        except ValueError as error:
            raise InputValidationError(f"base_url: {error}") from None
        self.last = Endpoint(url, model, key, is_ours=host in LOOPBACK)

    def read(self) -> Endpoint:
        return self.last


class Written:
    """An address in a file: upstream's endpoint JSON, one of our servers' address files, or an agent's file of endpoints.

    model, key: in place of those in the file.
    """

    def __init__(self, path: str | Path, model: str | None = None, key: str | None = None):
        self.path, self.model, self.key = Path(path), model, key
        self.last: Endpoint | None = None

    def read(self) -> Endpoint:
        """What it says now. Raises NoEndpoint."""
        try:
            url, model, key, certificate = _parsed(disk.decoded(self.path.read_bytes())[0], self.path)
            _host(url)
        except OSError as error:
            raise NoEndpoint(
                f"{self.path}: can't be read ({error.strerror}): its server is gone, or not ready yet"
            ) from None
        except ValueError as error:
            raise NoEndpoint(f"{self.path}: {error}") from None
        if not (self.model or model):
            raise NoEndpoint(f"{self.path}: it names no model")
        self.last = Endpoint(url, self.model or model, self.key or key or None, certificate, is_ours=True)
        return self.last


def _host(url: str) -> str:
    """The host of an address. Raises ValueError."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port or True):
            return parts.hostname
    except ValueError:
        pass
    raise ValueError(f"{url!r} is no address: it would be http://HOST:PORT or https://HOST")


def _parsed(text: str, path: Path) -> tuple[str, str, str, str | None]:
    """Address, model, key and certificate. Raises ValueError."""
    if text.lstrip().startswith("{"):
        return _from_json(text)
    lines = text.splitlines()
    if lines and lines[0].startswith(("http://", "https://")):
        told = dict(line.split("=", 1) for line in lines[1:] if re.match(r"\w+=", line))
        certificate = str(path) if "-----BEGIN CERTIFICATE-----" in text else None
        return lines[0].strip(), told.get("served_name", ""), told.get("token", ""), certificate
    told = dict(word.split("=", 1) for word in shlex.split(text, comments=True) if "=" in word)
    url, model, key, certificate = (
        told.get(f"AGENT_CODE_{name}", "") for name in ("BASE_URL", "MODEL", "API_KEY", "CA_FILE")
    )
    if not url:
        raise ValueError("it names no address: neither an endpoint JSON, nor an address file, nor a file of endpoints")
    return url, model, key, certificate or None


def _from_json(text: str) -> tuple[str, str, str, str | None]:
    data = json.loads(text)  # what it says of broken JSON is a ValueError
    url, model, path, key = (data.get(name) or "" for name in ("endpoint_url", "model_name", "api_path", "api_key"))
    if not all(isinstance(one, str) for one in (url, model, path, key)) or not url:
        raise ValueError("it has no endpoint_url, or that is no text")
    return url.rstrip("/") + (f"/{path.strip('/')}" if path else ""), model, key, None
