# shellcheck shell=bash
# python.sh: the project's own virtual environments, pinned by requirements/*.txt. Sourced; needs common.sh and ROOT.

# What modules, conda and the person's own shell set for other Pythons must not reach ours, nor what it starts.
python::isolate() {
  local name
  for name in $(compgen -e PYTHON) $(compgen -e VIRTUALENV_) VIRTUAL_ENV; do unset "$name"; done
}

python::_find() { # the first Python >= 3.10 on PATH; one that doesn't start (a library of its module is missing) is told and passed over
  local candidate said code
  for candidate in ${HAB_PYTHON:+"$HAB_PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
    code=0
    said=$("$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>&1) || code=$?
    if ((code == 0)); then
      command -v "$candidate"
      return 0
    fi
    [[ -z $said ]] || ! command -v "$candidate" >/dev/null || log "$(command -v "$candidate") doesn't start (code $code: ${said##*$'\n'}): passed over"
  done
  die 2 "needs Python 3.10 or newer, found $(python3 -V 2>/dev/null || printf none): try 'module load python', or 'uv python install 3.12', then run again (HAB_PYTHON=/path/to/python3 names one outright)"
}

# Where an environment lives, for scripts and helpers alike: in $HAB_VENV_<NAME> or $HAB_VENV_DIR; else beside the code, where it can be
# written there or is whole there; else in the person's cache. (Somebody else's checkout may have some and not others.)
python::home() { # python::home NAME…: a line each
  local name base given
  for name; do
    given=${name^^}
    given=HAB_VENV_${given//-/_}
    if [[ -n ${!given:-} ]]; then
      printf '%s\n' "${!given}"
      continue
    elif [[ -n ${HAB_VENV_DIR:-} ]]; then
      base=$HAB_VENV_DIR
    elif [[ -w $ROOT ]] || python::_whole "$ROOT/.venv-$name" "$(python::_stamp "$name")"; then
      base=$ROOT
    else
      base=${XDG_CACHE_HOME:-$HOME/.cache}/hpc-agent-bench/$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)
    fi
    printf '%s/.venv-%s\n' "$base" "$name"
  done
}

# The own lists of some packages (AIDE's: torch and 260 more) pull what is never imported: they are installed without, by NAME-nodeps.txt.
python::_lists() { # python::_lists NAME: the files that say what is installed
  printf '%s\n' "$ROOT/requirements/$1.txt"
  [[ ! -f $ROOT/requirements/$1-nodeps.txt ]] || printf '%s\n' "$ROOT/requirements/$1-nodeps.txt"
}

python::_stamp() { # python::_stamp NAME: changes whenever the environment must be made anew
  local lists
  mapfile -t lists < <(python::_lists "$1")
  cat "${lists[@]}" | cksum
}

# Whether an environment was made of these requirements and is still whole: its Python starts, and finds what the stamp lists.
python::_whole() { # python::_whole VENV STAMP
  local stamp='' modules=()
  [[ -r $1/.stamp ]] || return 1
  { read -r stamp && read -ra modules; } <"$1/.stamp" || return 1
  [[ $stamp == "$2" ]] && "$1/bin/python" -I -c '
import sys
from importlib.machinery import PathFinder
sys.exit(not all(getattr(PathFinder.find_spec(name), "origin", None) for name in sys.argv[1:]))' "${modules[@]}" 2>/dev/null
}

# Sets PYTHON to the interpreter of environment NAME (core, aide, mini-swe, dev), made or mended when needed. What this process starts from
# then on imports the project's own code: not what the folder that the user stands in, or a module's PYTHONPATH, calls `helpers`.
python::ensure() { # python::ensure NAME
  local name=$1 venv stamp
  python::isolate
  venv=$(python::home "$name")
  stamp=$(python::_stamp "$name")
  # a Python that is interrupted at its very start ends as a broken one does
  trap 'exit 130' INT
  if ! python::_whole "$venv" "$stamp"; then
    python::_make "$name" "$venv" "$stamp"
  fi
  # shellcheck disable=SC2034 # the caller starts it
  PYTHON=$venv/bin/python
  # what the person typed, for its messages
  export PYTHONPATH=$ROOT PYTHONSAFEPATH=1 HAB_COMMAND=${0##*/}
}

python::_make() { # python::_make NAME VENV STAMP, one at a time
  local name=$1 venv=$2 stamp=$3 python output modules lacking asked
  mapfile -t asked < <(python::_lists "$name")
  asked[0]=$ROOT/requirements/$name.in
  python=$(python::_find)
  mkdir -p "${venv%/*}" 2>/dev/null && [[ -w ${venv%/*} ]] ||
    die 2 "can't create the virtual environment $venv: no permission. Set HAB_VENV_DIR to a folder that you can write"
  lacking=$(common::room "${venv%/*}") || die 3 "setting up $venv failed: $lacking. Or set HAB_VENV_DIR to a folder with room"
  exec {VENV_LOCK}>"$venv.lock" || die 2 "can't write $venv.lock. Set HAB_VENV_DIR to a folder that you can write"
  flock --nonblock "$VENV_LOCK" || {
    log "another command is setting up $venv: waiting for it"
    flock "$VENV_LOCK"
  }
  if python::_whole "$venv" "$stamp"; then
    exec {VENV_LOCK}>&-
    return 0
  fi
  [[ ! -e $venv/.stamp ]] || log "$venv is of older requirements, or doesn't work any more: making it anew"
  log "setting up $venv (once, a minute or two)"
  python::_spin "$venv.step"
  if ! output=$(python::_install "$name" "$venv" "$python" 2>&1); then
    python::_spun
    printf '%s\n' "$output" | tail -n 15 >&2
    lacking=$(common::room "${venv%/*}") || die 3 "setting up $venv failed: $lacking. Or set HAB_VENV_DIR to a folder with room"
    die 3 "setting up $venv failed (above). Behind a proxy or mirror, set PIP_INDEX_URL, PIP_CERT or https_proxy and run again"
  fi
  python::_spun
  # some write to the home folder when they are imported, or ask the internet for prices (litellm)
  modules=$(HOME=$venv XDG_CONFIG_HOME='' LITELLM_LOCAL_MODEL_COST_MAP=True "$venv/bin/python" -I "$ROOT/helpers/lib/environment_check.py" "${asked[@]}") ||
    die 3 "setting up $venv failed: what was installed can't be imported (above). Is $python whole? HAB_PYTHON=/path/to/python3 names another"
  printf '%s\n' "$stamp" "$modules" | common::write_atomic "$venv/.stamp" ||
    die 3 "can't write $venv/.stamp: $(common::lacking "$venv")"
  exec {VENV_LOCK}>&-
}

# At a terminal, a turning line with the step and its seconds while an environment is made. FILE holds the step; the line is gone when
# FILE is, or this shell.
python::_spin() { # python::_spin FILE
  SPIN_FILE='' SPINNER=''
  [[ -t 2 && ${TERM:-dumb} != dumb ]] || return 0
  printf 'beginning\n' 2>/dev/null >"$1" || return 0
  SPIN_FILE=$1
  python::_turn "$BASHPID" "$1" {VENV_LOCK}>&- &
  SPINNER=$!
  trap 'python::_spun; exit 130' INT
}

python::_turn() { # python::_turn PID FILE
  local marks="|/-\\" turn=0 begun=$SECONDS step
  trap '' INT # who is interrupted says so, by the file
  while kill -0 "$1" 2>/dev/null && step=$(cat "$2" 2>/dev/null); do
    printf '\r%s %s (%d s)\e[K' "${marks:turn++%4:1}" "${step:0:66}" $((SECONDS - begun)) >&2 || break
    sleep 0.2
  done
  printf '\r\e[K' >&2 || true
  rm -f "$2"
}

python::_step() { # python::_step VENV STEP
  [[ ! -f $1.step ]] || printf '%s\n' "$2" >"$1.step"
}

python::_spun() { # the line is gone before anything else is said
  [[ -n ${SPINNER:-} ]] || return 0
  rm -f "$SPIN_FILE"
  wait "$SPINNER" 2>/dev/null || true
  SPINNER=''
  trap 'exit 130' INT
}

python::_install() { # python::_install NAME VENV PYTHON
  local name=$1 venv=$2 python=$3
  rm -rf "$venv"
  python::_step "$venv" "making an environment with $python"
  python::_create "$venv" "$python" || return
  python::_step "$venv" "downloading and installing $(grep -c == "$ROOT/requirements/$name.txt") packages"
  python::_pip "$venv/bin/python" install -r "$ROOT/requirements/$name.txt" || return
  [[ ! -f $ROOT/requirements/$name-nodeps.txt ]] ||
    python::_pip "$venv/bin/python" install --no-deps -r "$ROOT/requirements/$name-nodeps.txt" || return
  # a script that lies elsewhere finds `helpers` too
  printf '%s\n' "$ROOT" >"$("$venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/hpc-agent-bench.pth"
}

# pip, told by the person's settings (PIP_* and pip.conf) where packages come from, and nothing else: `user`, `target`, `prefix`,
# `constraint` or `require-virtualenv` would put them elsewhere, or nowhere.
python::_pip() ( # python::_pip PYTHON ARGUMENTS OF pip…
  kept=' index-url extra-index-url find-links no-index trusted-host cert client-cert proxy timeout retries cache-dir no-cache-dir keyring-provider '
  python=$1 settings=() quote="['\"]"
  unset PIP_QUIET # else it doesn't list them
  while IFS='=' read -r key value; do
    [[ $key =~ ^(global|install|:env:)\. && $value == $quote*$quote ]] || continue
    key=${key#*.} value=${value:1:-1}
    key=${key/#default-timeout/timeout}
    value=${value//'\n'/ }
    [[ $kept != *" $key "* ]] || settings+=("PIP_$(tr a-z- A-Z_ <<<"$key")=$value")
    # the list is sorted: :env:, which wins, stands before global and install
  done < <("$python" -I -m pip config list | awk '/^:env:/ {last = last $0 "\n"; next} {print} END {printf "%s", last}')
  for name in $(compgen -e PIP_); do unset "$name"; done
  if ((${#settings[@]})); then export "${settings[@]}"; fi
  export PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
  exec "$python" -I -m pip "$2" -q "${@:3}"
)

python::_create() { # python::_create VENV PYTHON
  local venv=$1 python=$2
  if "$python" -I -c 'import ensurepip' 2>/dev/null; then
    "$python" -I -m venv "$venv"
  elif command -v uv >/dev/null; then
    uv venv -q --seed --python "$python" "$venv"
  elif "$python" -I -m pip --version >/dev/null 2>&1; then
    # Debian's python3 comes without ensurepip; virtualenv brings its own pip
    python::_pip "$python" install --target "$venv.tool" virtualenv || return
    PYTHONPATH=$venv.tool VIRTUALENV_CONFIG_FILE=/dev/null "$python" -s -m virtualenv -q "$venv" || return
    rm -rf "$venv.tool"
  else
    printf '%s has neither venv (Debian: apt install python3-venv), nor pip, and there is no uv on PATH: one of the three is needed\n' "$python" >&2
    return 1
  fi
}
