"""A Dockerfile as an Apptainer definition, where it is simple: one stage, of FROM, RUN, ENV, WORKDIR, COPY, ARG, CMD and the like.

What Docker does, in Docker's order. ENV is exported, to later RUN and at run time, with the values that it had in the build; ARG to RUN
only. Each RUN is a shell of its own. COPY takes its files from a folder that the build sees as /mnt/context (helpers/images/build.py),
so that they arrive between the RUNs where they stand, and nothing else of the context does. What has no meaning here is left out and
noted; what can't be done is refused, with the line and what to do.

Unlike Docker: whoever runs an image isn't root in it, and can't write to it, unless it is run with --fakeroot --writable-tmpfs. So what
is copied can be read by everybody, and so can root's home. A tag that has moved is not looked for again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from helpers.config.schema import Site
from helpers.config.sites import ROOT
from helpers.images.docker import context, ignore, syntax
from helpers.images.docker.recipe import Recipe
from helpers.images.docker.translation import Translation
from helpers.images.docker.words import quoted
from helpers.lib.errors import ConfigError
from helpers.rendering.render import environment

SHOWN = 16  # letters of a digest in names
MOST_BYTES = 2**20


@dataclass(frozen=True)
class Environment:
    """What a Dockerfile makes. digest: of its instructions, of the files that it copies, and of the build arguments."""

    dockerfile: Path
    context: Path
    digest: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """The image's name below paths.containers."""
        return f"environments/{self.digest[:SHOWN]}"


def read(dockerfile: Path, folder: Path | None = None, arguments: Mapping[str, str] | None = None) -> Environment:
    """What a Dockerfile makes. folder: the context, by default the Dockerfile's; arguments: values for its ARGs.

    Raises ConfigError with a sentence for each line that can't be made an image of, and OSError for files that can't be read.
    """
    folder = folder or dockerfile.parent
    try:
        text = _text(dockerfile)
        files = context.Context(folder, ignore.Ignored.of(dockerfile, folder))
        translation = Translation(syntax.parse(text), files, arguments or {})
    except syntax.Fault as fault:
        raise _refusal(dockerfile, [fault]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{dockerfile}: is no text in UTF-8."]) from None
    except ValueError as error:
        raise ConfigError([f"{error}."]) from None
    recipe = translation.make()
    if translation.faults:
        raise _refusal(dockerfile, translation.faults)
    digest = hashlib.sha256("\n".join(["1", *recipe.identity]).encode("utf-8", "surrogateescape")).hexdigest()
    return Environment(dockerfile, folder, digest, recipe)


def _text(path: Path) -> str:
    if path.stat().st_size > MOST_BYTES:
        raise ConfigError([f"{path}: has more than {MOST_BYTES // 2**20} MB: it is no Dockerfile."])
    return path.read_bytes().decode()


def _refusal(dockerfile: Path, faults: list[syntax.Fault]) -> ConfigError:
    return ConfigError([f"{dockerfile}:{fault.line}: {str(fault).rstrip('.')}." for fault in faults])


def base(image: str, site: Site) -> str:
    """Where a site has the image that FROM names: as container.bases says, by its name or the beginning of it, else Docker's registry.

    The result is of the form of container.python_base.
    """
    name = full_name(image)
    named = {full_name(key): value for key, value in site.container.bases.items() if not key.endswith("/")}
    if name in named:
        return named[name]
    beginnings = sorted((key for key in site.container.bases if key.endswith("/")), key=len, reverse=True)
    for beginning in beginnings:
        if name.startswith(beginning):
            return site.container.bases[beginning] + name.removeprefix(beginning)
    return f"docker://{image}"


def full_name(image: str) -> str:
    """An image's name with all that Docker adds to it: python is docker.io/library/python:latest."""
    first, slash, _ = image.partition("/")
    if not slash or not (set(first) & set(".:") or first == "localhost"):
        image = f"docker.io/{image}" if slash else f"docker.io/library/{image}"
    if "@" not in image and ":" not in image.rpartition("/")[2]:
        image += ":latest"
    return image


def definition(made: Environment, site: Site) -> str:
    """The Apptainer definition of a Dockerfile's image at a site."""
    templates = environment("containers")
    templates.filters["quoted"] = quoted
    return templates.get_template("_dockerfile.def.j2").render(
        site=site,
        root=str(ROOT),
        image=made.name.rpartition("/")[2],
        base=base(made.recipe.base, site),
        recipe=made.recipe,
    )
