#!/usr/bin/env bash
# Functions shared by up.sh, down.sh and node.sh. Sourced, never run. They read the global STATE, the state folder.
# shellcheck disable=SC2034 # the constants are for those scripts

readonly CLUSTER_SITES=(loopback hosts)
readonly CLUSTER_ETC=/etc/slurm/slurm.conf          # an include of our slurm.conf, where nobody else has one
readonly CLUSTER_APPTAINER=/usr/local/bin/apptainer # a link to our Apptainer, where there is no other
readonly CLUSTER_BRIDGE=hab0
readonly CLUSTER_NET=10.213.7 # .1 is the head, the nodes count from .11
STATE=${HAB_CLUSTER_STATE:-/var/tmp/hab-cluster}

cluster::log() { # message...
  printf '%s: %s\n' "${0##*/}" "$*" >&2
}

cluster::die() { # exit-code message...
  local code=$1
  shift
  cluster::log "$*"
  exit "$code"
}

cluster::help() { # script: its header comment is its help
  sed -n '2,/^[^#]/{/^#/!q;s/^# \{0,1\}//;p}' "$1"
}

cluster::require_machine() {
  local id='' version=''
  # shellcheck disable=SC1091
  [[ ! -r /etc/os-release ]] || { id=$(. /etc/os-release && printf '%s' "${ID:-}") && version=$(. /etc/os-release && printf '%s' "${VERSION_ID:-}"); }
  [[ $id == debian && $version == 12 ]] || cluster::die 77 "skipped: the test cluster needs Debian 12, this is ${id:-unknown} ${version}"
  ((EUID == 0)) || cluster::die 77 "skipped: the test cluster needs root, this is $(id -un)"
}

cluster::check_state_dir() {
  # Slurm's files take no spaces, and a socket's path has at most 107 characters.
  [[ $STATE =~ ^/[A-Za-z0-9._/-]{2,60}$ && $STATE != */ ]] ||
    cluster::die 2 "--state-dir '$STATE': needs an absolute path of at most 60 letters, digits and . _ / -"
  [[ ! -e $STATE ]] && return
  [[ -d $STATE && -O $STATE ]] || cluster::die 2 "--state-dir $STATE: is not a folder that root owns; name another"
  [[ -f $STATE/settings || -z $(ls -A "$STATE") ]] ||
    cluster::die 2 "--state-dir $STATE: holds files that up.sh did not make; name an empty or a new folder"
}

# --- the sites: one cluster, made up in one of two ways ---

cluster::site() { # name: sets CLUSTER_SITE, CLUSTER_NAME (Slurm's) and CLUSTER_NODES
  CLUSTER_SITE=$1
  case $1 in
    loopback) CLUSTER_NAME=hab CLUSTER_NODES=(cpu1 cpu2 gpu1) ;;
    hosts) CLUSTER_NAME=habhosts CLUSTER_NODES=(n1 n2 g1) ;;
    *) cluster::die 2 "--site '$1': there are ${CLUSTER_SITES[*]}" ;;
  esac
}

cluster::setting() { # word: what an earlier up.sh wrote down
  sed -n "s/^$1=//p" "$STATE/settings" 2>/dev/null || true
}

# Site hosts: each node has a network of its own, in which its name and address are not those of the loopback, and which ends at a bridge.
cluster::network_up() {
  local node net file last=11
  ! ip -4 -oneline address show | grep -v " $CLUSTER_BRIDGE " | grep -qF " $CLUSTER_NET." ||
    cluster::die 3 "this machine is in the network $CLUSTER_NET.0/24 itself, which the nodes of site hosts need"
  mkdir -p "$STATE/net"
  cluster::hosts "$CLUSTER_NET.1 head"
  [[ -e /sys/class/net/$CLUSTER_BRIDGE ]] || ip link add name "$CLUSTER_BRIDGE" type bridge ||
    cluster::die 3 "can't make a bridge: site hosts needs a machine whose networks are its own (no container without --privileged)"
  ip address replace "$CLUSTER_NET.1/24" dev "$CLUSTER_BRIDGE"
  ip link set "$CLUSTER_BRIDGE" up
  for node in "${CLUSTER_NODES[@]}"; do
    file=$STATE/net/$node net=(nsenter "--net=$STATE/net/$node" ip)
    cluster::hosts "$CLUSTER_NET.$last $node.hab.internal $node"
    if ! mountpoint -q "$file"; then
      : >"$file"
      unshare --net="$file" true
      ip link add name "hab-$node" type veth peer name eth0 netns "$file"
      ip link set "hab-$node" master "$CLUSTER_BRIDGE" up
      "${net[@]}" address add "$CLUSTER_NET.$last/24" dev eth0
      "${net[@]}" link set eth0 up
      "${net[@]}" link set lo up
    fi
    last=$((last + 1))
  done
}

cluster::network_down() {
  local file
  for file in "$STATE"/net/*; do
    [[ ! -e /sys/class/net/hab-${file##*/} ]] || ip link delete "hab-${file##*/}"
    ! mountpoint -q "$file" || umount "$file"
  done
  rm -rf --one-file-system "$STATE/net"
  [[ ! -e /sys/class/net/$CLUSTER_BRIDGE ]] || ip link delete "$CLUSTER_BRIDGE"
  cluster::hosts ''
}

cluster::hosts() { # line: in /etc/hosts; none: ours leave it. In place: a sandbox's /etc/hosts may be a mount
  local text mark='# hab-cluster'
  text=$(</etc/hosts)
  if [[ -z $1 ]]; then
    [[ $text == *"$mark"* ]] || return 0
    text=$(grep -vF "$mark" <<<"$text") || true
  else
    [[ $'\n'$text != *$'\n'"$1 $mark"* ]] || return 0
    text+=$'\n'"$1 $mark"
  fi
  printf '%s\n' "$text" >/etc/hosts
}

cluster::as_host() { # name command...: prints the command that runs the given one on a machine of this name, one word a line
  [[ $CLUSTER_SITE != hosts ]] && printf '%s\n' "${@:2}" && return
  [[ ! -e $STATE/net/$1 ]] || printf '%s\n' nsenter "--net=$STATE/net/$1"
  # shellcheck disable=SC2016 # the inner shell's
  printf '%s\n' unshare --uts sh -c 'hostname "$0" && exec "$@"' "$1" "${@:2}"
}

# --- processes: $STATE/run/NAME.pid holds "PID STARTTIME", so that a pid that was given out again is never killed ---

cluster::start_time() { # pid -> clock ticks since boot (field 22 of /proc/PID/stat; the name in field 2 may hold spaces)
  local line fields
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${line##*) }"
  [[ ${fields[0]} != Z ]] && printf '%s\n' "${fields[19]}"
}

cluster::alive() { # name
  local pid started
  { read -r pid started <"$STATE/run/$1.pid"; } 2>/dev/null || return 1
  [[ $(cluster::start_time "$pid") == "$started" ]]
}

cluster::start() { # name command...: starts a daemon in the foreground mode of its own, unless it runs
  local name=$1 pid
  shift
  cluster::alive "$name" && return
  (
    cluster::enter_cgroup "$name"
    cd /
    # No descriptor of the caller's stays open in a daemon: bats and CI wait for theirs to close.
    for fd in "/proc/$BASHPID/fd/"*; do
      fd=${fd##*/}
      ((fd <= 2)) || eval "exec $fd>&-"
    done
    exec setsid env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
      SLURM_CONF="$STATE/etc/slurm.conf" MYSQL_UNIX_PORT="$STATE/mysql/socket" "$@"
  ) </dev/null >>"$STATE/log/$name.out" 2>&1 &
  pid=$!
  printf '%s %s\n' "$pid" "$(cluster::start_time "$pid")" >"$STATE/run/$name.pid"
}

cluster::stop() { # name [signal]: KILL follows after 10 s
  local name=$1 signal=${2:-TERM} pid
  if cluster::alive "$name"; then
    read -r pid _ <"$STATE/run/$name.pid"
    kill -s "$signal" "$pid"
    cluster::wait_for 10 cluster::gone "$name" || kill -s KILL "$pid" || true
    cluster::wait_for 5 cluster::gone "$name" || cluster::die 3 "$name (process $pid) does not end"
  fi
  rm -f "$STATE/run/$name.pid"
}

cluster::gone() { # name
  ! cluster::alive "$1"
}

cluster::wait_for() { # seconds command...: asks ten times a second
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

# --- cgroups: one for each node, so that a job's processes are found whatever they did to hide ---

cluster::cgroup() { # -> the folder of our cgroups; fails where none can be written
  local root
  for root in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/pids; do
    [[ -w $root/cgroup.procs ]] && printf '%s\n' "$root/hab${STATE//\//_}" && return
  done
  return 1
}

cluster::enter_cgroup() { # name: moves this (sub)shell
  local folder
  folder=$(cluster::cgroup) || return 0
  mkdir -p "$folder/$1" && printf '%s\n' "$BASHPID" >"$folder/$1/cgroup.procs"
}

cluster::kill_cgroup() { # name: kills every process that was started below it
  local folder pids
  folder=$(cluster::cgroup) || return 0
  [[ -d $folder/$1 ]] || return 0
  for _ in {1..100}; do
    mapfile -t pids <"$folder/$1/cgroup.procs"
    ((${#pids[@]})) || break
    kill -s KILL "${pids[@]}" 2>/dev/null || true
    sleep 0.05
  done
  rmdir "$folder/$1" || cluster::log "note: processes of $1 are left: ${pids[*]}"
}

cluster::start_node() { # node
  local command
  mapfile -t command < <(cluster::as_host "$1" /usr/sbin/slurmd -D -N "$1")
  cluster::start "$1" "${command[@]}"
}

cluster::end_nodes() {
  local name
  for name in "${CLUSTER_NODES[@]}"; do
    cluster::stop "$name"
    cluster::kill_cgroup "$name"
  done
}

cluster::node_states() { # -> "NODE STATE" lines; a star behind the state: it does not answer
  SLURM_CONF=$STATE/etc/slurm.conf sinfo -hN -o '%N %t' | sort -u
}

cluster::nodes_ready() { # node...
  local states node
  states=$(cluster::node_states) || return 1
  for node; do
    grep -Eqx "$node (idle|mix|alloc|comp)" <<<"$states" || return 1
  done
}

cluster::unmount() { # debootstrap leaves mounts behind when it is killed; the nodes' networks are mounts too, and stay
  local mount
  while read -r _ mount _; do
    [[ $mount != "$STATE"/* || $mount == "$STATE"/net/* ]] || umount "$mount"
  done < <(tac /proc/mounts)
}
