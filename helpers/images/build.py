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
from helpers.images import dockerfile, environments, mlebench_source
from helpers.images.docker import context
from helpers.images.dockerfile import Environment
from helpers.lib import folders
from helpers.lib.command_line import SET, SITE, launch
from helpers.lib.errors import ConfigError, Infrastructure
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
    digest = _text_digest(text)
    for name in sorted(set(USED_REQUIREMENTS.findall(text))):
        digest.update((REQUIREMENTS / name).read_bytes())
    if "/mnt/mle-bench" in text:
        digest.update(mlebench_source.identity(source).encode())
    return digest.hexdigest()


def environment_fingerprint(made: Environment, text: str) -> str:
    """The same for the image of a Dockerfile. text: its definition."""
    digest = _text_digest(text)
    digest.update(made.digest.encode())
    return digest.hexdigest()


def _text_digest(text: str) -> Any:
    top, section, rest = text.partition("\n%")
    digest = hashlib.sha256((COMMENT.sub("", top + "\n").removesuffix("\n") + section + rest).encode())
    if text.startswith("Bootstrap: localimage"):
        digest.update(_local_base(Path(base_of(text))).encode())
    return digest


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
    _check_base(text, f"container.*_base of site {site.name}")
    shutil.copytree(REQUIREMENTS, folder / "requirements", dirs_exist_ok=True)
    _write_settings(site, folder)
    made_of = fingerprint(text, source)
    facts: dict[str, Any] = {"schema": 1, "image": name, "base": _shown_base(text), "fingerprint": made_of}
    note = ""
    if "/mnt/mle-bench" in text:
        facts["mlebench"] = _mlebench(source, folder)
        note = _note(facts["mlebench"])
    _write(site, name, folder, text, facts, note)


def stage_environment(site: Site, made: Environment, folder: Path) -> None:
    """The same for the image of a Dockerfile, whose copied files go to context/ in folder. Raises ConfigError and OSError."""
    text = dockerfile.definition(made, site)
    _check_base(text, f"container.bases of site {site.name}")
    _write_settings(site, folder)
    folders.remove(folder / "context")
    (folder / "context").mkdir()
    context.stage(made.recipe.copies, folder / "context")
    facts = {"base": _shown_base(text), "fingerprint": environment_fingerprint(made, text), "environment": made.digest}
    facts |= {"schema": 1, "image": made.name, "workdir": made.recipe.workdir}
    _write(site, made.name, folder, text, facts, "")


def _check_base(text: str, setter: str) -> None:
    if text.startswith("Bootstrap: localimage") and not Path(base_of(text)).exists():
        raise ConfigError([f"the base image {base_of(text)} doesn't exist: {setter}."])


def _write(site: Site, name: str, folder: Path, text: str, facts: dict[str, Any], note: str) -> None:
    short = name.rpartition("/")[2]
    (folder / f"{short}.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    (folder / f"{short}.labels").write_text(_labels(facts), encoding="utf-8")
    (folder / f"{short}.note").write_text(note, encoding="utf-8")
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
    labels = {key: facts[key] for key in ("base", "fingerprint", "workdir") if key in facts}
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
@click.option("--task", "tasks", multiple=True, help="A task whose image is wanted: an id, or the path of its folder.")
@click.option("--task-list", type=click.Path(path_type=Path), help="A file with a task a line.")
@SITE
@SET
def plan_command(tasks: tuple[str, ...], task_list: Path | None, site: str | None, overrides: tuple[str, ...]) -> None:
    """Print shell assignments: what can be built, what each would be made of, and what the tasks want of it (WANTED)."""
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
        given = [*tasks, *(_listed(task_list) if task_list else [])]
        lines += _wanted(resolved, list(dict.fromkeys(given)), list(texts))
    click.echo("".join(lines), nl=False)


def _listed(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _wanted(site: Site, tasks: list[str], ours: list[str]) -> list[str]:
    wanted: dict[str, str] = {}  # an image's name: the lines that tell of it
    problems: list[str] = []
    for task in tasks:
        try:
            made = environments.of_folder(environments.task_folder(site, task))
        except ConfigError as error:
            problems += error.problems
            continue
        if isinstance(made, str):
            if made in ours:
                wanted[made] = ""
            elif not Path(site.paths.containers, f"{made}.sif").exists():
                problems.append(
                    f"task {task}: its image {made} is none that is built here, and isn't in {site.paths.containers}."
                )
        elif made.name not in wanted:
            made_of = environment_fingerprint(made, dockerfile.definition(made, site))
            told = {
                "FINGERPRINTS": made_of,
                "GIGABYTES": "2",
                "DOCKERFILES": shlex.quote(str(made.dockerfile.absolute())),
            }
            wanted[made.name] = "".join(f"{key}[{made.name}]={value}\n" for key, value in told.items())
    if problems:
        raise ConfigError(problems)
    return [*wanted.values(), f"WANTED=({' '.join(wanted)})\n"]


@main.command("stage")
@click.argument("image")
@click.option("--folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--dockerfile",
    "path",
    type=click.Path(path_type=Path),
    help="What the image is made of, where that is a Dockerfile.",
)
@SITE
@SET
def stage_command(image: str, folder: Path, path: Path | None, site: str | None, overrides: tuple[str, ...]) -> None:
    """Fill the folder that the build of an image sees as /mnt."""
    resolved = load_site(pick_site(site), list(overrides))
    if path is None:
        stage(resolved, image, folder, _source())
        return
    made = dockerfile.read(path)
    if made.name != image:
        raise Infrastructure(f"{path}, or a file that it copies, has been changed since this began: run it again")
    stage_environment(resolved, made, folder)
    for note in made.recipe.notes:
        click.echo(f"{path}: {note}")


if __name__ == "__main__":
    sys.exit(launch(main, "python -m helpers.images.build"))
