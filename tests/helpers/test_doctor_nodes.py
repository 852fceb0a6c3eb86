"""`site.sh doctor`: what is made of the reports of its probes, one broken thing after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.doctor import equipment, findings, network
from helpers.cluster.doctor import nodes as doctor_nodes
from helpers.cluster.doctor.findings import FAILURE, NOT_CHECKED, OK, WARNING, Finding
from helpers.cluster.doctor.nodes import Nodes
from helpers.config import sites
from helpers.config.schema import Site
from helpers.jobs.kinds.doctor import Report

KEYS = ("runs", "address_dir", "data", "containers")
NOW = 1_800_000_000.0


@pytest.fixture
def site(tmp_path: Any) -> Site:
    file = tmp_path / "here.yaml"
    file.write_text(
        f"paths: {{runs: {tmp_path}/runs, address_dir: {tmp_path}/addresses}}\npartitions: {{gpu: {{name: gpu}}}}\n"
    )
    return sites.load_site(str(file))


def report(probe: str, named: str, peer: str = "", **changes: list[str]) -> Report:
    """What a healthy node tells. changes: lines of a key, in the place of the healthy ones."""
    found = Report(probe, job="7", back=set(KEYS))
    host = f"{named}.hab"
    lines = {
        "node": [named],
        "folder": [f"{key} same" for key in KEYS],
        "time": [str(NOW - 0.2)],
        "heard": [f"{NOW} {NOW + 0.3}"],
        "bash": ["5.1.16(1)-release"],
        "locale": ["C.UTF-8: UTF-8"],
        "memory": ["1024 1024"],
        "shm": ["16000"],
        "scratch": ["80000 400 /tmp"],
        "host": [host],
        "interface": ["lo 127.0.0.1", "ib0 10.0.0.1"],
        "inside": ["mlebench-env"],
        "ports": ["1111 22222"],
        "image": ["mlebench-env yes 700", "aide yes 800"],
        "reach": [
            *(f"{probe} {by} {host} 1111 yes" for by in ("name", "name:range", "lo", "lo:range", "ib0", "ib0:range")),
            *(f"{peer} {by} peer.hab 1111 yes" for by in ("name", "name:range", "ib0", "ib0:range") if peer),
            *(f"{peer} {by} 127.0.0.1 1111 Connection refused" for by in ("lo", "lo:range") if peer),
        ],
        "internet": ["direct https://huggingface.co yes"],
        "end": ["0"],
    } | {key: value for key, value in changes.items() if value is not None}
    for key, values in lines.items():
        for value in values:
            found.hear(f"{key}\t{value}", NOW)
    return found


def nodes(site: Site, first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, **more: Any) -> Nodes:
    """Two nodes that reach one another."""
    reports = {
        "cpu": report("cpu", "n1", "peer", **(first or {})),
        "peer": report("peer", "n2", "cpu", **(second or {})),
    }
    return Nodes(site, reports, **more)


def found(known: Nodes) -> dict[str, Finding]:
    return {one.check: one for one in findings.run("nodes", known)}


def bad(known: Nodes) -> dict[str, str]:
    return {name: one.state for name, one in found(known).items() if one.state in (WARNING, FAILURE)}


def reach(target: str, **answers: str) -> list[str]:
    """Lines on one probe's tries; names with `__` for `:`."""
    return [f"{target} {by.replace('__', ':')} h 1 {answer.replace('_', ' ')}" for by, answer in answers.items()]


def test_a_healthy_site_has_nothing_but_what_was_not_asked(site: Site) -> None:
    told = found(nodes(site))
    assert {name for name, one in told.items() if one.state == NOT_CHECKED} == {"GPUs", "network, GPU nodes"}
    assert bad(nodes(site)) == {}
    assert told["network"].measured == "n1, n2 reach one another by name, both ways, from inside the container"
    assert told["clocks"].measured == "at most 0.3 s apart here and on n1, n2"
    assert told["files appear"].measured == "there and back within 0.5 s (n1)"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("absent", "isn't there on n2"),
        ("other", "is another folder on n2: a file written here isn't there"),
        ("readonly", "can't be written on n2"),
    ],
)
def test_runs_that_another_node_does_not_share(site: Site, state: str, said: str) -> None:
    folders = [f"runs {state}", *(f"{key} same" for key in KEYS[1:])]
    one = found(nodes(site, second={"folder": folders}))["shared runs"]
    assert (one.state, one.key, one.value) == (FAILURE, "paths.runs", None)
    assert one.measured == f"{site.paths.runs} {said}"


def test_what_a_node_writes_must_be_seen_here(site: Site) -> None:
    known = nodes(site)
    known.reports["peer"].back.discard("data")
    one = found(known)["shared data"]
    assert one.state == FAILURE and one.measured == f"{site.paths.data} doesn't show here what n2 wrote there"


def test_an_address_folder_of_one_node_goes_where_runs_are_seen(site: Site) -> None:
    folders = ["address_dir other", *(f"{key} same" for key in ("runs", "data", "containers"))]
    one = found(nodes(site, {"folder": folders}, {"folder": folders}))["shared address_dir"]
    assert (one.state, one.value, one.cures) == (FAILURE, f"{site.paths.runs}/.addresses", True)


def test_data_that_nodes_can_only_read_are_a_warning(site: Site) -> None:
    folders = ["data readonly", *(f"{key} same" for key in ("runs", "address_dir", "containers"))]
    assert bad(nodes(site, {"folder": folders}, {"folder": folders})) == {"shared data": WARNING}


def test_folders_that_can_only_be_read_are_compared_by_their_names(site: Site) -> None:
    listing = {"listing": ["containers aaa"]}
    assert found(nodes(site, listing, listing, listings={"containers": "aaa"}))["shared containers"].state == OK
    other = nodes(site, listing, {"listing": ["containers bbb"]}, listings={"containers": "aaa"})
    only = [one for one in findings.run("nodes", other) if one.state == FAILURE]
    assert [one.measured for one in only] == [f"{site.paths.containers} has other names in it on n2"]


@pytest.mark.parametrize(("hours", "direction"), [(1, "ahead of"), (-1, "behind")])
def test_a_clock_an_hour_off(site: Site, hours: int, direction: str) -> None:
    there = NOW + hours * 3600
    one = found(nodes(site, {"time": [str(there - 0.2)], "heard": [f"{NOW} {there + 0.3}"]}))["clocks"]
    assert one.state == FAILURE and one.key == "scheduler.extra_sbatch"
    assert one.measured == f"that of n1 is 3600 s or more {direction} this machine's"
    assert one.advice == "ask the support; --exclude=n1 avoids the node"


def test_a_clock_some_seconds_off_is_a_warning(site: Site) -> None:
    assert bad(nodes(site, {"time": [str(NOW + 9)], "heard": [f"{NOW} {NOW + 10}"]})) == {"clocks": WARNING}


def test_late_files(site: Site) -> None:
    one = found(nodes(site, {"heard": [f"{NOW} {NOW + 40}"]}))["files appear"]
    assert one.state == WARNING and "within 40.2 s (n1)" in one.measured


def test_a_file_that_never_came_back_is_no_clock(site: Site) -> None:
    told = found(nodes(site, {"heard": []}, {"heard": []}))
    assert told["files appear"].state == NOT_CHECKED and "clocks" not in told


@pytest.mark.parametrize(
    ("changes", "check", "state", "key"),
    [
        ({"bash": ["4.2.46(2)-release"]}, "bash", FAILURE, "environment.modules"),
        (
            {"locale": ["de_DE: locale: Cannot set LC_CTYPE to default locale: No such file"]},
            "locale",
            WARNING,
            "environment.variables",
        ),
        ({"lacking": ["curl"]}, "curl on nodes", FAILURE, "environment.modules"),
        ({"lacking": ["apptainer"]}, "apptainer on nodes", FAILURE, "environment.modules"),
        ({"memory": ["1024 512"]}, "memory limit", WARNING, "scheduler.request_memory"),
        ({"scratch": ["900 400 /tmp"]}, "scratch", WARNING, "paths.scratch"),
        ({"scratch": ["90000 3 /tmp"]}, "scratch", WARNING, "paths.scratch"),
        ({"shm": ["64"]}, "/dev/shm", WARNING, ""),
        (
            {"image": ["aide no user namespaces are off or used up on this node: ask"]},
            "aide starts",
            FAILURE,
            "container.runtime",
        ),
        (
            {"internet": ["direct https://huggingface.co curl: (28) timed out"]},
            "internet",
            WARNING,
            "environment.proxy",
        ),
    ],
)
def test_what_a_node_lacks(site: Site, changes: dict[str, list[str]], check: str, state: str, key: str) -> None:
    one = next(one for one in findings.run("nodes", nodes(site, changes)) if one.check == check and one.state == state)
    assert one.key == key


def test_no_user_namespaces_are_told_as_what_they_are(site: Site) -> None:
    said = "mlebench-env no user namespaces are off or used up on this node: ask the support (exit code 255)"
    one = found(nodes(site, {"image": [said]}, {"image": []}))["mlebench-env starts"]
    assert one.measured == "not on n1: user namespaces are off or used up on this node: ask the support (exit code 255)"


def test_memory_without_a_request(site: Site) -> None:
    site.scheduler.request_memory = False
    one = found(nodes(site, {"memory": ["0 4000"]}, {"memory": ["0 4000"]}))["memory limit"]
    assert one.state == WARNING and one.measured == "without --mem a job has 4000 MB, an agent wants 32768"
    assert found(nodes(site, {"memory": ["0 0"]}))["memory limit"].state == OK


# ---- the network


def test_a_name_that_nobody_reaches_and_the_interface_that_would_do(site: Site) -> None:
    own = reach("cpu", name="yes", name__range="yes", lo="yes", lo__range="yes", ib0="yes", ib0__range="yes")
    other = reach(
        "peer",
        name="No_route_to_host",
        name__range="No_route",
        lo="Connection_refused",
        lo__range="no",
        ib0="yes",
        ib0__range="yes",
    )
    one = found(nodes(site, {"reach": [*own, *other]}))["network"]
    assert (one.state, one.key, one.value, one.cures) == (FAILURE, "network.interface", "ib0", True)
    assert one.measured == "n1 to n2 (h:1): No route to host"


def test_a_node_without_a_name_of_its_own(site: Site) -> None:
    said = "this node is called 'n1', which is 127.0.0.1 there: no other node could reach it. Set network.interface of site x to …"
    one = found(nodes(site, {"host": [], "nohost": [said]}))["network"]
    assert (one.state, one.value) == (FAILURE, "ib0")
    assert one.measured == "this node is called 'n1', which is 127.0.0.1 there: no other node could reach it"


def test_nodes_that_are_one_machine_meet_on_its_loopback(site: Site) -> None:
    both = {by: "yes" for by in ("lo", "lo__range", "eth0", "eth0__range")}
    tries = [*reach("cpu", **both), *reach("peer", **both)]
    changes = {"host": [], "nohost": ["this node is called 'vm', which …"], "reach": tries}
    one = found(nodes(site, changes, changes))["network"]
    assert one.value == "lo" and one.advice == "lo: all nodes reach one another so (and eth0)"
    # one node alone tells nothing of another
    same = nodes(site, changes, changes | {"node": ["n1"]})
    assert found(same)["network"].value is None


def test_an_interface_that_is_not_there(site: Site) -> None:
    site.network.interface = "ib9"
    said = "no IPv4 address on interface ib9 of n1 (network.interface of site x): ip -4 addr shows the names"
    one = found(nodes(site, {"nohost": [said]}, {"nohost": [said]}))["network"]
    assert one.state == FAILURE and one.measured.startswith("no IPv4 address on interface ib9") and one.value == "ib0"


def test_a_port_that_is_refused_between_nodes(site: Site) -> None:
    tries = [*reach("cpu", name="yes", name__range="yes"), *reach("peer", name="yes", name__range="Connection_refused")]
    one = found(nodes(site, {"reach": tries}))["network"]
    assert (one.state, one.key) == (FAILURE, "network.ports")
    assert one.measured == "at ports 20000 to 60000, n1 to n2 (h:1): Connection refused"


def test_a_firewall_between_nodes_leaves_nothing_to_write(site: Site) -> None:
    no = {by: "timed_out" for by in ("name", "name__range", "lo", "lo__range", "ib0", "ib0__range")}
    one = found(nodes(site, {"reach": reach("peer", **no)}))["network"]
    assert (one.state, one.value) == (FAILURE, None)
    assert one.advice == "no interface was seen to work; there are lo, ib0"


def test_one_node_alone_says_nothing_of_two(site: Site) -> None:
    told = found(Nodes(site, {"cpu": report("cpu", "n1")}))
    assert told["network"].state == OK and told["network, two nodes"].state == NOT_CHECKED


def test_no_way_out_and_a_way_through_the_proxy_of_the_login_node(site: Site) -> None:
    none = {"internet": ["direct https://huggingface.co curl: (6) no host"]}
    one = found(nodes(site, none, none))["internet"]
    assert (one.state, one.key, one.value) == (WARNING, "environment.offline", True)
    proxied = {"internet": [*none["internet"], "login https://huggingface.co yes"], "proxy": ["http://proxy:3128"]}
    one = found(nodes(site, proxied, proxied))["internet"]
    assert (one.state, one.key, one.value) == (WARNING, "environment.proxy", "http://proxy:3128")
    # a way of one node alone is none to be sure of, and no site is offline then
    one = found(nodes(site, proxied, none))["internet"]
    assert (one.state, one.value) == (WARNING, None) and "only partly reached from n1, n2" in one.measured
    dead = {"internet": ["direct https://huggingface.co yes", "proxy https://huggingface.co curl: (7) refused"]}
    one = found(nodes(site, dead, dead))["internet"]
    assert (one.state, one.key, one.value) == (WARNING, "environment.proxy", None)
    site.environment.offline = True
    assert found(nodes(site, none, none))["internet"].state == OK


# ---- GPUs, and probes that did not run


def test_gpus_inside_the_image(site: Site) -> None:
    known = nodes(site, gpu=True)
    known.reports["gpu"] = report("gpu", "g1", gpus=["2 2 NVIDIA A100"])
    assert found(known)["GPUs"].measured == "2 seen inside the image on g1: NVIDIA A100"
    known.reports["gpu"] = report("gpu", "g1", gpus=["2 0 none can be opened"])
    one = found(known)["GPUs"]
    assert one.state == FAILURE and one.measured == "2 asked, and inside the image on g1: none can be opened"


def test_a_module_that_is_missing(site: Site) -> None:
    died = Report("cpu", job="7", died="module nothere can't be loaded on n1: check environment.modules of site here")
    one = found(Nodes(site, {"cpu": died}))["probe cpu"]
    assert (one.state, one.key) == (FAILURE, "environment.modules") and "module nothere can't be loaded" in one.measured


def test_a_scratch_that_is_full(site: Site) -> None:
    said = "no room in /scratch (paths.scratch of site here): the disk is full (0 free). Free some, or choose another folder"
    one = found(nodes(site, {"end": ["3"], "died": [said]}))["probe cpu"]
    assert (one.state, one.key, one.measured) == (FAILURE, "paths.scratch", said)


def test_probes_that_never_ran(site: Site) -> None:
    waiting = Report("gpu", job="9", given_up="it hadn't started after 10 minutes (Priority)")
    told = found(Nodes(site, {"gpu": waiting}, {"cpu": "Invalid qos specification"}, gpu=True))
    assert told["probe gpu"].state == FAILURE
    assert told["probe cpu"].measured == "sbatch refuses it: Invalid qos specification"
    # the second CPU node was only to be met
    told = found(Nodes(site, {"peer": Report("peer", given_up="it hadn't started")}, {}))
    assert told["probe peer"].state == WARNING


def test_every_check_of_nodes_is_registered_once() -> None:
    modules = (doctor_nodes, equipment, network)
    names = {function.__name__ for function in findings.CHECKS["nodes"].values()}
    assert all(any(hasattr(module, name) for module in modules) for name in names) and len(names) >= 14
    with pytest.raises(ValueError, match="two checks probes"):
        findings.check("nodes")(doctor_nodes.probes)


def test_the_command_knows_the_checks_of_every_module() -> None:
    """In a process of its own: here others have imported them."""
    code = (
        "import sys; from pathlib import Path; from helpers.cluster.doctor import cli; folder = Path(cli.__file__).parent; "
        "names = {path.stem for path in folder.glob('*.py') if '\\n@check(' in path.read_text()}; assert len(names) > 3; "
        "print(*(name for name in names if f'helpers.cluster.doctor.{name}' not in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
