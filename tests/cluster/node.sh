#!/usr/bin/env bash
# Breaks and mends one node of the test cluster.
#
# usage: tests/cluster/node.sh kill|crash|start NODE [--state-dir DIR]
#   kill    kill -9 of the node's slurmd; its jobs run on, unsupervised
#   crash   kill -9 of the node's slurmd and of everything that it runs, as when the power fails
#   start   start slurmd again and wait until the node answers
# Slurm calls a node down SlurmdTimeout (20 s) after its slurmd went silent, and its jobs NODE_FAIL then.
# (With --requeue, Slurm's default, they are put back into the queue; `sacct --duplicates` shows both.)
# Exit: 0 done · 2 usage · 3 the node does not come back · 77 not root on Debian 12
set -euo pipefail

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

words=()
while (($#)); do
  case $1 in
    -h | --help) cluster::help "${BASH_SOURCE[0]}" && exit ;;
    --state-dir)
      [[ -n ${2:-} ]] || cluster::die 2 "--state-dir needs a folder"
      STATE=$2 && shift
      ;;
    --state-dir=*) STATE=${1#*=} ;;
    -*) cluster::die 2 "unknown option $1; see --help" ;;
    *) words+=("$1") ;;
  esac
  shift
done
((${#words[@]} == 2)) || cluster::die 2 "needs an action and a node; see --help"
action=${words[0]} node=${words[1]}
cluster::require_machine
[[ -f $STATE/settings ]] || cluster::die 2 "no test cluster in $STATE; run tests/cluster/up.sh first"
site=$(cluster::setting site)
cluster::site "${site:-loopback}"
[[ " ${CLUSTER_NODES[*]} " == *" $node "* ]] || cluster::die 2 "unknown node $node; there are ${CLUSTER_NODES[*]}"

case $action in
  kill) cluster::stop "$node" KILL ;;
  crash)
    cluster::stop "$node" KILL
    cluster::kill_cgroup "$node"
    ;;
  start)
    cluster::start_node "$node"
    cluster::wait_for 60 cluster::nodes_ready "$node" ||
      cluster::die 3 "$node does not come back ($(cluster::node_states | grep "^$node ")); see $STATE/log/$node.log"
    ;;
  *) cluster::die 2 "unknown action $action; there are kill, crash and start" ;;
esac
