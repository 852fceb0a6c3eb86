"""The images of tasks: which image a task runs in, and which of those that are made of Dockerfiles have yet to be built.

A task names an image (`image` in its tb_meta.json), or has a Dockerfile, or takes the default one. Tasks whose Dockerfiles make the
same share one image, <paths.containers>/environments/<digest>.sif, which containers/build_all_containers.sh --task builds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from helpers.config.schema import Site
from helpers.data import layout
from helpers.images import dockerfile
from helpers.images.dockerfile import Environment
from helpers.lib.errors import ConfigError
from helpers.tasks.definitions import TEMPLATES

DEFAULT_IMAGE = "repository"
# of a prepared task, and of its source
RECORDS = ("task.json", "tb_meta.json")
# Harbor's tasks have theirs in a folder
DOCKERFILES = ("Dockerfile", "environment/Dockerfile")


def of_folder(folder: Path) -> Environment | str:
    """What a task runs in: the environment of its Dockerfile, or an image's name in paths.containers.

    folder: <data>/<id>/prepared/public, or the task's source. Raises ConfigError where its Dockerfile is none that can be built here,
    and OSError.
    """
    return _named(folder) or next(
        (dockerfile.read(folder / name) for name in DOCKERFILES if (folder / name).is_file()), DEFAULT_IMAGE
    )


def image_of(folder: Path) -> str:
    """The name, in paths.containers and without its end, of the image that a task runs in. folder: as above. Raises as above."""
    found = of_folder(folder)
    return found if isinstance(found, str) else found.name


def _named(folder: Path) -> str | None:
    for path in (folder / name for name in RECORDS):
        if path.is_file():
            try:
                image = json.loads(path.read_text(encoding="utf-8")).get("image")
            except (ValueError, AttributeError):
                raise ConfigError([f"{path}: isn't a JSON object."]) from None
            if image is not None and (not isinstance(image, str) or not layout.is_id(image)):
                raise ConfigError([f"{path}: image: {image!r}: wants the name of an image in paths.containers."])
            return image
    return None


def task_folder(site: Site, task: str) -> Path:
    """Where a task says what it runs in. task: an id, or the path of its folder. Raises ConfigError."""
    places = [layout.prepared(site.paths.data, task) / "public"] if layout.is_id(task) else []
    places += [Path(base, task) for base in (site.paths.tasks, TEMPLATES) if base and layout.is_id(task)]
    for folder in [*places, Path(task)]:
        if any((folder / name).is_file() for name in (*RECORDS, *DOCKERFILES)):
            return folder
    where = ", ".join(map(str, places)) or task
    raise ConfigError(
        [f"task {task}: there is neither a Dockerfile nor a {RECORDS[0]} or {RECORDS[1]} (looked in {where})."]
    )


def path(made: Environment, images: str | Path) -> Path:
    """Where the image of an environment is, once it is built. images: paths.containers."""
    return Path(images, f"{made.name}.sif")


def missing(environments: Iterable[Environment], images: str | Path) -> list[Environment]:
    """Those of the environments whose images aren't built yet, each once, in the order given."""
    each: dict[str, Environment] = {}
    for made in environments:
        each.setdefault(made.name, made)
    return [made for made in each.values() if not path(made, images).exists()]
