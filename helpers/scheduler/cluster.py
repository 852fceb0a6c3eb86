"""What the scheduler says of its partitions, nodes, accounts and QOS, asked once."""

from __future__ import annotations

import getpass
import re
import sys
from functools import cached_property

from helpers.lib.errors import Infrastructure
from helpers.scheduler.query import SchedulerUnavailable, ask, ask_all

DEFAULT_ARRAY_SIZE = 1001  # Slurm's own, https://slurm.schedmd.com/slurm.conf.html#OPT_MaxArraySize


def answer(*command: str) -> str:
    """What one of Slurm's commands prints. Raises Infrastructure."""
    try:
        return ask(*command)
    except SchedulerUnavailable as error:
        raise silent(error) from error


def silent(error: SchedulerUnavailable) -> Infrastructure:
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
            raise silent(self.silence["nodes"])
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
