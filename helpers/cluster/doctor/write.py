"""Changes single values of a site's file, and nothing else in it: no comment, no blank, no order. Runs where a person types."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from helpers.config.layers import shown
from helpers.lib.errors import ConfigError

BY = "site.sh doctor --write"


def check(path: Path) -> None:
    """Raises ConfigError where the file isn't the person's own to change."""
    if path.stat().st_uid != os.getuid():
        raise ConfigError(
            [f"--write: {shown(path)} belongs to another user, and is left as it is: copy it, and name the copy."]
        )
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise ConfigError([f"--write: {shown(path)} can't be changed: no permission."])


def put(path: Path, values: dict[str, Any]) -> None:
    """Set values by dotted key (section.key), all or none. Raises ConfigError where the file can't be changed so, and OSError."""
    check(path)
    text = path.read_text(encoding="utf-8")
    wanted = yaml.safe_load(text) or {}
    for key, value in values.items():
        section, name = key.split(".")
        text = _changed(text, section, name, value)
        wanted = copy.deepcopy(wanted)
        wanted[section] = (wanted.get(section) or {}) | {name: value}
    if _read(text) != wanted:
        asked = ", ".join(f"{key}: {value}" for key, value in values.items())
        raise ConfigError([f"{shown(path)} is written in a way that --write can't change: set {asked} yourself."])
    _replace(path, text)


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _changed(text: str, section: str, name: str, value: Any) -> str:
    from ruamel.yaml import YAML

    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    tree = YAML().load(text) or {}
    comment = f"  # {BY}: measured"
    if section not in tree or tree[section] is None:
        head = [] if section in tree else ["\n", f"{section}:\n"]
        at = tree.lc.key(section)[0] + 1 if section in tree else len(lines)
        return "".join([*lines[:at], *head, f"  {name}: {scalar(value)}{comment}\n", *lines[at:]])
    inner = tree[section]
    if inner.fa.flow_style():
        return _dumped(text, section, name, value)
    if name not in inner:
        first = next(iter(inner))
        row, column = inner.lc.key(first)
        return "".join([*lines[:row], f"{' ' * column}{name}: {scalar(value)}{comment}\n", *lines[row:]])
    row, column = inner.lc.key(name)
    found = re.match(
        r"""([\w.-]+|"[^"]*"|'[^']*')\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^#\n]*?)(\s+#.*)?$""",
        lines[row][column:].rstrip("\n"),
    )
    if found is None:
        return text  # the caller sees that nothing has changed
    old = found[3] or comment
    lines[row] = f"{lines[row][:column]}{name}: {scalar(value)}{old}\n"
    return "".join(lines)


def _dumped(text: str, section: str, name: str, value: Any) -> str:
    """The file as ruamel.yaml writes it, where its section stands in braces: their line alone is taken of it."""
    from ruamel.yaml import YAML

    writer = YAML()
    writer.preserve_quotes, writer.width = True, 10**6
    tree = writer.load(text)
    tree[section][name] = value
    out = io.StringIO()
    writer.dump({section: tree[section]}, out)
    row = tree.lc.key(section)[0]
    lines = text.splitlines(keepends=True)
    new = next(line for line in out.getvalue().splitlines() if line.startswith(f"{section}:"))
    tail = re.search(r"\}(\s+#.*)$", lines[row].rstrip("\n"))
    lines[row] = new.partition("  #")[0].rstrip() + (tail[1] if tail else "") + "\n"
    return "".join(lines)


def scalar(value: Any) -> str:
    """A value as YAML writes it on one line."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
