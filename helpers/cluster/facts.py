"""What a login node tells of its cluster, for a first site file: partitions, GPUs, accounts, folders, containers."""

from __future__ import annotations

import getpass
import grp
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property

from helpers.lib import durations
from helpers.lib.checkout import ROOT
from helpers.lib.errors import Infrastructure
from helpers.scheduler import cluster
from helpers.scheduler.cluster import Cluster
from helpers.scheduler.query import SchedulerUnavailable, ask_all

FOREVER = 10**9  # seconds, of a partition without a limit
# GB of one GPU by its type, as in the vendors' data sheets; of a type that was sold with several sizes the smallest comes first
GPU_MEMORY: dict[str, tuple[int, ...]] = {
    "gh200": (96, 144), "h200": (141,), "h100": (80, 64, 94, 96), "h800": (80,), "a100": (40, 64, 80), "a800": (40, 80), "a40": (48,),
    "a30": (24,), "a10": (24,), "l40s": (48,), "l40": (48,), "l4": (24,), "v100": (16, 32), "p100": (12, 16), "t4": (16,),
    "rtx6000": (24, 48), "a6000": (48,), "rtx3090": (24,), "rtx4090": (24,), "b200": (180, 192), "mi300x": (192,), "mi300a": (128,),
    "mi250x": (64, 128), "mi250": (64, 128), "mi210": (64,), "mi100": (32,),
}  # fmt: skip
# a slice of a GPU, by its profile: https://docs.nvidia.com/datacenter/tesla/mig-user-guide
MIG = re.compile(r"(?<![^\W_])\d+g\.(\d+)gb", re.IGNORECASE)
NO_ANSWER = re.compile(
    "gave no answer|Socket timed out|Unable to contact slurm controller|Connection refused|temporarily unable"
)
# where people's large files go, in the order in which they are tried; the last ones by folder
STORAGE = ("SCRATCH", "PSCRATCH", "SCRATCHDIR", "WORK", "WORKDIR", "PROJECT")
FOLDERS = ("/scratch/gpfs/${USER}", "/scratch/${USER}", "/work/${USER}", "/lustre/${USER}", "/gpfs/${USER}")
OF_ONE_NODE = {"ext2/ext3", "xfs", "btrfs", "tmpfs", "overlayfs", "zfs"}  # as `stat -f` calls them


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a partition's nodes. memory: GB of one, None where nothing tells; certain: whether it was told, not guessed."""

    count: int
    type: str
    memory: int | None
    certain: bool

    @property
    def amd(self) -> bool:
        return self.type.startswith("mi")

    @property
    def kind(self) -> str:
        """For people: `A100 80GB`."""
        return f"{self.type.upper()}{f' {self.memory}GB' if self.memory else ''}".strip()


class Facts:
    """What can be asked of a cluster without submitting anything. Raises Infrastructure where the scheduler doesn't answer."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.groups = {grp.getgrgid(number).gr_name for number in os.getgroups() if _has_name(number)}

    @property
    def name(self) -> str:
        """The cluster's own name, fit for a file's; empty where it isn't told."""
        return re.sub(r"[^a-z0-9_-]+", "-", (self.cluster.config or {}).get("ClusterName", "").lower()).strip("-")

    def seconds(self, partition: str) -> int:
        """The longest time that a partition allows a job."""
        return durations.seconds(self.cluster.partitions.get(partition, {}).get("MaxTime", "")) or FOREVER

    def _open(self, partition: str) -> bool:
        """Whether it is up, and open to this user's groups and to one of the accounts, as far as that is told."""
        line = self.cluster.partitions.get(partition, {})
        groups, accounts = line.get("AllowGroups", "ALL"), line.get("AllowAccounts", "ALL")
        mine = {row["account"] for row in self.cluster.associations}
        return (
            line.get("State", "UP") == "UP"
            and (groups == "ALL" or bool(self.groups & set(groups.split(","))))
            and (accounts == "ALL" or not mine or bool(mine & set(accounts.split(","))))
        )

    def _ranked(self, gpus: bool) -> list[str]:
        """The partitions with or without GPUs, best first: a day is long enough, then the default one, then the larger ones."""
        found = []
        for name, nodes in self.cluster.nodes.items():
            if name and self._open(name) and any(sizes["gres/gpu"] for _, sizes in nodes) == gpus:
                default = self.cluster.partitions.get(name, {}).get("Default") == "YES"
                found.append((-min(self.seconds(name), 86400), not default, -sum(count for count, _ in nodes), name))
        return [name for *_, name in sorted(found)]

    @cached_property
    def cpu_partitions(self) -> list[str]:
        return self._ranked(gpus=False)

    @cached_property
    def gpu_partitions(self) -> list[str]:
        return self._ranked(gpus=True)

    def smallest(self, partition: str) -> dict[str, int]:
        """cpu and mem (MB) that a job may ask for of most nodes of a partition: those of its most frequent kind."""
        return max(self.cluster.nodes[partition], key=lambda entry: entry[0])[1]

    @cached_property
    def _told(self) -> dict[str, str]:
        questions = {
            "features": ("sinfo", "--noheader", "--exact", "--format=%P|%D|%G|%f"),
            "jobs": (
                *("sacctmgr", "--noheader", "--parsable2", "--readonly", "show", "assoc", f"user={getpass.getuser()}"),
                "format=account,maxsubmit",
            ),
        }
        answers = zip(questions, ask_all(*questions.values(), seconds=Cluster.SECONDS), strict=True)
        return {name: said for name, said in answers if isinstance(said, str)}

    def gpus(self, partition: str) -> Gpus:
        """The GPUs of a partition's most frequent kind of node."""
        best, most = Gpus(0, "", None, False), 0
        for line in self._told.get("features", "").splitlines():
            name, count, gres, features = (line + "|||").split("|")[:4]
            kinds = re.findall(r"\bgpu(?::([^:,(]+))?:(\d+)", gres)
            if name.rstrip("*") != partition or not kinds or int(count) <= most:
                continue
            # whole ones before slices of some, then the kind that there is most of
            gpu, number = max(kinds, key=lambda one: (not MIG.search(one[0]), int(one[1])))
            most, best = int(count), Gpus(int(number), *_known(gpu, features))
        return best

    @property
    def max_submit(self) -> int | None:
        """How many jobs this user may have in the queue, where an association says it."""
        numbers = [line.rpartition("|")[2] for line in self._told.get("jobs", "").splitlines()]
        found = [int(number) for number in numbers if number.isdecimal()]
        return min(found, default=None)

    @property
    def accounts(self) -> list[str]:
        """This user's accounts, the default one first."""
        rows = self.cluster.associations
        default = next((row["defaultaccount"] for row in rows), "")
        return sorted({row["account"] for row in rows if row["account"]}, key=lambda name: (name != default, name))

    def qualities(self, account: str) -> list[str]:
        """The QOS that this user may use with an account, the default one first."""
        rows = [row for row in self.cluster.associations if row["account"] == account]
        default = next((row["defaultqos"] for row in rows), "")
        names = {name for row in rows for name in row["qos"].split(",") if name}
        return sorted(names, key=lambda name: (name != default, name))

    def accepts(self, *options: str) -> list[str | None]:
        """Whether Slurm would take a job with each of these strings of options: None, or its reason. Nothing is submitted.

        Raises Infrastructure where it says neither: silence is no refusal.
        """
        script = ROOT / "scripts_hpc" / "lib" / "probe.sh"
        commands = [("sbatch", "--test-only", *option.split(), str(script)) for option in options]
        answers = ask_all(*commands, seconds=Cluster.SECONDS)
        for answer in answers:
            if isinstance(answer, SchedulerUnavailable) and NO_ANSWER.search(str(answer)):
                raise Infrastructure(f"the scheduler doesn't answer: {answer}. Nothing was written; try again.")
        return [refusal(answer) if isinstance(answer, SchedulerUnavailable) else None for answer in answers]

    def seconds_of_qos(self, qos: str | None) -> int:
        """The longest time that a QOS allows."""
        own = self.cluster.qualities.get(qos or "", {})
        binding = self.cluster.enforces("limits") or self.cluster.enforces("qos")
        return (durations.seconds(own.get("maxwall", "")) or FOREVER) if binding else FOREVER

    @property
    def array_size(self) -> int:
        return (
            cluster.DEFAULT_ARRAY_SIZE
            if self.cluster.config is None
            else int(self.cluster.config.get("MaxArraySize", 0))
        )


def _known(gres: str, features: str) -> tuple[str, int | None, bool]:
    """A GPU's type, GB, and whether these were told: by Slurm's type of it, else by its node's features, which tell other things too."""
    if slice_ := MIG.search(gres):
        whole, *_ = _known(gres[: slice_.start()], "")
        return whole or slice_[0], int(slice_[1]), True
    words = re.findall(r"[a-z0-9]+", f"{gres} {features}".lower())
    words += [first + second for first, second in zip(words, words[1:], strict=False)]  # rtx_6000
    kind = next((word for word in words if word in GPU_MEMORY), gres)
    sizes = GPU_MEMORY.get(kind, ())
    numbers = {int(found[1]) for word in words if (found := re.fullmatch(r"(?:gpu)?(\d{2,3})(?:gb?)?", word))}
    told = next((size for size in sizes if size in numbers), None)
    return kind, told or next(iter(sizes), None), told is not None or len(sizes) == 1


def _has_name(group: int) -> bool:
    try:
        return bool(grp.getgrgid(group))
    except KeyError:
        return False


def refusal(error: SchedulerUnavailable) -> str:
    """The sentence of sbatch in which it says no."""
    words = [line.partition("error: ")[2] or line for line in str(error).splitlines() if line.strip()]
    said = next(
        (word for word in words if "failure" in word or "failed" in word), words[-1] if words else "no reason given"
    )
    return re.sub(r"^(allocation failure|Batch job submission failed): ", "", said)


def storage() -> tuple[str, str] | None:
    """Where large files go, as a site file writes it, and what told it; None where nothing but the home folder is known."""
    for name in STORAGE:
        path = os.environ.get(name, "")
        if os.path.isabs(path) and os.access(path, os.W_OK | os.X_OK):
            return f"${{{name}}}", f"${name}"
    for pattern in FOLDERS:
        path = pattern.replace("${USER}", getpass.getuser())
        if os.access(path, os.W_OK | os.X_OK):
            return pattern, "the folder is there, and yours"
    return None


def of_one_node(path: str) -> str | None:
    """The kind of a path's file system, where it is one that other nodes don't see; None else, and where it isn't known."""
    done = subprocess.run(["stat", "-f", "-c", "%T", "--", path], capture_output=True, text=True)
    return done.stdout.strip() if done.stdout.strip() in OF_ONE_NODE else None


def container_program() -> tuple[str | None, list[str], str]:
    """Apptainer's or Singularity's command, the modules that bring it, and what told it; None where neither is found."""
    loaded = os.environ.get("LOADEDMODULES", "").split(":")
    for name in ("apptainer", "singularity"):
        if shutil.which(name):
            modules = [module for module in loaded if module.lower().startswith(name)]
            return name, modules, f"`{name}` is on PATH{' by that module' if modules else ''}"
    for name in ("apptainer", "singularity"):
        if module := _module(name):
            return name, [module], "module avail"
    return None, [], "neither apptainer nor singularity is on PATH or among the modules"


def _module(name: str) -> str | None:
    """A module whose name begins so; the default one of several, else the last."""
    try:
        done = subprocess.run(
            ["bash", "-lc", f"module -t avail {name} 2>&1"],
            capture_output=True,
            text=True,
            timeout=20,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return None
    found = [
        line.strip()
        for line in done.stdout.splitlines()
        if re.match(rf"{name}(ce)?(/|\(|$)", line.strip(), re.IGNORECASE)
    ]
    best = next((line for line in found if re.search(r"\((default|D)\)", line)), found[-1] if found else None)
    return re.sub(r"\(.*\)$", "", best) if best else None
