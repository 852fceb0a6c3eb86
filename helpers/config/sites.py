"""Site, model and agent configuration: layers of YAML, merged, expanded, checked; every problem is reported at once."""

from __future__ import annotations

import os
import re
import shutil
import socket
from pathlib import Path
from typing import Any

from helpers.config.layers import (
    SITE_DIR,
    Layers,
    apply_overrides,
    expand_tree,
    meant,
    open_secrets,
    read_yaml,
    shown,
    validated,
)
from helpers.config.schema import Site
from helpers.lib.checkout import ROOT
from helpers.lib.errors import ConfigError

OWN_TASKS = ROOT / "tasks"  # the user's own tasks, where the site names no other folder (paths.tasks)


def site_file(name: str) -> Path:
    """The file of a site, given by name or as a path to a YAML file; ConfigError lists the known ones."""
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else SITE_DIR / f"{name}.yaml"
    if not path.is_file() or name in {"models", "agents"}:
        raise ConfigError(
            [
                f"site '{name}': there is no {shown(path)}. Known sites: {', '.join(site_names())}."
                f"{meant(name, site_names())} scripts_hpc/site.sh init writes one for the cluster that it is run on."
            ]
        )
    return path.resolve()


def site_names() -> list[str]:
    """All sites in site-config/, without the files that aren't one."""
    other = {"default", "models", "agents"}
    return sorted(path.stem for path in SITE_DIR.glob("*.yaml") if path.stem not in other)


def _beside(path: Path, parent: str) -> str:
    """What a site file extends: another one's name, or a path, which is taken from that file's folder."""
    return str(path.parent / Path(parent).expanduser()) if parent.endswith((".yaml", ".yml")) else parent


def _chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    chain: list[tuple[Path, dict[str, Any]]] = []
    while True:
        if any(path == seen for seen, _ in chain):
            raise ConfigError([f"{shown(path)}: extends itself ({' -> '.join(shown(seen) for seen, _ in chain)})."])
        data = read_yaml(path)
        parent = data.pop("extends", None)
        chain.insert(0, (path, data))
        if parent is None:
            return chain
        try:
            path = site_file(_beside(path, str(parent)))
        except ConfigError as error:
            raise ConfigError([f"{shown(path)}: extends: {error.problems[0]}"]) from error


def load_site(name: str, overrides: list[str] | None = None) -> Site:
    """The resolved configuration of a site.

    name: a site's name or the path of a YAML file. overrides: `section.key=value` strings, strongest.
    Raises ConfigError with every problem found, each naming the layer, the key and what to do.
    """
    path = site_file(name)
    layers = Layers()
    layers.add(read_yaml(SITE_DIR / "default.yaml"), shown(SITE_DIR / "default.yaml"))
    for file, data in _chain(path):
        # what a shared base says of its hosts is not true of the sites that extend it
        layers.add({"hostname_pattern": None}, shown(file))
        layers.add(data, shown(file))
    apply_overrides(layers, overrides or [])
    problems = list(open_secrets(layers, layers.tree))
    tree = expand_tree(layers, layers.tree, (), problems)
    tree["name"] = path.stem
    site = validated(Site, tree, layers, problems)
    for key in ("data", "runs", "tasks", "models", "containers", "address_dir", "notebooks", "rollouts"):
        if value := getattr(site.paths, key):
            setattr(site.paths, key, str(ROOT / value))
            if unfit := _unfit(key, value, site.isolated):
                problems.append(f"{layers.source_of(('paths', key))}: paths.{key}: {value!r} holds {unfit}.")
    if problems:
        raise ConfigError(problems)
    site.paths.notebooks = site.paths.notebooks or str(Path(site.paths.runs).with_name("notebooks"))
    site.paths.rollouts = site.paths.rollouts or str(Path(site.paths.data, "rollouts"))
    if site.paths.tasks is None and OWN_TASKS.is_dir():
        site.paths.tasks = str(OWN_TASKS)
    return site


def _unfit(key: str, path: str, isolated: bool) -> str | None:
    """What a path holds that would break a job, if there is anything. (Blanks, '%', '&' and '|' do no harm.)"""
    if found := re.search(r"[\x00-\x1f\x7f\\]", path):
        return f"{found[0]!r}, which no #SBATCH line can hold"
    if key in ("runs", "rollouts") and ":" in path:
        return "':', which no PYTHONPATH can hold: jobs run a copy of the code that lies there"
    return unbindable(path) if isolated and key != "containers" else None


def unbindable(path: str) -> str | None:
    """What a path holds that no --bind of Apptainer can, if there is anything."""
    found = re.search("[:,]", path)
    return found and f"{found[0]!r}: nothing with it in its name can be bound into a container"


def pick_site(given: str | None) -> str:
    """Which site this is: --site, else $HPC_SITE, else by host name, else `local` where there is no sbatch."""
    if given:
        return given
    if os.environ.get("HPC_SITE"):
        return os.environ["HPC_SITE"]
    hosts = host_names()
    matches = [name for name in site_names() if fits(name, hosts)]
    host = hosts[0]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise ConfigError([f"host {host} fits the sites {', '.join(matches)}: choose with --site or HPC_SITE."])
    if shutil.which("sbatch") is None:
        return "local"
    raise ConfigError(
        [
            f"there is Slurm here, but no site file fits host {host}. Choose one with --site NAME or export HPC_SITE=NAME, "
            "or have one written: scripts_hpc/site.sh init (README, A new cluster in five steps). "
            f"Known sites: {', '.join(site_names())}."
        ]
    )


def host_names() -> list[str]:
    """What this machine is called: first what `hostname -f` says, then the names that /etc/hosts or DNS give it besides."""
    own = socket.gethostname()
    try:
        named = socket.getaddrinfo(own, None, flags=socket.AI_CANONNAME)[0][3]
    except OSError:
        named = ""
    return list(dict.fromkeys(name for name in (named, own, socket.getfqdn()) if name))


def fits(name: str, hosts: list[str]) -> bool:
    """Whether a site's hostname_pattern is found in one of these names. Raises ConfigError."""
    data = read_yaml(SITE_DIR / f"{name}.yaml")
    pattern = data.get("hostname_pattern")
    try:
        return bool(pattern) and any(re.search(pattern, host) for host in hosts)
    except re.error as error:
        raise ConfigError(
            [f"site-config/{name}.yaml: hostname_pattern: not a regular expression ({error})."]
        ) from error
