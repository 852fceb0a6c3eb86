"""What the container images are made of: definitions, fingerprints, and the folder that a build sees as /mnt."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from helpers.config.schema import Site
from helpers.config.sites import ROOT, load_site, pick_site
from helpers.images import mlebench_source
from helpers.lib import folders
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError
from helpers.rendering.render import definition_files

REQUIREMENTS = ROOT / "requirements"
USED_REQUIREMENTS = re.compile(r"/mnt/requirements/([\w.-]+\.txt)")
COMMENT = re.compile(r"^#.*\n", re.MULTILINE)
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Free disk without which a build can't succeed: the unpacked image, and what is written for it
GIGABYTES = {"vllm": 30, "prepare": 5, "experiment": 4}


def definitions(site: Site) -> dict[str, str]:
    """The definition of each image by its name."""
    return {file.removesuffix(".def"): text for file, text in definition_files(site).items()}


def fingerprint(text: str, source: str) -> str:
    """A hash of all that an image is made of: definition, requirements, base, and mle-bench where it holds it.

    The comments at its top name the site that it was rendered for: sites that share a folder of images share the images.
    Below, a line with # may be part of what the image holds.
    """
    top, section, rest = text.partition("\n%")
    digest = hashlib.sha256((COMMENT.sub("", top + "\n").removesuffix("\n") + section + rest).encode())
    for name in sorted(set(USED_REQUIREMENTS.findall(text))):
        digest.update((REQUIREMENTS / name).read_bytes())
    if text.startswith("Bootstrap: localimage"):
        digest.update(_local_base(Path(base_of(text))).encode())
    if "/mnt/mle-bench" in text:
        digest.update(mlebench_source.identity(source).encode())
    return digest.hexdigest()


def base_of(text: str) -> str:
    """The base image that a definition names."""
    return re.search(r"^From: (.*)$", text, re.MULTILINE)[1]


def _local_base(path: Path) -> str:
    # of a folder: it, and the list of packages that its package manager rewrites at each change
    parts = [path, path / "var/lib/dpkg/status"]
    return " ".join(f"{part.stat().st_size}:{part.stat().st_mtime_ns}" for part in parts if part.exists())


def host_settings(site: Site) -> dict[str, str]:
    """Variables for the programs that reach the internet: certificates and proxy, the site's, else the caller's."""
    return _certificates(site) | site.environment.proxies(os.environ)


def _certificates(site: Site) -> dict[str, str]:
    given = {f"environment.ca_bundle of site {site.name}": site.environment.ca_bundle}
    given |= {name: os.environ.get(name) for name in CERTIFICATES}
    for setter, bundle in given.items():
        if bundle and not Path(bundle).is_file():
            raise ConfigError([f"{setter}: there is no file {bundle}. Give the path of a certificate bundle, or none."])
        if bundle:
            return dict.fromkeys(CERTIFICATES, str(Path(bundle).absolute()))
    return {}


def stage(site: Site, name: str, folder: Path, source: str) -> None:
    """Fill the folder that a build of the image sees as /mnt, and write the image's definition where the images are.

    Into folder: requirements/, pip.conf, env.sh, ca.pem, mle-bench/ (or mle-bench.none), and NAME.{json,labels,note}.
    Raises ConfigError when a local base image isn't there, Infrastructure when mle-bench can't be had.
    """
    text = definitions(site)[name]
    if text.startswith("Bootstrap: localimage") and not Path(base_of(text)).exists():
        raise ConfigError([f"the base image {base_of(text)} doesn't exist: container.*_base of site {site.name}."])
    shutil.copytree(REQUIREMENTS, folder / "requirements", dirs_exist_ok=True)
    _write_settings(site, folder)
    made_of = fingerprint(text, source)
    facts: dict[str, Any] = {"schema": 1, "image": name, "base": _shown_base(text), "fingerprint": made_of}
    note = ""
    if "/mnt/mle-bench" in text:
        facts["mlebench"] = _mlebench(source, folder)
        note = _note(facts["mlebench"])
    (folder / f"{name}.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    (folder / f"{name}.labels").write_text(_labels(facts), encoding="utf-8")
    (folder / f"{name}.note").write_text(note, encoding="utf-8")
    Path(site.paths.containers, f"{name}.def").write_text(text, encoding="utf-8")


def _write_settings(site: Site, folder: Path) -> None:
    values = host_settings(site)
    if bundle := values.get(CERTIFICATES[0]):
        shutil.copyfile(bundle, folder / "ca.pem")
        values |= dict.fromkeys(CERTIFICATES, "/mnt/ca.pem")
    lines = [f"export {key}={shlex.quote(value)}\n" for key, value in values.items()]
    (folder / "env.sh").write_text("".join(lines), encoding="utf-8")
    settings = configparser.RawConfigParser()
    if index := site.container.pip_index_url or os.environ.get("PIP_INDEX_URL"):
        settings["global"] = {"index-url": index}
    with (folder / "pip.conf").open("w", encoding="utf-8") as file:
        settings.write(file)


def _shown_base(text: str) -> str:
    base = base_of(text)
    return Path(base).name if text.startswith("Bootstrap: localimage") else base


def _mlebench(source: str, folder: Path) -> dict[str, Any] | None:
    if source == "none":
        (folder / "mle-bench.none").touch()
        return None
    described = folder / "mle-bench.json"
    if not described.exists():
        folders.remove(folder / "mle-bench")
        facts = mlebench_source.place(source, folder / "mle-bench")
        described.write_text(json.dumps(facts), encoding="utf-8")
    return json.loads(described.read_text(encoding="utf-8"))


def _note(mlebench: dict[str, Any] | None) -> str:
    if mlebench is None:
        return "without mle-bench (MLEBENCH_SOURCE=none)"
    missing = mlebench["competitions"] - mlebench["leaderboards"]
    return f"no medals: {missing} leaderboards of mle-bench are git-LFS pointers" if missing else ""


def _labels(facts: dict[str, Any]) -> str:
    labels = {"base": facts["base"], "fingerprint": facts["fingerprint"]}
    if "mlebench" in facts:
        labels["mlebench"] = (facts["mlebench"] or {"commit": "none"})["commit"] or "unknown"
        labels["leaderboards"] = (facts["mlebench"] or {"leaderboards": 0})["leaderboards"]
    return "".join(f"hpc-agent-bench.{key} {value}\n" for key, value in labels.items())


def _source() -> str:
    source = os.environ.get("MLEBENCH_SOURCE") or mlebench_source.REPOSITORY
    mlebench_source.check(source)
    return source


@click.group()
def main() -> None:
    """The steps of build_all_containers.sh."""


@main.command("plan")
@SITE
@SET
def plan_command(site: str | None, overrides: tuple[str, ...]) -> None:
    """Print shell assignments: what can be built, and what each would be made of."""
    resolved = load_site(pick_site(site), list(overrides))
    source = _source()
    texts = definitions(resolved)
    values = {
        "SITE": resolved.name,
        "RUNTIME": resolved.container.runtime,
        "FAKEROOT": int(resolved.container.fakeroot),
        "IMAGES": resolved.paths.containers,
        "MODULES": " ".join(resolved.environment.modules),
    }
    lines = [f"{key}={shlex.quote(str(value))}\n" for key, value in values.items()]
    lines += [f"export {key}={shlex.quote(value)}\n" for key, value in host_settings(resolved).items()]
    if resolved.isolated:
        lines += [f"FINGERPRINTS[{name}]={fingerprint(text, source)}\n" for name, text in texts.items()]
        lines += [f"GIGABYTES[{name}]={GIGABYTES.get(name, 2)}\n" for name in texts]
    click.echo("".join(lines), nl=False)


@main.command("stage")
@click.argument("image")
@click.option("--folder", type=click.Path(path_type=Path, exists=True), required=True)
@SITE
@SET
def stage_command(image: str, folder: Path, site: str | None, overrides: tuple[str, ...]) -> None:
    """Fill the folder that the build of an image sees as /mnt."""
    stage(load_site(pick_site(site), list(overrides)), image, folder, _source())


if __name__ == "__main__":
    sys.exit(launch(main, "python -m helpers.images.build"))
