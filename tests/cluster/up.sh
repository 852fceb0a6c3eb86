#!/usr/bin/env bash
# Brings up a real Slurm and a real Apptainer on this Debian 12 machine, for the tests and for trying the project out.
# Two CPU nodes and one with two pretended GPUs; README.md tells of the two sites that they can be.
# May be run again at any time: it does what is missing. down.sh ends it.
#
# usage: tests/cluster/up.sh [options]      prints the export lines to use the cluster, and writes them to DIR/env.sh
#   --site loopback|hosts    as which of the two sites (default: as it is, at first loopback)
#   --user NAME              ordinary user that runs jobs, and NAME2, a stranger to the first; made when absent (default: habuser)
#   --state-dir DIR          all files of the cluster (default: $HAB_CLUSTER_STATE, else /var/tmp/hab-cluster)
#   --port-base N            first of the 5 ports on the loopback that the daemons use (default: 17000)
#   --no-containers          Slurm only: no Apptainer, no base image
#   --reconfigure [K=V ...]  lines of slurm.conf that replace this script's own, until the next --reconfigure;
#                            without any: back to normal. E.g. --reconfigure MaxArraySize=26 SlurmdTimeout=5
#   --check                  only say whether this machine can run it
#   -h, --help
# Exit: 0 up, all nodes ready · 2 usage · 3 it does not come up · 77 not root on Debian 12
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

readonly PACKAGES=(iproute2 btrfs-progs slurmctld slurmd slurmdbd slurm-client munge mariadb-server-core mariadb-client-core python3 python3-venv)
readonly CONTAINER_PACKAGES=(debootstrap squashfs-tools squashfuse fuse2fs fuse-overlayfs fuse3 uidmap patchelf libseccomp2 libsqlite3-0 ca-certificates)
readonly BASE_PACKAGES=python3,python3-venv,python3-pip,ca-certificates,curl
readonly POLICY=/usr/sbin/policy-rc.d # while it exits 101, packages start no daemons
# A fifth of the processor time that building an image otherwise takes, for a tenth more bytes.
readonly SQUASH='-comp gzip -Xcompression-level 1'

up::options() { # argument... -> sets the globals below
  user='' port_base='' site='' containers=true overrides=() reconfigure=false
  while (($#)); do
    case $1 in
      -h | --help) cluster::help "${BASH_SOURCE[0]}" && exit ;;
      --check) cluster::require_machine && exit ;;
      --no-containers) containers=false ;;
      --reconfigure)
        reconfigure=true
        while [[ ${2:-} =~ ^[A-Za-z]+= ]]; do
          overrides+=("$2") && shift
        done
        ;;
      --user | --state-dir | --port-base | --site)
        [[ -n ${2:-} ]] || cluster::die 2 "$1 needs a value; see --help"
        set -- "$1=$2" "${@:3}"
        continue
        ;;
      --site=*) site=${1#*=} ;;
      --user=*) user=${1#*=} ;;
      --state-dir=*) STATE=${1#*=} ;;
      --port-base=*) port_base=${1#*=} ;;
      *) cluster::die 2 "unknown option $1; see --help" ;;
    esac
    shift
  done
  [[ -z $port_base || ($port_base =~ ^[1-9][0-9]{3,4}$ && $port_base -ge 1024 && $port_base -le 65000) ]] ||
    cluster::die 2 "--port-base '$port_base': needs a number from 1024 to 65000"
  [[ $user =~ ^[a-z_0-9-]*$ && $user != -* && $user != root ]] ||
    cluster::die 2 "--user '$user': needs the name of an ordinary user, of small letters, digits, _ and -"
}

up::settings() { # what an earlier up.sh was told stays true
  local word old_site
  for word in user port_base site; do
    [[ -n ${!word} ]] || printf -v "$word" %s "$(cluster::setting "$word")"
  done
  user=${user:-habuser} port_base=${port_base:-17000} site=${site:-loopback}
  old_site=$(cluster::setting site)
  cluster::site "$site"
  [[ ${old_site:-$site} == "$site" ]] || up::leave "$old_site"
  printf '%s=%s\n' user "$user" port_base "$port_base" site "$site" >"$STATE/settings"
}

up::leave() { # site: ends what is of that one alone; munge, the database and all files serve both
  (
    cluster::site "$1"
    cluster::end_nodes
    cluster::stop slurmctld
    cluster::stop slurmdbd
  )
  cluster::network_down
}

# --- packages ---

up::packages() { # package...: installs what is missing, starting none of the daemons
  local missing=() package
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == 'ii ' ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  cluster::log "installing ${#missing[@]} packages"
  [[ -e $POLICY ]] || { printf '#!/bin/sh\n# made by hab-cluster\nexit 101\n' >"$POLICY" && chmod 755 "$POLICY"; }
  up::logged apt "apt-get update" apt-get update
  up::logged apt "apt-get install" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    -o Dpkg::Options::=--force-unsafe-io "${missing[@]}"
}

up::logged() { # log what command...: in the background, because behind || or && a function would run on after an error
  local log=$STATE/log/$1.log what=$2
  shift 2
  ("$@") >>"$log" 2>&1 </dev/null &
  wait $! || up::failed "$what" "$log"
}

up::failed() { # what log
  tail -n 5 "$2" >&2
  cluster::die 3 "$1 failed; see $2"
}

up::mirror() { # -> address of the Debian mirror that apt is configured with
  local targets mirror
  # shellcheck disable=SC2016 # $(REPO_URI) is apt-get's own
  targets=(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Codename: bookworm')
  mirror=$("${targets[@]}" | head -n 1)
  # apt knows the origin of a mirror only after an update.
  [[ -n $mirror ]] || { apt-get update >&2 && mirror=$("${targets[@]}" | head -n 1); }
  [[ -n $mirror ]] || cluster::die 3 "apt is configured with no mirror of Debian 12 (bookworm); look into /etc/apt"
  printf '%s\n' "$mirror"
}

# --- user and files ---

up::users() {
  local name
  for name in "$user" "${user}2"; do
    id "$name" >/dev/null 2>&1 && continue
    useradd --create-home --shell /bin/bash "$name"
    printf '%s\n' "$name" >>"$STATE/users.made"
  done
  # Image builds with --fakeroot need ranges of further ids; useradd gives them, but an older user may have none.
  grep -qs "^$user:" /etc/subuid || usermod --add-subuids 200000-265535 "$user"
  grep -qs "^$user:" /etc/subgid || usermod --add-subgids 200000-265535 "$user"
  install -d -o "$user" -g "$(id -gn "$user")" "$STATE"/shared
}

up::files() {
  mkdir -p "$STATE"/{etc,run,log,munge,mysql,spool}
  chmod 755 "$STATE" "$STATE"/{etc,run,log,munge,spool}
  chmod 700 "$STATE/mysql"
  # A GPU's device must be a character device, or jobs get no CUDA_VISIBLE_DEVICES; the number comes from the name.
  ln -sfn /dev/null "$STATE/spool/fakegpu0"
  ln -sfn /dev/null "$STATE/spool/fakegpu1"
  $reconfigure || [[ ! -f $STATE/overrides ]] || mapfile -t overrides <"$STATE/overrides"
  printf '%s\n' "${overrides[@]}" | sed '/^$/d' >"$STATE/overrides"
}

up::slurm_conf() { # -> our slurm.conf, without the lines of which $overrides has its own
  local override keys=()
  for override in "${overrides[@]}"; do
    keys+=(-e "^${override%%=*}=")
  done
  {
    up::slurm_conf_daemons
    "up::slurm_conf_$CLUSTER_SITE"
  } | grep -Eiv "${keys[@]:-^$}"
  ((! ${#overrides[@]})) || printf '%s\n' "${overrides[@]}"
}

up::slurm_conf_daemons() {
  cat <<CONF
# Written by tests/cluster/up.sh of hpc-agent-bench; change it with its --reconfigure.
ClusterName=$CLUSTER_NAME
SlurmctldHost=$host($address)
SlurmctldPort=$port_base
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket=$STATE/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$STATE/spool/slurmctld${CLUSTER_NAME#hab}
SlurmdSpoolDir=$STATE/spool/%n
SlurmctldPidFile=$STATE/spool/slurmctld.pid
SlurmdPidFile=$STATE/spool/%n.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/%n.log
MailProg=/usr/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
SlurmdTimeout=20
SlurmctldTimeout=20
KillWait=5
MinJobAge=300
ReturnToService=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$address
AccountingStoragePort=$((port_base + 1))
AccountingStoragePass=$STATE/munge/socket
AccountingStorageTRES=gres/gpu
SlurmdParameters=config_overrides
GresTypes=gpu
CONF
}

up::slurm_conf_loopback() {
  cat <<CONF
NodeName=cpu[1-2] NodeHostname=$host NodeAddr=$address Port=[$((port_base + 2))-$((port_base + 3))] CPUs=8 RealMemory=64000
NodeName=gpu1 NodeHostname=$host NodeAddr=$address Port=$((port_base + 4)) CPUs=8 RealMemory=128000 Gres=gpu:2
PartitionName=cpu Nodes=cpu[1-2] Default=YES DefaultTime=01:00:00 MaxTime=2-00:00:00 State=UP
PartitionName=gpu Nodes=gpu1 DefaultTime=01:00:00 MaxTime=2-00:00:00 State=UP
CONF
}

up::slurm_conf_hosts() { # every job needs a time limit, an account and a QOS that isn't the user's default
  cat <<CONF
AccountingStorageEnforce=associations,limits,qos
JobSubmitPlugins=require_timelimit
EnforcePartLimits=ALL
NodeName=n[1-2] NodeAddr=n[1-2] Port=$((port_base + 2)) CPUs=8 RealMemory=64000
NodeName=g1 NodeAddr=g1 Port=$((port_base + 2)) CPUs=8 RealMemory=128000 Gres=gpu:2
PartitionName=long Nodes=n[1-2] MaxTime=12:00:00 AllowAccounts=science AllowQos=day State=UP
PartitionName=short Nodes=n[1-2] Default=YES MaxTime=00:10:00 AllowAccounts=science AllowQos=day State=UP
PartitionName=accel Nodes=g1 MaxTime=12:00:00 AllowAccounts=science AllowQos=day State=UP
CONF
}

up::address() { # the daemons listen on the address that the name of their machine has
  if [[ $CLUSTER_SITE == hosts ]]; then
    cluster::network_up
    host=head address=$CLUSTER_NET.1
    return
  fi
  host=$(hostname -s)
  address=$(getent ahostsv4 "$host" | awk 'NR == 1 {print $1}') || true
  [[ $address == 127.* ]] ||
    cluster::die 3 "this machine's name has the address '$address', not one of the loopback; put '127.0.1.1 $host' at the top of /etc/hosts"
}

up::configure() { # writes Slurm's configuration; ends the daemons that still run with another one
  local new=$STATE/etc.new name included
  rm -rf "$new" && mkdir "$new"
  up::slurm_conf >"$new/slurm.conf"
  printf 'NodeName=%s Name=gpu File=%s/spool/fakegpu[0-1]\n' "${CLUSTER_NODES[2]}" "$STATE" >"$new/gres.conf"
  install -m 600 /dev/stdin "$new/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$STATE/munge/socket
CommunicationParameters=NoInAddrAny
DbdHost=localhost
DbdPort=$((port_base + 1))
SlurmUser=root
PidFile=$STATE/spool/slurmdbd.pid
LogFile=$STATE/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
CONF
  if ! diff -rq "$new" "$STATE/etc" >/dev/null; then
    for name in slurmctld "${CLUSTER_NODES[@]}" slurmdbd; do
      cluster::stop "$name"
    done
    mv "$new"/* "$STATE/etc/"
  fi
  rm -rf "$new"
  # Commands find the cluster without SLURM_CONF too, where no other one is set up.
  included=$(sed -n '1s/^include //p' "$CLUSTER_ETC" 2>/dev/null || true)
  if [[ ! -e $CLUSTER_ETC || ($included == /*/etc/slurm.conf && ! -e $included) ]]; then
    mkdir -p "${CLUSTER_ETC%/*}"
    printf 'include %s\n' "$STATE/etc/slurm.conf" >"$CLUSTER_ETC"
  fi
}

# --- daemons ---

up::daemons() {
  up::ports_free
  up::munge
  up::database
  mkdir -p "$STATE/spool/slurmctld${CLUSTER_NAME#hab}" "${CLUSTER_NODES[@]/#/$STATE/spool/}"
  local command
  mapfile -t command < <(cluster::as_host head /usr/sbin/slurmdbd -D)
  cluster::start slurmdbd "${command[@]}"
  up::answers slurmdbd sacctmgr -n list cluster
  up::accounts
  mapfile -t command < <(cluster::as_host head /usr/sbin/slurmctld -D)
  cluster::start slurmctld "${command[@]}"
  local node
  for node in "${CLUSTER_NODES[@]}"; do
    cluster::start_node "$node"
  done
  up::answers slurmctld scontrol ping
  # what `scontrol update` changed meanwhile
  ! $reconfigure || scontrol reconfigure
  cluster::wait_for 60 cluster::nodes_ready "${CLUSTER_NODES[@]}" ||
    cluster::die 3 "the nodes do not come up: $(cluster::node_states | tr '\n' ' '); see $STATE/log"
}

up::answers() { # daemon command...: waits until the command succeeds
  local name=$1 end=$((SECONDS + 60))
  shift
  until "$@" >/dev/null 2>&1; do
    cluster::alive "$name" || up::failed "$name" "$STATE/log/$name.out"
    ((SECONDS < end)) || cluster::die 3 "$name does not answer; see $STATE/log"
    sleep 0.1
  done
}

up::ports_free() {
  local port=$port_base name names=(slurmctld slurmdbd)
  [[ $CLUSTER_SITE == hosts ]] || names+=("${CLUSTER_NODES[@]}")
  for name in "${names[@]}"; do
    if ! cluster::alive "$name" && (: <"/dev/tcp/$address/$port") 2>/dev/null; then
      cluster::die 3 "port $port, meant for $name, is taken; choose others with --port-base"
    fi
    port=$((port + 1))
  done
}

up::munge() {
  [[ -f $STATE/munge/key ]] || (umask 077 && head -c 128 /dev/urandom >"$STATE/munge/key")
  chown -R munge: "$STATE/munge"
  cluster::start munged setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged --foreground \
    --key-file="$STATE/munge/key" --socket="$STATE/munge/socket" --pid-file="$STATE/munge/pid" \
    --seed-file="$STATE/munge/seed" --log-file="$STATE/munge/log"
  up::answers munged munge --socket="$STATE/munge/socket" --no-input
}

up::database() { # a MariaDB without a port: slurmdbd reaches it by its socket, as root, without a password
  local data=$STATE/mysql/data
  if [[ ! -d $data ]]; then
    rm -rf "$data.part"
    mariadb-install-db --no-defaults --user=root --datadir="$data.part" --auth-root-authentication-method=socket \
      --auth-root-socket-user=root --skip-test-db >"$STATE/log/mariadb-install.log" 2>&1 || up::failed mariadb-install-db "$STATE/log/mariadb-install.log"
    mv "$data.part" "$data"
  fi
  cluster::start mariadbd /usr/sbin/mariadbd --no-defaults --user=root --datadir="$data" --socket="$STATE/mysql/socket" \
    --pid-file="$STATE/mysql/pid" --skip-networking --performance-schema=off --innodb-buffer-pool-size=64M \
    --innodb-log-file-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0
  up::answers mariadbd test -S "$STATE/mysql/socket"
}

up::accounts() { # what sites with AccountingStorageEnforce demand of every user: the first account is the default one
  local have accounts=(bench) account name
  [[ $CLUSTER_SITE != hosts ]] || accounts+=(science)
  have=$(sacctmgr -nP list associations cluster="$CLUSTER_NAME" format=account,user)
  [[ $have == *"root|"* ]] || sacctmgr -i add cluster "$CLUSTER_NAME" >/dev/null
  for account in "${accounts[@]}"; do
    [[ $have == *"$account|"* ]] || sacctmgr -i add account "$account" cluster="$CLUSTER_NAME" >/dev/null
    for name in "$user" "${user}2"; do
      [[ $'\n'$have$'\n' == *$'\n'"$account|$name"$'\n'* ]] ||
        sacctmgr -i add user "$name" account="$account" cluster="$CLUSTER_NAME" >/dev/null
    done
  done
  if [[ $CLUSTER_SITE == hosts && $have != *science* ]]; then
    sacctmgr -i add qos day >/dev/null
    sacctmgr -i modify user where account=science cluster="$CLUSTER_NAME" set qos+=day >/dev/null
  fi
}

# --- containers ---

up::apptainer() { # Debian has Apptainer only in unstable, linked against a newer libc6, which goes into a folder of its own
  local other deb part=$STATE/apptainer.part cache=$STATE/cache apt libexec
  other=$(command -v apptainer || true)
  [[ -z $other || $other == "$CLUSTER_APPTAINER" ]] || return 0
  if [[ ! -d $STATE/apptainer ]]; then
    rm -rf "$part" && mkdir -p "$part" "$cache"/{lists,archives}/partial
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' "$(up::mirror)" >"$cache/sid.list"
    apt=(apt-get -o Dir::Etc::SourceList="$cache/sid.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$cache/lists"
      -o Dir::Cache="$cache" -o Acquire::Languages=none -o APT::Sandbox::User=root)
    "${apt[@]}" update
    (cd "$part" && "${apt[@]}" download apptainer libc6)
    for deb in "$part"/*.deb; do
      dpkg -x "$deb" "$part/$([[ $deb == */libc6_* ]] && printf glibc)"
    done
    # Outside /, Apptainer looks for its files from where its two programs are: ../etc of the one, ../../../etc of the other.
    ln -s ../etc "$part/usr/etc"
    libexec=("$part"/usr/lib/*/apptainer)
    mv "${libexec[0]}" "$part/usr/lib/"
    ln -s ../apptainer "${libexec[0]}"
    mkdir -p "$part/usr/var/lib/apptainer/mnt/session"
    up::link_to_glibc "$part"
    rm -rf "$cache" "$part"/*.deb
    mv "$part" "$STATE/apptainer"
  fi
  ln -sfn "$STATE/apptainer/usr/bin/apptainer" "$CLUSTER_APPTAINER"
  [[ $(stat -c %a /dev/fuse) == 666 ]] || chmod 666 /dev/fuse
  apptainer --version
}

up::link_to_glibc() { # folder: makes Apptainer's programs in it use the libc6 in its glibc/, once it is $STATE/apptainer
  local loader program
  loader=$(find "$1/glibc" -name 'ld-linux*' -not -type l | head -n 1)
  loader=$STATE/apptainer/${loader#"$1/"}
  for program in "$1/usr/bin/apptainer" "$1/usr/lib/apptainer/bin/starter"; do
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "${loader%/*}" "$program"
  done
}

up::base_tree() { # the stand-in for docker://python:3.11-slim-bookworm, where no container registry can be reached
  local tree=$STATE/base.part mirror proxy
  [[ ! -f $STATE/base.sif ]] || return 0
  rm -rf --one-file-system "$tree"
  mirror=$(up::mirror)
  proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
  http_proxy=${proxy:-${http_proxy:-}} debootstrap --variant=minbase --include="$BASE_PACKAGES" bookworm "$tree" "$mirror"
  # As in that image: `python`, and a pip that installs into the system.
  ln -sf python3 "$tree/usr/bin/python"
  rm -rf "$tree"/usr/lib/python3*/EXTERNALLY-MANAGED "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale}/*
}

up::base_image() {
  [[ -f $STATE/base.sif ]] || {
    apptainer build --force --mksquashfs-args "$SQUASH" "$STATE/base.part.sif" "$STATE/base.part"
    chmod 644 "$STATE/base.part.sif"
    mv "$STATE/base.part.sif" "$STATE/base.sif"
  }
  rm -rf --one-file-system "$STATE/base.part"
}

up::containers() {
  local tree
  (up::logged base "debootstrap" up::base_tree) &
  tree=$!
  up::logged apptainer "installing Apptainer" up::apptainer
  wait "$tree" || exit 3
  up::logged base "building the base image" up::base_image
}

# --- what a caller needs ---

up::pip_setting() { # name -> pip's own value of it, from the environment or pip's files
  awk -F"'" -v name="$1" '{key = $1; sub(/=$/, "", key); sub(/.*\./, "", key)} key == name {value = $2} END {print value}' <<<"$pip_config"
}

up::exports() {
  local pip_config cert index
  pip_config=$(python3 -m pip config list 2>/dev/null || true)
  cert=$(up::pip_setting cert) index=$(up::pip_setting index-url)
  printf 'export %s=%q\n' SLURM_CONF "$STATE/etc/slurm.conf" HPC_SITE "$here/$([[ $CLUSTER_SITE == hosts ]] && printf hosts || printf site).yaml" \
    HAB_CLUSTER_SITE "$CLUSTER_SITE" HAB_CLUSTER_STATE "$STATE" HAB_CLUSTER_USER "$user" \
    HAB_CA_BUNDLE "${cert:-${SSL_CERT_FILE:-}}" HAB_PIP_INDEX_URL "${index:-${PIP_INDEX_URL:-}}" \
    APPTAINER_MKSQUASHFS_ARGS "$SQUASH"
  [[ -x $(command -v apptainer) ]] || printf 'export HAB_CONTAINER_RUNTIME=none\n'
}

up::tidy() {
  cluster::kill_cgroup build
  cluster::unmount
  ! grep -qs 'made by hab-cluster' "$POLICY" || rm -f "$POLICY"
}

up::options "$@"
cluster::require_machine
cluster::check_state_dir
umask 022
mkdir -p "$STATE/log"
touch "$STATE/settings"
exec {lock}>"$STATE/log/lock"
flock -n "$lock" || { cluster::log "waiting for another up.sh or down.sh" && flock "$lock"; }
up::tidy # what a killed up.sh may have left
trap up::tidy EXIT
up::settings
up::files
export SLURM_CONF=$STATE/etc/slurm.conf
packages=("${PACKAGES[@]}")
! $containers || packages+=("${CONTAINER_PACKAGES[@]}")
up::packages "${packages[@]}"
up::users
up::address
up::configure
if $containers; then
  (exec {lock}>&- && cluster::enter_cgroup build && up::containers) &
  containers_pid=$!
fi
up::daemons
! $containers || wait "$containers_pid" || exit 3
up::exports | tee "$STATE/env.sh"
