"""What a site lets one user submit: how many jobs, how many in one array, of which size; and a list cut to fit."""

from __future__ import annotations

import getpass
import re
import sys
from functools import cached_property

from helpers.config.sites import Site
from helpers.lib.errors import ConfigError, Infrastructure
from helpers.scheduler import reasons
from helpers.scheduler.query import SchedulerUnavailable, ask, ask_all

DEFAULT_ARRAY_SIZE = 1001  # Slurm's own, https://slurm.schedmd.com/slurm.conf.html#OPT_MaxArraySize


def answer(*command: str) -> str:
    """What one of Slurm's commands prints. Raises Infrastructure."""
    try:
        return ask(*command)
    except SchedulerUnavailable as error:
        raise _silent(error) from error


def _silent(error: SchedulerUnavailable) -> Infrastructure:
    return Infrastructure(f"the scheduler doesn't answer: {error}. Try again, or ask its support.")


class Cluster:
    """What a cluster says of itself and of this user, each question asked once and all at the same time.

    Only sinfo has to answer: where the rest is not to be had (no accounting), there is less to check.
    """

    SECONDS = 15.0
    TABLES = {
        "user": "cluster,defaultaccount,account,partition,qos,defaultqos,maxwall,maxtres,grptres",
        "qos": "name,flags,maxwall,maxtres,grptres,maxtrespu",
    }

    def __init__(self) -> None:
        self.silence: dict[str, SchedulerUnavailable] = {}  # why a question has no answer

    @cached_property
    def _told(self) -> dict[str, str]:
        table = ("sacctmgr", "--noheader", "--parsable2", "--readonly", "show")
        questions = {
            "nodes": ("sinfo", "--noheader", "--exact", "--format=%P|%D|%c|%m|%G"),
            "partitions": ("scontrol", "show", "partition", "-o"),
            "config": ("scontrol", "show", "config"),
            "user": (*table, "user", f"name={getpass.getuser()}", "withassoc", f"format={self.TABLES['user']}"),
            "qos": (*table, "qos", f"format={self.TABLES['qos']}"),
        }
        answers = dict(zip(questions, ask_all(*questions.values(), seconds=self.SECONDS), strict=True))
        self.silence = {name: said for name, said in answers.items() if isinstance(said, SchedulerUnavailable)}
        if "nodes" in self.silence:
            raise _silent(self.silence["nodes"])
        for said in dict.fromkeys(str(error) for error in self.silence.values() if "gave no answer" in str(error)):
            print(f"note: {said}: what it allows isn't checked", file=sys.stderr)
        return {name: said for name, said in answers.items() if isinstance(said, str)}

    def _rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a table of sacctmgr."""
        columns = self.TABLES[name].split(",")
        rows = (line.split("|") for line in self._told.get(name, "").splitlines())
        return [dict(zip(columns, row, strict=True)) for row in rows if len(row) == len(columns)]

    @cached_property
    def config(self) -> dict[str, str] | None:
        """Slurm's configuration; None where it isn't told."""
        text = self._told.get("config")
        return None if text is None else dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))

    @cached_property
    def partitions(self) -> dict[str, dict[str, str]]:
        """What each partition's line of scontrol says; empty for one of which it says nothing."""
        lines = (dict(re.findall(r"(\w+)=(\S*)", line)) for line in self._told.get("partitions", "").splitlines())
        return {name: {} for name in self.nodes} | {
            line["PartitionName"]: line for line in lines if "PartitionName" in line
        }

    @cached_property
    def nodes(self) -> dict[str, list[tuple[int, dict[str, int]]]]:
        """Of each partition, how many nodes have how many cpu, mem (MB) and gres/gpu; the default one also under its empty name."""
        found: dict[str, list[tuple[int, dict[str, int]]]] = {}
        for line in self._told["nodes"].splitlines():
            name, count, cpus, memory, gres = line.replace("+", "").split("|", 4)
            gpus = sum(int(number) for number in re.findall(r"\bgpu(?::[^:,(]+)?:(\d+)", gres))
            entry = (int(count), {"cpu": int(cpus), "mem": int(memory), "gres/gpu": gpus})
            for key in {name.rstrip("*"), "" if name.endswith("*") else name}:
                found.setdefault(key, []).append(entry)
        return found

    def enforces(self, what: str) -> bool:
        """Whether the accounting's associations, limits or qos bind jobs. https://slurm.schedmd.com/slurm.conf.html"""
        words = (self.config or {}).get("AccountingStorageEnforce", "").split(",")
        return bool({what, "all"} & set(words)) or (what == "limits" and "safe" in words)

    @cached_property
    def associations(self) -> list[dict[str, str]]:
        """This user's, on this cluster."""
        here = (self.config or {}).get("ClusterName", "")
        return [row for row in self._rows("user") if row["cluster"] in (here, "")]

    @cached_property
    def qualities(self) -> dict[str, dict[str, str]]:
        return {row["name"]: row for row in self._rows("qos")}


class Request:
    """What a job asks for, as its script says it to sbatch: its options, and sizes in the units of Cluster.nodes."""

    SHORT = {"p": "partition", "A": "account", "q": "qos", "t": "time", "c": "cpus-per-task"}

    def __init__(self, script: str, text: str, site: Site):
        found = re.findall(r"^#SBATCH (?:--([\w-]+)|-(\w))[= ]*(.*)$", text, re.MULTILINE)
        self.options = {long or self.SHORT.get(short, short): value.strip("'\"") for long, short, value in found}
        job = "model_server" if script.startswith("vllm_") else script.removesuffix(".sh")
        self.name = {"agent": "the agent's job", "model_server": f"the job of model '{script[5:-3]}'"}.get(
            job, f"the job {job.replace('_', ' ')}"
        )
        asked = next((self.options[key] for key in ("gres", "gpus", "gpus-per-node") if key in self.options), "")
        gpus = re.search(r"^(?:gpu:)?(?:[^:,=]+:)?(\d+)$", asked)
        self.sizes = {"cpu": _count(self.options.get("cpus-per-task")), "mem": _megabytes(self.options.get("mem"))}
        self.sizes["gres/gpu"] = int(gpus[1]) if gpus else 0
        self.seconds = duration(self.options.get("time", ""))
        self.keys = reasons.keys(
            "agent" if job == "notebook" else job, "gpu" if self.sizes["gres/gpu"] else "cpu", site.name
        )

    def problems(self, cluster: Cluster) -> list[str]:
        """Why the cluster would never start it, a sentence each, in the partition of those asked for that objects least."""
        names = [name for name in self.options.get("partition", "").split(",") if name in cluster.nodes or not name]
        found = [self._objections(name, cluster) for name in names]
        return [f"{self.name} asks for {said}." for said in min(found, key=len, default=[])]

    def _objections(self, partition: str, cluster: Cluster) -> list[str]:
        values = cluster.partitions.get(partition, {})
        if not partition:
            values = next((one for one in cluster.partitions.values() if one.get("Default") == "YES"), {})
            partition = values.get("PartitionName", "(default)")
        self.account, self.qos, associations = self._who(partition, cluster)
        own = cluster.qualities.get(self.qos, {}) if cluster.enforces("qos") or cluster.enforces("limits") else {}
        found = [*self._denied(partition, values), *self._not_mine(associations, cluster)]
        most = duration(values.get("MaxTime", ""))
        if "PartitionTimeLimit" not in own.get("flags", "") and most is not None and (self.seconds or 0) > most:
            found.append(self._too_long(values["MaxTime"], f"partition '{partition}' allows", "MaxTime"))
        found += self._too_large(partition, values, cluster)
        if cluster.enforces("limits"):
            of_partition = cluster.qualities.get(values.get("QoS", ""), {})
            order = [own, of_partition] if "OverPartQOS" in own.get("flags", "") else [of_partition, own]
            found += self._over_limits([*order, *associations])
        return found

    def _who(self, partition: str, cluster: Cluster) -> tuple[str, str, list[dict[str, str]]]:
        """The account and QOS that count, empty where they aren't known, and the user's associations with the account."""
        default = next((row["defaultaccount"] for row in cluster.associations), "")
        account = self.options.get("account", default).lower()
        rows = [
            row for row in cluster.associations if row["account"] == account and row["partition"] in ("", partition)
        ]
        return account, self.options.get("qos") or next((row["defaultqos"] for row in rows), ""), rows

    def _denied(self, partition: str, values: dict[str, str]) -> list[str]:
        found = []
        for word, key, value in (("account", "Accounts", self.account), ("QOS", "Qos", self.qos)):
            allowed, denied = values.get(f"Allow{key}", "ALL"), values.get(f"Deny{key}", "")
            if value and ((allowed != "ALL" and value not in allowed.split(",")) or value in denied.split(",")):
                said = f"Allow{key}: {allowed}" if allowed != "ALL" else f"Deny{key}: {denied}"
                given = "" if self.options.get(word.lower()) else ", your default one"
                found.append(
                    f"{word} '{value}'{given}, which partition '{partition}' doesn't take ({said}): set {self.keys['account']}"
                )
        return found

    def _not_mine(self, associations: list[dict[str, str]], cluster: Cluster) -> list[str]:
        mine = sorted({row["account"] for row in cluster.associations})
        if not mine or not self.account:
            return []
        if not associations:
            said = f"account '{self.account}', and yours are: {', '.join(mine)} (sacctmgr)"
            return [f"{said}; set {self.keys['account']}"] if cluster.enforces("associations") else []
        qos = sorted({name for row in associations for name in row["qos"].split(",") if name})
        if not cluster.enforces("qos") or not qos or not self.qos or self.qos in qos:
            return []
        return [
            f"QOS '{self.qos}', and account '{self.account}' may use: {', '.join(qos)} (sacctmgr); set {self.keys['account']}"
        ]

    def _too_long(self, limit: str, who: str, what: str) -> str:
        said = f"{self.options['time']}, and {who} {limit} ({what})"
        return f"{said}: lower {self.keys['time']}, or choose another partition: {self.keys['partition_key']}"

    def _too_large(self, partition: str, values: dict[str, str], cluster: Cluster) -> list[str]:
        nodes = [sizes for _, sizes in cluster.nodes.get(partition, cluster.nodes.get("", []))]
        most = {key: max((sizes[key] for sizes in nodes), default=0) for key in self.sizes}
        for key, name in (("cpu", "MaxCPUsPerNode"), ("mem", "MaxMemPerNode")):
            if values.get(name, "").isdecimal():
                most[key] = min(most[key], int(values[name]))
        where = f"node of partition '{partition}'"
        over = [key for key, size in self.sizes.items() if nodes and size > most[key]]
        if nodes and not over and not any(all(size <= node[key] for key, size in self.sizes.items()) for node in nodes):
            asked = " and ".join(_size(key, size) for key, size in self.sizes.items() if size)
            return [self._over(asked, f"no {where} has them together")]
        return [
            self._over(_size(key, self.sizes[key]), f"a {where} has {_size(key, most[key])} at most") for key in over
        ]

    def _over(self, asked: str, limit: str) -> str:
        return f"{asked}, and {limit}: lower {self.keys['size']}, or choose another partition: {self.keys['partition_key']}"

    def _over_limits(self, order: list[dict[str, str]]) -> list[str]:
        """order: what may hold limits; of each limit the first that has one counts. https://slurm.schedmd.com/resource_limits.html"""
        found = []
        wall = next((row for row in order if row.get("maxwall")), None)
        if wall and (self.seconds or 0) > (duration(wall["maxwall"]) or sys.maxsize):
            found.append(self._too_long(wall["maxwall"], f"{_holder(wall)} allows", "MaxWall"))
        for key, size in self.sizes.items():
            for kind in ("maxtres", "grptres", "maxtrespu"):
                pairs = ((row, dict(re.findall(r"([^,=]+)=([^,]+)", row.get(kind, "")))) for row in order)
                row, limit = next(((row, limits[key]) for row, limits in pairs if key in limits), ({}, ""))
                most = _megabytes(limit) if key == "mem" else _count(limit)
                if limit and size > most:
                    found.append(self._over(_size(key, size), f"{_holder(row)} allows {_size(key, most)} ({kind})"))
                    break
        return found


def _holder(row: dict[str, str]) -> str:
    return f"QOS '{row['name']}'" if "name" in row else f"account '{row['account']}'"


def _size(key: str, size: int) -> str:
    if key == "mem":
        return f"{size / 1024:.4g} GB"
    return f"{size} {'CPU' if key == 'cpu' else 'GPU'}{'' if size == 1 else 's'}"


def _count(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _megabytes(text: str | None) -> int:
    """Of a size as Slurm writes it, in MB where no unit is told; 0 where it is no size."""
    found = re.fullmatch(r"([\d.]+)([KMGT]?)[nc]?", text or "")
    return int(float(found[1]) * {"K": 1 / 1024, "M": 1, "": 1, "G": 1024, "T": 2**20}[found[2]]) if found else 0


def duration(text: str) -> int | None:
    """Seconds of a time as Slurm writes it, [D-]HH:MM:SS, D-HH[:MM], MM[:SS]; None for UNLIMITED and whatever is no time."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        return None
    days, *parts = (int(part or 0) for part in found.groups())
    if found[1] is None and found[4] is None:  # minutes come first
        parts = [0, *parts[:2]]
    return days * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]


def problems(site: Site, scripts: dict[str, str], cluster: Cluster) -> list[str]:
    """Why the cluster would never start the jobs of these scripts; a sentence each, with the site's key, the value and the limit.

    Raises Infrastructure.
    """
    return [said for name, text in scripts.items() for said in Request(name, text, site).problems(cluster)]


def array_size(site: Site, cluster: Cluster) -> int:
    """The most elements that one job array may have. Raises ConfigError where there are no arrays, and Infrastructure."""
    size = site.limits.max_array_size
    if size is None:
        config = cluster.config
        if config is None:
            raise _silent(cluster.silence["config"])
        size = _count(config.get("MaxArraySize", str(DEFAULT_ARRAY_SIZE)))
    if size < 1:
        raise ConfigError(
            [f"site {site.name} has no job arrays (Slurm's MaxArraySize, limits.max_array_size: {size})."]
        )
    return size


def room(site: Site) -> int | None:
    """How many jobs more the user may submit; None for any number. Raises Infrastructure where there is no room."""
    limit = site.limits.max_submit
    if limit is None or site.scheduler.kind == "local":
        return None
    listed = answer("squeue", "--noheader", "--all", "--array", f"--user={getpass.getuser()}", "--format=%i")
    queued = len(re.findall(r"^ *\d", listed, re.MULTILINE))
    if queued >= limit:
        raise Infrastructure(
            f"{queued} jobs of yours are in the queue, and limits.max_submit of site {site.name} is {limit}: "
            "wait until some have ended."
        )
    return limit - queued


def check_room(site: Site, jobs: int, advice: str) -> None:
    """Raises ConfigError where the site never takes so many jobs of one user, and Infrastructure where it doesn't now."""
    limit = site.limits.max_submit
    if limit is not None and jobs > limit and site.scheduler.kind != "local":
        raise ConfigError([f"this takes {jobs} jobs, and limits.max_submit of site {site.name} is {limit}: {advice}."])
    left = room(site)
    if left is not None and jobs > left:
        raise Infrastructure(
            f"this takes {jobs} jobs, {limit - left} of yours are in the queue, and limits.max_submit of site {site.name} is "
            f"{limit}: wait until some have ended, or {advice}."
        )


def at_once(site: Site, cpus: int, memory_gb: int, cluster: Cluster) -> int | None:
    """How many jobs of a size the site's CPU partition can run beside each other, were it empty; None: that isn't known.

    Raises Infrastructure.
    """
    found = 0
    for name in (site.partitions.cpu.name or "").split(","):
        for count, has in cluster.nodes.get(name, []):
            fits = has["cpu"] // cpus
            found += count * (min(fits, has["mem"] // (memory_gb * 1024)) if site.scheduler.request_memory else fits)
    return found or None


def cut(tasks: list[str], most_elements: int | None, most_in_array: int) -> tuple[list[list[str]], list[int]]:
    """Parts of a list of tasks, one for each element, their sizes at most one apart; and the elements of each array."""
    count = len(tasks) if most_elements is None else min(len(tasks), most_elements)
    parts = [tasks[number::count] for number in range(count)]
    return parts, [min(most_in_array, count - first) for first in range(0, count, most_in_array)]
