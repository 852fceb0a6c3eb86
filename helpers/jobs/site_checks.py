"""What every kind of jobs asks of a site before it submits: folders, rights, room, images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from helpers.config.schema import Model, Site
from helpers.lib import room
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.scheduler import cluster, limits

LEAST_FREE_MB = 200
_ANOTHER = "Set paths.{} to a folder that you can write."


class SiteChecks:
    """What is checked of a site before jobs are submitted there. Every check adds sentences to `problems`."""

    images: dict[str, Path] = {}  # that the jobs need, by role
    served: list[Model] = []  # models that get a server job
    own_folders = ("runs", "address_dir")  # keys of paths that are written to

    def __init__(self, site: Site):
        self.site = site
        self.problems: list[str] = []
        self.cluster = cluster.Cluster()

    def scripts(self) -> dict[str, str]:
        """What would be submitted: file name -> text."""
        raise NotImplementedError

    def check_images(self) -> None:
        missing = sorted({path for path in self.images.values() if not os.access(path, os.R_OK)})
        for path in missing:
            self.problems.append(
                f"image {path} is missing or unreadable (paths.containers of site {self.site.name}): "
                f"containers/build_all_containers.sh --site {self.site.name} {self.builds(path)}."
            )

    def builds(self, image: Path) -> str:
        """The option of build_all_containers.sh that builds an image."""
        return f"--only {image.stem}"

    def make_folders(self) -> None:
        """What check_folders has looked at, once all checks are passed. Raises ConfigError."""
        for key in self.own_folders:
            folder = Path(getattr(self.site.paths, key))
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700 if key == "address_dir" else 0o777)
            except OSError as error:
                where = f"{folder} (paths.{key} of site {self.site.name})"
                raise ConfigError([f"can't make {where}: {error.strerror}. {_ANOTHER.format(key)}"]) from error

    def check_folders(self) -> None:
        for key in self.own_folders:
            folder = Path(getattr(self.site.paths, key))
            where = f"{folder} (paths.{key} of site {self.site.name})"
            there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
            if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
                verb = "write to" if there == folder else "make"
                why = "" if there == folder else f": {there} is no folder that you can write"
                self.problems.append(f"can't {verb} {where}{why}. {_ANOTHER.format(key)}")
            elif key == "address_dir" and there == folder and folder.stat().st_uid != os.getuid():
                self.problems.append(
                    f"{where} belongs to another user: addresses and tokens need a folder of your own."
                )
            elif (free := shutil.disk_usage(there).free // 2**20) < LEAST_FREE_MB:
                self.problems.append(
                    f"only {free} MB are free in {where}; {LEAST_FREE_MB} MB are the least to start with."
                )
            else:
                self._check_room(there, where)
        data = Path(self.site.paths.data)
        if "data" not in self.own_folders and os.access(data, os.W_OK | os.X_OK):
            self._check_room(data, f"{data} (paths.data of site {self.site.name})")

    def _check_room(self, folder: Path, where: str) -> None:
        if lacking := room.lacking(folder):
            raise Infrastructure(f"{where}: {lacking}.")

    def conclude(self) -> None:
        """The end of all checks: the cluster is asked last. Raises ConfigError with every problem found, and Infrastructure."""
        if self.problems:
            raise ConfigError(self.problems)
        if self.site.scheduler.kind == "slurm":
            self.check_slurm()

    def check_slurm(self) -> None:
        if shutil.which("sbatch") is None:
            raise ConfigError(
                [
                    f"site {self.site.name} wants Slurm, but there is no sbatch on PATH: log in to the cluster, or --site local."
                ]
            )
        known = sorted(name for name in self.cluster.nodes if name)
        roles = {"cpu"} | {"gpu" for model in self.served if model.gpus}
        for role in sorted(roles):
            name = getattr(self.site.partitions, role).name
            unknown = [one for one in (name or "").split(",") if one and one not in known]
            if unknown:
                self.problems.append(
                    f"partition '{unknown[0]}' (partitions.{role}.name of site {self.site.name}) isn't one of this cluster: "
                    f"{', '.join(known)}."
                )
        self.problems += [] if self.problems else limits.problems(self.site, self.scripts(), self.cluster)
        if self.problems:
            raise ConfigError(self.problems)
