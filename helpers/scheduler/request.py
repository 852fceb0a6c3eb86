"""What a job script asks for, and what of it the cluster would refuse."""

from __future__ import annotations

import re
import sys

from helpers.config.schema import Site
from helpers.lib import durations
from helpers.scheduler import reasons
from helpers.scheduler.cluster import Cluster


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
        self.sizes = {"cpu": count(self.options.get("cpus-per-task")), "mem": _megabytes(self.options.get("mem"))}
        self.sizes["gres/gpu"] = int(gpus[1]) if gpus else 0
        self.seconds = durations.seconds(self.options.get("time", ""))
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
        most = durations.seconds(values.get("MaxTime", ""))
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
        if wall and (self.seconds or 0) > (durations.seconds(wall["maxwall"]) or sys.maxsize):
            found.append(self._too_long(wall["maxwall"], f"{_holder(wall)} allows", "MaxWall"))
        for key, size in self.sizes.items():
            for kind in ("maxtres", "grptres", "maxtrespu"):
                pairs = ((row, dict(re.findall(r"([^,=]+)=([^,]+)", row.get(kind, "")))) for row in order)
                row, limit = next(((row, limits[key]) for row, limits in pairs if key in limits), ({}, ""))
                most = _megabytes(limit) if key == "mem" else count(limit)
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


def count(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _megabytes(text: str | None) -> int:
    """Of a size as Slurm writes it, in MB where no unit is told; 0 where it is no size."""
    found = re.fullmatch(r"([\d.]+)([KMGT]?)[nc]?", text or "")
    return int(float(found[1]) * {"K": 1 / 1024, "M": 1, "": 1, "G": 1024, "T": 2**20}[found[2]]) if found else 0
