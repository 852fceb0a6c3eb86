# shellcheck shell=bash
# doctor_node.sh: what a probe of site.sh doctor finds on its node, told line by line in its report. Sourced by that job script, which
# has PROBE, MARK, REPORT, `tell` and the site's values; needs common.sh, container.sh and service.sh.
#
# A report's lines are KEY<tab>VALUE (helpers/cluster/doctor/nodes.py reads them); the last one is `end`. MARK is a file that the doctor keeps
# writing to: its time, and whose end it has seen. A probe whose doctor is silent takes all files of the doctor's along.

NODE_PATIENCE=45 # seconds from the start of the job until nobody is waited for any more
NODE_SILENCE=20  # seconds after which a doctor that writes nothing is dead
NODE_TOOLS=(awk curl find flock getent ip iconv openssl pgrep setsid tail timeout)

node::probe() {
  on_exit node::_end
  trap 'exit 143' TERM INT
  node::_facts
  # shellcheck disable=SC2153 # the job script sets it
  container::scratch "$SCRATCH"
  node::_internet &
  NODE_INTERNET=$!
  node::_listen
  node::_hear
  node::_scratch
  node::_hear
  node::_images
  [[ -z $GPU_FLAG ]] || node::_gpus
  node::_hear
  node::_peers
  node::_hear
  wait "$NODE_INTERNET" || true
}

node::_facts() {
  local tool said memory i
  tell bash "$BASH_VERSION"
  said=$( (LC_ALL=${LC_ALL:-${LANG:-C}} locale charmap) 2>&1) || true
  tell locale "${LC_ALL:-${LANG:-none}}: ${said//$'\n'/; }"
  for tool in "${NODE_TOOLS[@]}"; do command -v "$tool" >/dev/null || tell lacking "$tool"; done
  ! container::isolated || command -v "$RUNTIME" >/dev/null || tell lacking "$RUNTIME"
  for i in "${!LISTED[@]}"; do
    # shellcheck disable=SC2012 # as helpers/cluster/doctor/probes.py makes it
    tell listing "${LISTED_KEYS[i]} $(LC_ALL=C ls -A -- "${LISTED[i]}" 2>/dev/null | sha256sum | cut -d' ' -f1)"
  done
  memory=$(node::_memory)
  tell memory "${SLURM_MEM_PER_NODE:-0} $memory"
  tell shm "$(df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 {print $4}')"
}

node::_memory() { # the least limit in MB of the job's cgroups (v2, or v1), 0 for none
  local path folder least=0 bytes
  while IFS=: read -r _ path folder; do
    case ,$path, in
      ,,) folder=/sys/fs/cgroup$folder path=memory.max ;;
      *,memory,*) folder=/sys/fs/cgroup/memory$folder path=memory.limit_in_bytes ;;
      *) continue ;;
    esac
    while [[ $folder == /sys/fs/cgroup?* ]]; do
      bytes=$(cat "$folder/$path" 2>/dev/null) || bytes=max
      # v1 says 2^63 for none
      if [[ $bytes =~ ^[0-9]{1,18}$ ]] && ((least == 0 || bytes / 1048576 < least)); then least=$((bytes / 1048576)); fi
      folder=${folder%/*}
    done
  done </proc/self/cgroup
  printf '%s' "$least"
}

node::_scratch() { # room and speed: 64 MB, written through
  local began ended file=$JOB_TMP/speed speed=0
  began=$(date +%s%3N)
  if timeout 10 dd if=/dev/zero of="$file" bs=1M count=64 conv=fsync 2>/dev/null; then
    ended=$(date +%s%3N)
    speed=$((64000 / (ended > began ? ended - began : 1)))
  fi
  rm -f "$file"
  tell scratch "$(df -Pm "$JOB_TMP" | awk 'NR == 2 {print $4}') $speed ${JOB_TMP%/*}"
}

node::_internet() { # through the job's own proxy, directly, and through the proxy of the login node
  local url said way
  local -A ways=([direct]='')
  # as the site sets it, or the person whose environment jobs have
  [[ -z ${https_proxy:-} ]] || ways[proxy]=$https_proxy
  [[ -z $PROXY || $PROXY == "${https_proxy:-}" ]] || ways[login]=$PROXY
  [[ -z $PROXY ]] || tell proxy "$PROXY"
  for way in "${!ways[@]}"; do
    for url in "${OUTSIDE[@]}"; do
      said=$(curl --disable --silent --show-error --head --max-time 8 --output /dev/null --proxy "${ways[$way]}" ${CA_BUNDLE:+--cacert "$CA_BUNDLE"} "$url" 2>&1) && said=yes
      tell internet "$way $url ${said:0:150}"
      # one is enough
      [[ $said != yes ]] || break
    done
  done
}

# ---- images

# As the jobs start them; without containers, or an image, as a plain process where there is a Python.
node::_run() { # node::_run IMAGE FILE COMMAND…: its output to FILE, in a process group of its own: sets NODE_PID
  local image=$1 file=$2
  shift 2
  set -m
  if [[ -n $image ]]; then
    (CONTAINER_ENV=([PYTHONDONTWRITEBYTECODE]=1) && container::exec "$image" --contained --bind "$ROOT/helpers:/opt/hab/helpers:ro" -- "$@") >"$file" 2>&1 </dev/null &
  else
    "$@" >"$file" 2>&1 </dev/null &
  fi
  NODE_PID=$!
  set +m
}

node::_images() {
  local image code began
  for image in ${IMAGE_NAMES[@]+"${IMAGE_NAMES[@]}"}; do
    code=0 began=$(date +%s%3N)
    if ! (container::check "$image") 2>"$JOB_TMP/said"; then
      tell image "$image no $(node::_words "$JOB_TMP/said")"
      continue
    fi
    node::_run "$image" "$JOB_TMP/said" python3 -c pass
    node::_await 20 || code=124
    ((code)) || wait "$NODE_PID" || code=$?
    common::end_group "$NODE_PID" 2
    if ((code == 0)); then
      tell image "$image yes $(($(date +%s%3N) - began))"
    else
      tell image "$image no $(container::fault "$JOB_TMP/said" || node::_words "$JOB_TMP/said") (exit code $code)"
    fi
  done
}

node::_words() { # node::_words FILE: its last line
  tail -n 1 "$1" | tail -c 300
}

node::_await() { # node::_await SECONDS: until NODE_PID has ended; code 1 where it hasn't
  local until=$((SECONDS + $1))
  while kill -0 "$NODE_PID" 2>/dev/null; do
    ((SECONDS < until)) || return 1
    common::pause 0.2 "$NODE_PID"
  done
}

node::_gpus() { # GPUs that can be opened in a container, as the model server sees them
  local image=mlebench-env
  [[ ! -r $IMAGES/vllm.sif ]] || image=vllm
  if [[ ! -r $IMAGES/$image.sif ]] || ! container::isolated; then
    tell gpus "$GPUS none no image to look from"
    return 0
  fi
  set -m
  # shellcheck disable=SC2034 # container.sh reads it
  (
    [[ -z ${CUDA_VISIBLE_DEVICES:-} ]] || CONTAINER_ENV[CUDA_VISIBLE_DEVICES]=$CUDA_VISIBLE_DEVICES
    [[ -z ${ROCR_VISIBLE_DEVICES:-} ]] || CONTAINER_ENV[ROCR_VISIBLE_DEVICES]=$ROCR_VISIBLE_DEVICES
    container::exec "$image" --gpu "$GPU_FLAG" --bind "$ROOT/helpers:/opt/hab/helpers:ro" -- python3 -I /opt/hab/helpers/cluster/doctor/peer.py gpus
  ) >"$JOB_TMP/gpus" 2>"$JOB_TMP/said" </dev/null &
  NODE_PID=$!
  set +m
  node::_await 30 || true
  common::end_group "$NODE_PID" 2
  tell gpus "$GPUS $(tail -n 1 "$JOB_TMP/gpus" | grep . || printf 'none %s' "$(container::fault "$JOB_TMP/said" || node::_words "$JOB_TMP/said")")"
}

# ---- nodes that reach one another

node::_python() { # sets PEER to the command of peer.py, and PEER_IMAGE to the image that it runs in: the grading server's, where it is here
  local python
  PEER_IMAGE='' PEER=()
  if container::isolated && (container::check mlebench-env) 2>/dev/null; then
    PEER_IMAGE=mlebench-env PEER=(python3 -I /opt/hab/helpers/cluster/doctor/peer.py)
    return 0
  fi
  for python in "$VENV/bin/python" python3; do
    if "$python" -I -c pass 2>/dev/null; then
      PEER=("$python" -I "$ROOT/helpers/cluster/doctor/peer.py")
      return 0
    fi
  done
  return 1
}

node::_listen() { # starts what peers connect to, and tells where
  local said file
  NODE_SERVER=''
  node::_python || { tell peer 'no Python to listen with' && return 0; }
  if said=$( (service::host && printf '%s' "$HOST") 2>&1); then
    HOST=$said
    tell host "$HOST"
  else
    HOST=''
    tell nohost "${said#*: }"
  fi
  ip -4 -o addr show 2>/dev/null | awk '{sub("/.*", "", $4); print $2, $4}' >"$JOB_TMP/interfaces" || true
  while read -r said; do tell interface "$said"; done <"$JOB_TMP/interfaces"
  file=$JOB_TMP/tmp/listening
  [[ -n $PEER_IMAGE ]] || PEER_FILE=$file
  node::_run "$PEER_IMAGE" "$JOB_TMP/listen.log" "${PEER[@]}" listen "$NONCE.$PROBE" "${PEER_FILE:-/tmp/listening}" "${PORTS[@]}"
  NODE_SERVER=$NODE_PID
  # shellcheck disable=SC2016 # a hook
  on_exit 'common::end_group "$NODE_SERVER" 2'
  while [[ ! -s $file ]] && kill -0 "$NODE_SERVER" 2>/dev/null && ((SECONDS < NODE_PATIENCE)); do common::pause 0.1 "$NODE_SERVER"; done
  if [[ -s $file ]]; then
    tell inside "${PEER_IMAGE:-no}"
    tell ports "$(<"$file")"
  else
    tell peer "$(container::fault "$JOB_TMP/listen.log" || node::_words "$JOB_TMP/listen.log")"
  fi
}

node::_report_of() { # node::_report_of PROBE: the path of its report
  printf '%s' "$MARK.$1"
}

node::_told() { # node::_told PROBE KEY: the values that its report has
  sed -n "s/^$2\t//p" "$(node::_report_of "$1")" 2>/dev/null || true
}

node::_peers() { # itself first, then those that run at the same time
  local peer
  [[ -n $NODE_SERVER ]] || return 0
  node::_ask "$PROBE"
  # shellcheck disable=SC2153 # the job script sets it
  for peer in ${PEERS[@]+"${PEERS[@]}"}; do
    while [[ -z $(node::_told "$peer" ports)$(node::_told "$peer" peer)$(node::_told "$peer" end) ]] && ((SECONDS < NODE_PATIENCE)); do node::_pause; done
    [[ -z $(node::_told "$peer" ports) ]] || node::_ask "$peer"
    tell asked "$peer"
  done
  for peer in ${PEERS[@]+"${PEERS[@]}"}; do
    # its own questions come to our listener
    [[ -n $(node::_told "$peer" ports) ]] || continue
    while [[ -z $(node::_told "$peer" asked)$(node::_told "$peer" end) ]] && ((SECONDS < NODE_PATIENCE)); do node::_pause; done
  done
}

node::_ask() { # node::_ask PROBE: whether its listener answers by its name, and by its addresses, at both its ports
  local any range host line targets=() name address file=$JOB_TMP/asked
  read -r any range <<<"$(node::_told "$1" ports)"
  [[ -n $any ]] || return 0
  host=$(node::_told "$1" host)
  if [[ -n $host ]]; then
    [[ -z $PEER_IMAGE ]] || container::add_host "$host"
    targets+=("name=$host=$any" "name:range=$host=$range")
  fi
  while read -r name address; do targets+=("$name=$address=$any" "$name:range=$address=$range"); done < <(node::_told "$1" interface)
  ((${#targets[@]})) || return 0
  node::_run "$PEER_IMAGE" "$file" "${PEER[@]}" ask "$NONCE.$1" "${targets[@]}"
  node::_await 12 || true
  common::end_group "$NODE_PID" 2
  while read -r line; do [[ $line != reach\ * ]] || tell reach "$1 ${line#reach }"; done <"$file"
}

# ---- the doctor

node::_pause() {
  common::pause 0.2
  node::_hear
}

node::_hear() { # what the doctor wrote last: its own clock, and when this node read it
  local words
  words=$(cat "$MARK" 2>/dev/null) || return 0
  if [[ $words =~ \ time=([0-9.]+)\  && ${BASH_REMATCH[1]} != "${NODE_HEARD:-}" ]]; then
    NODE_HEARD=${BASH_REMATCH[1]}
    tell heard "$NODE_HEARD $(date +%s.%N)"
  fi
}

# A hook: the last word, and a look whether it was heard.
node::_end() {
  local words last='' since=$SECONDS
  [[ -z ${DIED:-} ]] || tell died "$DIED"
  tell time "$(date +%s.%N)"
  tell end "$EXIT_CODE"
  while ((SECONDS - since < NODE_SILENCE)) && [[ -e $MARK ]]; do
    words=$(cat "$MARK" 2>/dev/null) || words=$last
    [[ $words != *" seen=$PROBE "* ]] || return 0
    if [[ $words != "$last" ]]; then last=$words since=$SECONDS; fi
    sleep 0.2
  done
  # nobody listens: nothing stays of the doctor
  for words in "${FOLDERS[@]}"; do rm -f "$words/.hab-doctor.$NONCE"*; done
  rm -rf "${DOCTOR:?}"
}
