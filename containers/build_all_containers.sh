#!/usr/bin/env bash
# Usage: containers/build_all_containers.sh [--site NAME] [--only IMAGE]… [--task TASK]… [--task-list FILE] [--force] [--set KEY=VALUE]…
#
# Builds the container images of a site, one after the other, into paths.containers: mlebench-env (grading server and replay
# model), aide (the agents), experiment (the experiment agent, JupyterLab), mini-swe (the agent for repositories), vllm (all models),
# prepare (mle-bench's data), repository (repository tasks that name no image). Run it on a machine that reaches the internet, most often
# a login node. Images that are up to date are left alone. If one fails, the others are built all the same. It asks nothing.
#
#   --site NAME        a name in site-config/ or the path of a YAML file; default $HPC_SITE, else by host name
#   --only IMAGE       only this image (repeatable)
#   --task TASK        only the image that this task runs in (repeatable): an id, or the path of its folder
#   --task-list FILE   the same for each task of a file, one a line
#   --force            build even what is up to date
#   --set KEY=VALUE    override a key of the site, e.g. --set container.fakeroot=false (repeatable)
#   -h, --help         this text
#
# A task runs in the image that it names (`image`), else in the one that its Dockerfile makes, which tasks with equal Dockerfiles and
# files share: environments/DIGEST.sif. Only Dockerfiles of one stage are built, without ENTRYPOINT, VOLUME, HEALTHCHECK, ONBUILD and
# USER. What they are FROM comes from where container.bases says. A second one that builds an image at the same time waits for it.
#
# An image is up to date if it was built from the same definition, requirements, base image and mle-bench. Base images, pip index, proxy,
# certificates and fakeroot are values of the site (container.*, environment.*). If the site has none, the variables PIP_INDEX_URL, PIP_CERT
# or SSL_CERT_FILE, and http(s)_proxy of the environment are used. None of these values stays in an image.
#
# Environment
#   MLEBENCH_SOURCE    where mle-bench comes from: by default its pinned commit from GitHub, with the leaderboards from git-LFS.
#                      An https:// address is a mirror of that repository, a folder is a checkout of your own (`git lfs pull`
#                      in it first: without leaderboards there are scores but no medals), `none` makes images that grade only
#                      this project's own tasks. The labels of an image, and /opt/hab-image.json in it, say what it holds.
#   APPTAINER_TMPDIR   where images are unpacked while they are built; else TMPDIR, else /tmp. Not a network file system.
#   APPTAINER_CACHEDIR keeps the downloaded layers of base images; without it they are deleted at the end.
#
# For each image: NAME.sif, NAME.sif.sha256, NAME.sif.build (what it was built from), NAME.def, NAME.log.
# Exit codes: 0 all are built or up to date; 2 usage or configuration; 3 an image failed; 130 interrupted.
set -euo pipefail
ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts_hpc/lib/common.sh
source "$ROOT/scripts_hpc/lib/common.sh"
common::check_shell

build::current() { # build::current IMAGE: sets NOTE to what was noted when it was built
  local made_of='' target=$IMAGES/$1.sif
  NOTE=''
  [[ -f $target && -f $target.sha256 && -f $target.build ]] || return 1
  { read -r made_of && read -r NOTE; } <"$target.build" || true
  [[ $made_of == "${FINGERPRINTS[$1]}" ]]
}

build::free_gb() { df -Pk "$1" | awk 'NR == 2 {print int($4 / 1048576)}'; }

build::lacking() { # why nothing can be written, where that is so
  local folder said
  for folder in "$TEMPORARY" "$IMAGES"; do
    said=$(common::room "$folder") || {
      printf 'no room in %s: %s' "$folder" "$said"
      [[ $folder != "$TEMPORARY" ]] || printf ' (or set APPTAINER_TMPDIR to another disk)'
      return
    }
  done
}

build::room() { # build::room IMAGE: sets NOTE and fails when there isn't room enough for it
  local folder free
  NOTE=$(build::lacking)
  [[ -z $NOTE ]] || return 1
  for folder in "$TEMPORARY" "$IMAGES"; do
    free=$(build::free_gb "$folder")
    ((free < GIGABYTES[$1])) || continue
    NOTE="disk: needs ${GIGABYTES[$1]} GB in $folder, $free GB are free"
    [[ $folder != "$TEMPORARY" ]] || NOTE+=" (set APPTAINER_TMPDIR to a larger disk)"
    return 1
  done
}

build::steps() { # build::steps IMAGE PART_FILE, in a process group of its own
  local flags=() options=(${SITE_OPTIONS[@]+"${SITE_OPTIONS[@]}"}) output
  ((FAKEROOT == 0)) || flags+=(--fakeroot)
  [[ -z ${DOCKERFILES[$1]:-} ]] || options+=(--dockerfile "${DOCKERFILES[$1]}")
  output=$("$PYTHON" -m helpers.images.build stage "$1" --folder "$FOLDER/mnt" ${options[@]+"${options[@]}"} 2>&1) || {
    printf '%s\n' "${output//error: /hab: }"
    return 3
  }
  [[ -z $output ]] || printf '%s\n' "$output"
  exec "$RUNTIME" build ${flags[@]+"${flags[@]}"} --bind "$FOLDER/mnt:/mnt:ro" "$2" "$IMAGES/$1.def"
}

build::keep() { # build::keep IMAGE PART_FILE: the .build file last, as it says that all the others are complete
  local target=$IMAGES/$1.sif sum
  [[ -s $2 ]] || return 1
  sum=$(sha256sum "$2") || return
  rm -f "$target.build" "$target.sha256" &&
    mv -f "$2" "$target" &&
    printf '%s  %s\n' "${sum%% *}" "${1##*/}.sif" | common::write_atomic "$target.sha256" &&
    printf '%s\n%s\n' "${FINGERPRINTS[$1]}" "$(<"$FOLDER/mnt/${1##*/}.note")" | common::write_atomic "$target.build"
}

build::cause() { # build::cause LOG: one sentence for what is known to go wrong
  local text
  # what an errno's text hides comes first
  if "$PYTHON" -m helpers.scheduler.container_faults "$1"; then return 0; fi
  text=$(tail -n 200 "$1")
  case ${text,,} in
    *'no space left on device'* | *'disk quota exceeded'*)
      text=$(build::lacking)
      [[ -z $text ]] || { printf '%s' "$text" && return; }
      if grep -qi 'disk quota exceeded' "$1"; then printf 'your quota was used up while it was built'; else printf 'disk full'; fi
      printf ': %s GB free in %s (APPTAINER_TMPDIR), %s GB in %s' "$(build::free_gb "$TEMPORARY")" "$TEMPORARY" "$(build::free_gb "$IMAGES")" "$IMAGES"
      ;;
    *'hab: '*) text=$(grep -o 'hab: .*' "$1" | tail -n 1) && printf '%s' "${text#hab: }" ;;
    *'certificate verify failed'* | *x509:*) printf "certificates: set environment.ca_bundle to your site's bundle" ;;
    *'429'*'too many requests'* | *toomanyrequests*) printf 'the registry limits downloads: try later, or set container.*_base to a mirror' ;;
    *'unauthorized'* | *'authentication required'* | *'denied: '* | *'manifest unknown'*) printf "the registry has no such image for you: check container.*_base" ;;
    *'could not resolve'* | *'name resolution'* | *'no such host'* | *'network is unreachable'* | *'connection refused'* | *'no route to host'* | \
      *'i/o timeout'* | *'max retries exceeded'* | *newconnectionerror* | *'timed out'* | *'connection reset'*)
      printf 'no network: run this where the internet can be reached, or set environment.proxy, container.pip_index_url and container.*_base (a mirror, or a local image)'
      ;;
    *'no matching distribution'*) printf 'the package index lacks a pinned version: check container.pip_index_url' ;;
    *) printf 'see %s' "$1" ;;
  esac
}

# Sets LOCK, held while the image is built. Fails where it had to wait for another process, and that one has built the image.
build::lock() { # build::lock IMAGE LOG
  exec {LOCK}>>"$2"
  if flock --nonblock "$LOCK" 2>/dev/null; then
    :
  elif (($? == 1)); then
    log "$1 is being built by another process (log: $2): waiting for it"
    flock "$LOCK"
    ! build::current "$1" || return
  else # a file system without locks: two at once may do the same work
    return 0
  fi
  rm -f "${2%/*}/.${1##*/}".*.part.sif # of one that was killed
}

build::image() { # build::image IMAGE: sets RESULT and NOTE
  local image=$1 log=$IMAGES/$1.log code=0
  RESULT=FAILED
  mkdir -p "${log%/*}" 2>/dev/null && [[ -w ${log%/*} ]] || { NOTE="can't write to ${log%/*}" && return; }
  build::room "$image" || return 0
  build::lock "$image" "$log" || { RESULT='up to date' && exec {LOCK}>&- && return; }
  log "building $image (log: $log)"
  PART=${log%/*}/.${image##*/}.$$.part.sif
  set -m
  build::steps "$image" "$PART" </dev/null >"$log" 2>&1 {LOCK}>&- &
  BUILDER=$!
  set +m
  wait "$BUILDER" || code=$?
  BUILDER=''
  if ((code == 0)) && build::keep "$image" "$PART"; then
    RESULT=built NOTE=$(<"$FOLDER/mnt/${image##*/}.note")
  else
    rm -f "$PART"
    NOTE=$(build::cause "$log")
    log "$image failed; the last lines of $log:"
    tail -n 15 "$log" | sed 's/^/    /' >&2
  fi
  exec {LOCK}>&-
}

# shellcheck disable=SC2329 # on_exit calls it
build::cleanup() {
  [[ -z $BUILDER ]] || common::end_group "$BUILDER" 15
  rm -f ${PART:+"$PART"}
  rm -rf "$FOLDER" || log "could not remove all of $FOLDER: look at it"
}

build::options() { # build::options ARGUMENT…: sets ONLY, SITE_OPTIONS and FORCE
  ONLY=() SITE_OPTIONS=() TASK_OPTIONS=() FORCE=0
  while (($#)); do
    case $1 in
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
      --site | --set | --only | --task | --task-list)
        (($# >= 2)) || die 2 "$1 needs a value (--help tells which)"
        case $1 in
          --only) ONLY+=("$2") ;;
          --task*) TASK_OPTIONS+=("$1" "$2") ;;
          *) SITE_OPTIONS+=("$1" "$2") ;;
        esac
        shift
        ;;
      --force) FORCE=1 ;;
      -h | --help) common::usage "${BASH_SOURCE[0]}" && exit 0 ;;
      *) die 2 "unknown argument $1 (--help lists them)" ;;
    esac
    shift
  done
}

build::plan() { # sets NAMES, the images to look at, and what helpers/images/build.py says of the site and of each image
  local plan image
  # shellcheck source=scripts_hpc/lib/python.sh
  source "$ROOT/scripts_hpc/lib/python.sh"
  python::ensure core
  declare -gA FINGERPRINTS=() GIGABYTES=() DOCKERFILES=()
  WANTED=()
  plan=$("$PYTHON" -m helpers.images.build plan ${SITE_OPTIONS[@]+"${SITE_OPTIONS[@]}"} ${TASK_OPTIONS[@]+"${TASK_OPTIONS[@]}"})
  eval "$plan"
  if [[ $RUNTIME == none ]]; then
    printf 'site %s runs without containers (container.runtime: none): nothing to build\n' "$SITE"
    exit 0
  fi
  mapfile -t NAMES < <(printf '%s\n' "${!FINGERPRINTS[@]}" | sort)
  for image in ${ONLY[@]+"${ONLY[@]}"}; do
    [[ -n ${FINGERPRINTS[$image]:-} ]] || die 2 "--only $image: there is no such image. There are: ${NAMES[*]}"
  done
  if ((${#ONLY[@]} || ${#TASK_OPTIONS[@]})); then NAMES=(${ONLY[@]+"${ONLY[@]}"} ${WANTED[@]+"${WANTED[@]}"}); fi
  if ((${#NAMES[@]} == 0)); then
    printf 'these tasks run in images that are there, and none of them is built here: nothing to build\n'
    exit 0
  fi
}

build::folders() { # sets TEMPORARY, the disk for temporary files, and FOLDER, ours on it
  local prefix=${RUNTIME^^}
  command -v "$RUNTIME" >/dev/null ||
    die 3 "$RUNTIME is not on PATH: try 'module load ${MODULES:-$RUNTIME}' first, or run this on a machine that has it (container.runtime of site $SITE)"
  mkdir -p "$IMAGES" 2>/dev/null && [[ -w $IMAGES ]] || die 3 "can't write to $IMAGES (paths.containers of site $SITE)"
  TEMPORARY=${APPTAINER_TMPDIR:-${SINGULARITY_TMPDIR:-${TMPDIR:-/tmp}}}
  [[ $TEMPORARY != *[:,]* ]] || die 2 "'$TEMPORARY' can't be bound into a container, for its ':' or ',': set APPTAINER_TMPDIR to another folder"
  FOLDER=$(mktemp -d "$TEMPORARY/hab-build.XXXXXX") || die 3 "can't make a folder in $TEMPORARY: set APPTAINER_TMPDIR to one that you can write"
  on_exit build::cleanup
  trap 'exit 130' INT TERM
  mkdir "$FOLDER/mnt" "$FOLDER/tmp" "$FOLDER/cache"
  # by default the runtime keeps the layers of base images, gigabytes of them, in the home folder
  local -n cache=${prefix}_CACHEDIR
  export "${prefix}_TMPDIR=$FOLDER/tmp" "${prefix}_CACHEDIR=${cache:-$FOLDER/cache}"
}

build::main() {
  local image size started failed=0 rows=() width=13
  BUILDER='' PART=''
  build::options "$@"
  build::plan
  build::folders
  for image in "${NAMES[@]}"; do
    started=$SECONDS
    if ((! FORCE)) && build::current "$image"; then RESULT='up to date'; else build::image "$image"; fi
    [[ $RESULT != FAILED ]] || failed=1
    size=-
    [[ ! -f $IMAGES/$image.sif ]] || size=$(du -h --apparent-size "$IMAGES/$image.sif" | cut -f1)
    ((${#image} <= width)) || width=${#image}
    rows+=("$(printf '%s %-11s %6s %8d  %s' "$image" "$RESULT" "$size" $((SECONDS - started)) "$NOTE")")
  done
  printf "%-${width}s %-11s %6s %8s\\n" IMAGE RESULT SIZE SECONDS
  for image in "${rows[@]}"; do printf "%-${width}s %s\\n" "${image%% *}" "${image#* }"; done
  ((failed == 0)) || exit 3
  # not beyond this line: bash reads a script as it runs it, and a `git pull` may change it meanwhile
  exit 0
}

build::main "$@"
