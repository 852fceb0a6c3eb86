# shellcheck shell=bash
# container.sh: run a command in an image, or (runtime none) in the project's own virtual environment. Sourced; needs common.sh.
# The caller sets RUNTIME, IMAGES (folder of the .sif files), ROOT, RUNTIME_FLAGS and JOB_TMP.

declare -A CONTAINER_ENV # NAME -> value: all that the command sees of the environment; never on a command line. A job may set some before
JOB_TMP=''

container::scratch() { # makes JOB_TMP, the job's own temporary folder, gone when the job ends
  local base=$1 lacking
  [[ $base != *[:,]* ]] || ! container::isolated ||
    die 2 "$base holds ':' or ',': nothing with it in its name can be bound into a container (paths.scratch of site $SITE)"
  mkdir -p "$base" 2>/dev/null || die 3 "can't make a temporary folder in $base (paths.scratch of site $SITE)"
  lacking=$(common::room "$base") || die 3 "no room in $base (paths.scratch of site $SITE): $lacking. Free some, or choose another folder"
  JOB_TMP=$(mktemp -d "$base/hab-$JOB_ID.XXXXXX") || die 3 "can't make a temporary folder in $base (paths.scratch of site $SITE)"
  on_exit container::_clean
  # whose it is, for the guard's successors
  printf '%s\n' "${HOSTNAME:-}" "$$ $(common::birth "$$")" "$(container::_scheduler)" >"$JOB_TMP/job"
  mkdir "$JOB_TMP/tmp" "$JOB_TMP/shm"
  set -m
  container::_guard_scratch &
  SCRATCH_GUARD=$!
  disown "$SCRATCH_GUARD" # no word of its end
  set +m
  container::_sweep "$base" &
}
SCRATCH_GUARD=''

container::_scheduler() { # who knows this job's id
  # shellcheck disable=SC2153 # the caller sets them
  if [[ $SCHEDULER == local ]]; then printf 'local %s' "$LOCAL_JOBS"; else printf %s "$SCHEDULER"; fi
}

# Secrets don't outlive the job: where the script was killed, this removes them, and all the rest. (A Slurm that finds every process of
# a job may kill it, too.)
container::_guard_scratch() {
  local try
  trap '' TERM INT HUP
  container::_detach
  tail --pid="$$" --sleep-interval=0.2 --follow /dev/null
  rm -rf "$JOB_TMP/endpoints" "$JOB_TMP/tls"
  # what the job has started may need a while to end
  for ((try = 0; try < 20; try++)); do
    container::_remove "$JOB_TMP"
    [[ -e $JOB_TMP ]] || break
    sleep 0.5
  done
}

# Removes what dead jobs of this user have left on this node: no such process is there, and the scheduler says so, too.
container::_sweep() { # container::_sweep FOLDER
  local folder host pid birth scheduler job jobs gone left=()
  container::_detach
  for folder in "$1"/hab-*.??????; do
    [[ -O $folder && -d $folder && ! -L $folder && $folder != "$JOB_TMP" && -f $folder/job ]] || continue
    { read -r host && read -r pid birth && read -r scheduler; } <"$folder/job" || continue
    [[ $host == "${HOSTNAME:-}" && $scheduler == "$(container::_scheduler)" && $(common::birth "$pid") != "$birth" ]] || continue
    left+=("$folder")
  done
  ((${#left[@]})) || return 0
  jobs=("${left[@]##*/hab-}")
  gone=$(sched::gone_of "${jobs[@]%.*}") || return 0
  for folder in "${left[@]}"; do
    job=${folder##*/hab-}
    ! grep -qxF "${job%.*}" <<<"$gone" || container::_remove "$folder"
  done
}

container::_detach() { # nothing of what the script has open is kept so
  container::_close_files
  exec </dev/null >/dev/null 2>&1
}

container::empty_tmp() { # what the command in the container has written to its /tmp and /dev/shm
  container::_remove "$JOB_TMP/tmp" "$JOB_TMP/shm"
  mkdir -p "$JOB_TMP/tmp" "$JOB_TMP/shm"
}

container::_clean() {
  [[ -z $JOB_TMP ]] || container::_remove "$JOB_TMP"
  [[ -z $SCRATCH_GUARD ]] || kill -KILL -- "-$SCRATCH_GUARD" 2>/dev/null || true
}

# Neither rights nor depth nor number stop it. (All files are the user's own: only with fakeroot could there be other owners.) Who wrote
# there has ended: nobody puts a link in the place of what chmod has seen.
container::_remove() { # container::_remove FOLDER…
  local try
  for ((try = 0; try < 3; try++)); do
    rm -rf -- "$@" 2>/dev/null && return
    # its owner can't look into a folder without rights; one process, as there may be hundred thousands
    chmod -R u+rwX -- "$@" 2>/dev/null || true
  done
  log "can't remove all of $*"
}

container::isolated() { [[ $RUNTIME != none ]]; }

container::inside() { # container::inside HOST_PATH INSIDE_PATH: the path that the command will see
  if container::isolated; then printf '%s' "$2"; else printf '%s' "$1"; fi
}

container::check() { # container::check IMAGE
  container::isolated || return 0
  command -v "$RUNTIME" >/dev/null ||
    die 3 "$RUNTIME is not on PATH on ${HOSTNAME:-this node}: add its module to environment.modules of site $SITE"
  [[ -r $IMAGES/$1.sif ]] || die 3 "the image $IMAGES/$1.sif is missing: build it with containers/build_all_containers.sh --site $SITE --only $1"
}

# What a log says of the node's containers, in one sentence; code 1 where it says nothing of the kind, or no Python is there to tell.
container::fault() { # container::fault [LOG]: by default the job's own
  local log=${1:-/proc/$$/fd/2} python
  container::isolated && [[ -f $log && -r $log ]] || return 1
  for python in "${VENV:-}/bin/python" python3; do
    ! command -v "$python" >/dev/null || ! "$python" -I "$ROOT/helpers/scheduler/container_faults.py" "$log" 2>/dev/null || return 0
  done
  return 1
}

container::hosts() { # makes $JOB_TMP/hosts: the names that this node knows
  [[ -f $JOB_TMP/hosts ]] || { cat /etc/hosts 2>/dev/null || printf '127.0.0.1 localhost\n'; } >"$JOB_TMP/hosts"
}

# Adds a name to what the job's containers know, as the node resolves it: by DNS, NIS, LDAP or a module that no image has.
container::add_host() { # container::add_host NAME
  local address
  [[ ! $1 =~ ^[0-9.]*$ && $1 != *:* ]] || return 0
  container::hosts
  address=$(getent ahostsv4 "$1" 2>/dev/null | awk 'NR == 1 {print $1}') || true
  # in place: a container sees the file that was bound at its start
  [[ -z $address ]] || printf '%s %s\n' "$address" "$1" >>"$JOB_TMP/hosts"
}

# The proxy variables that a container may have, as the site or the person set them: in both spellings, with DIRECT excepted.
container::proxies() { # container::proxies VARIABLE [DIRECT…]: fills the associative array VARIABLE; nothing where there is no proxy
  # shellcheck disable=SC2178 # the caller's array
  local -n proxies=$1
  local name upper value direct=${no_proxy:-${NO_PROXY:-}} host any=0
  for name in http_proxy https_proxy all_proxy; do
    upper=${name^^}
    value=${!name:-${!upper:-}}
    [[ -n $value ]] || continue
    any=1
    # shellcheck disable=SC2004 # an associative array
    proxies[$name]=$value proxies[$upper]=$value
  done
  ((any)) || return 0
  for host in "${@:2}" localhost 127.0.0.1; do
    [[ ,$direct, == *",$host,"* ]] || direct+=${direct:+,}$host
  done
  # shellcheck disable=SC2034 # the caller's
  proxies[no_proxy]=$direct proxies[NO_PROXY]=$direct
}

# Finds out, once for a job, how --no-net can be had here, by trying: by the runtime itself (unprivileged since Apptainer 1.1; older ones
# and Singularity may want root), or in a network namespace that a process of the job holds. Sets CONTAINER_NO_NET to runtime or holder;
# to `none` where it can't be had, and the network is then open, which is for the caller to tell. Code 1, with the words of the runtime in
# $JOB_TMP/no_net, where no container can be made at all.
container::find_no_net() { # container::find_no_net IMAGE
  [[ -z $CONTAINER_NO_NET ]] || return 0
  if container::isolated; then
    CONTAINER_NO_NET=runtime
    ! container::_is_offline "$1" || return 0
  fi
  CONTAINER_NO_NET=holder
  ! container::_hold_net || ! container::_is_offline "$1" || return 0
  CONTAINER_NO_NET=none
  container::_is_offline "$1" || (($? == 9)) || { CONTAINER_NO_NET='' && return 1; }
}
CONTAINER_NO_NET='' NET_HOLDER=''
NO_NET_SECONDS=300 # for a container to be made; a file system may be slow

# Whether a container sees no network device but the loopback; code 9 where it sees one, another where it can't be made.
container::_is_offline() { # container::_is_offline IMAGE
  local pid code=0 began=$SECONDS
  set -m
  # shellcheck disable=SC2016 # for the inner shell
  (container::exec "$1" --contained --no-net -- sh -c '
    while read -r name _; do case $name in Inter-* | face* | lo:*) ;; *) exit 9 ;; esac; done </proc/net/dev') \
    </dev/null >"$JOB_TMP/no_net" 2>&1 &
  pid=$!
  set +m
  while kill -0 "$pid" 2>/dev/null && ((SECONDS - began < NO_NET_SECONDS)); do common::pause 1 "$pid"; done
  if kill -0 "$pid" 2>/dev/null; then code=124; else wait "$pid" || code=$?; fi
  common::end_group "$pid" 5
  return "$code"
}

container::_hold_net() { # starts the process whose network namespace --no-net enters; code 1 where there can't be one
  local python said=$JOB_TMP/net output
  command -v nsenter >/dev/null || return
  for python in "${VENV:-}/bin/python" python3; do
    command -v "$python" >/dev/null || continue
    rm -f "$said"
    mkfifo -m 0600 "$said" || return
    set -m
    # no <(…): bash may wait at its own end for such a process, which ends only with the job
    (exec >"$said" && container::_close_files && exec "$python" -I -S "$ROOT/helpers/lib/offline.py" </dev/null 2>/dev/null) &
    on_exit "kill -KILL $! 2>/dev/null"
    set +m
    exec {output}<"$said"
    IFS= read -r -t 30 -u "$output" NET_HOLDER || NET_HOLDER=''
    exec {output}<&-
    rm -f "$said"
    [[ -z $NET_HOLDER ]] || return 0
  done
  return 1
}

# Replaces this (sub)shell by COMMAND. --contained hides the host: own /tmp, /dev/shm, processes, no home, no site binds. --no-net, after
# container::find_no_net, leaves it a loopback device alone.
container::exec() { # container::exec IMAGE [--contained] [--no-net] [--gpu FLAG] [--bind SRC:DST[:ro]]… [--pwd DIR] -- COMMAND…
  local image=$1 contained=0 pwd=/tmp binds=() gpu=() name no_net='' enter=()
  shift
  while [[ $1 != -- ]]; do
    case $1 in
      --contained) contained=1 && shift ;;
      --no-net) no_net=$CONTAINER_NO_NET && shift ;;
      --gpu) gpu=("$2") && shift 2 ;;
      --bind) binds+=(--bind "$2") && shift 2 ;;
      --pwd) pwd=$2 && shift 2 ;;
      *) die "container::exec: unknown option $1" ;;
    esac
  done
  shift
  # what the user or an admin binds into every container could show an agent the answers; and proxies pass through --cleanenv
  while IFS= read -r name; do unset "$name"; done \
    < <(compgen -e | grep -iE '^((APPTAINER|SINGULARITY)(ENV_|_BIND|_MOUNT|_OVERLAY)|(https?|ftp|all|no)_proxy$)' || true)
  if [[ $no_net == holder ]]; then
    enter=(nsenter --target "$NET_HOLDER" --net)
    # an ordinary user's is of a user namespace of its own
    ((EUID == 0)) || enter+=(--user --preserve-credentials)
    enter+=(--)
  fi
  container::_close_files
  container::_guard "$$" &
  if container::isolated; then container::_exec_image "$@"; else container::_exec_plain "$@"; fi
}

# Nothing that the script has open, but stdin, stdout and stderr, is the command's. (What reads a script, 255, bash closes itself.)
container::_close_files() {
  local file
  for file in "/proc/$BASHPID/fd/"*; do
    file=${file##*/}
    if ((file > 2 && file != 255)); then eval "exec $file>&-"; fi
  done
}

# A kill -9 of the job script takes none of its children along, and not every Slurm finds them (only proctrack/cgroup does for
# certain): so a guard in the command's process group ends the group when the script is gone.
container::_guard() { # container::_guard PID_OF_THE_SCRIPT
  local pids=() try
  # it would keep a pipe open for as long as it lives
  container::_detach
  tail --pid="$1" --follow /dev/null
  trap '' TERM
  kill -TERM 0
  # apptainer unmounts what it has mounted, given the time
  for ((try = 0; try < 100; try++)); do
    mapfile -t pids < <(pgrep --pgroup 0)
    ((${#pids[@]} > 1)) || break
    sleep 0.1
  done
  kill -KILL 0
}

container::_exec_image() {
  local prefix=${RUNTIME^^}ENV_ flags=(--cleanenv --no-home) bind
  for name in "${!CONTAINER_ENV[@]}"; do export "$prefix$name=${CONTAINER_ENV[$name]}"; done
  export "${RUNTIME^^}_NO_EVAL=1" # else `$` and backticks in a value are expanded on the way in
  if ((contained)); then
    flags+=(--containall --bind "$JOB_TMP/shm:/dev/shm")
    # bind-paths are an admin's folders, and the node's /etc/hosts, without which it may not know the servers' names
    [[ $RUNTIME != apptainer ]] || flags+=(--no-mount bind-paths)
    container::hosts
    flags+=(--bind "$JOB_TMP/hosts:/etc/hosts:ro")
  else
    for bind in ${SITE_BINDS[@]+"${SITE_BINDS[@]}"}; do flags+=(--bind "$bind"); done
  fi
  [[ $no_net != runtime ]] || flags+=(--net --network none)
  exec ${enter[@]+"${enter[@]}"} "$RUNTIME" exec "${flags[@]}" ${RUNTIME_FLAGS[@]+"${RUNTIME_FLAGS[@]}"} ${gpu[@]+"${gpu[@]}"} --bind "$JOB_TMP/tmp:/tmp" \
    ${binds[@]+"${binds[@]}"} --pwd "$pwd" "$IMAGES/$image.sif" env HOME=/tmp "$@"
}

container::_exec_plain() {
  local keep=" PATH USER LOGNAME LANG LC_ALL TZ HAB_LOCAL_JOB HAB_LOCAL_JOB_ID "
  while IFS= read -r name; do
    [[ $keep == *" $name "* ]] || unset "$name"
  done < <(compgen -e)
  for name in "${!CONTAINER_ENV[@]}"; do export "$name=${CONTAINER_ENV[$name]}"; done
  export PATH=$VENV/bin:$PATH HOME=$JOB_TMP/tmp TMPDIR=$JOB_TMP/tmp
  [[ $pwd == /tmp ]] || cd "$pwd" || exit 3
  exec ${enter[@]+"${enter[@]}"} "$@"
}
