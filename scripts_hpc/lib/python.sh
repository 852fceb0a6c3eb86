# shellcheck shell=bash
# python.sh: the project's own virtual environments, pinned by requirements/*.txt. Sourced; needs common.sh and ROOT.

python::_find() { # the first Python >= 3.10 on PATH
  local candidate
  for candidate in ${HAB_PYTHON:+"$HAB_PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  die 2 "needs Python 3.10 or newer, found $(python3 -V 2>/dev/null || printf none): try 'module load python', or 'uv python install 3.12', then run again (HAB_PYTHON=/path/to/python3 names one outright)"
}

python::_home() { # python::_home NAME: where an environment lives; beside the code where that is writable, else in the user's cache
  local name=$1 base
  if [[ -n ${HAB_VENV_DIR:-} ]]; then
    base=$HAB_VENV_DIR
  elif [[ -f $ROOT/.venv-$name/.stamp || -w $ROOT ]]; then
    base=$ROOT
  else
    base=${XDG_CACHE_HOME:-$HOME/.cache}/hpc-agent-bench/$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)
  fi
  printf '%s/.venv-%s\n' "$base" "$name"
}

python::_stamp() { # python::_stamp NAME: changes whenever the environment must be made anew
  cksum <"$ROOT/requirements/$1.txt"
}

# Sets PYTHON to the interpreter of environment NAME (core, aide, dev), made or updated when needed.
python::ensure() { # python::ensure NAME
  local name=$1 venv stamp
  venv=$(python::_home "$name")
  stamp=$(python::_stamp "$name")
  PYTHON=$venv/bin/python
  [[ -x $PYTHON && -f $venv/.stamp && $(<"$venv/.stamp") == "$stamp" ]] && return 0
  python::_make "$name" "$venv" "$stamp"
}

python::_make() { # python::_make NAME VENV STAMP, one at a time
  local name=$1 venv=$2 stamp=$3 python output
  python=$(python::_find)
  mkdir -p "${venv%/*}" 2>/dev/null && [[ -w ${venv%/*} ]] ||
    die 2 "can't create the virtual environment $venv: no permission. Set HAB_VENV_DIR to a folder that you can write"
  exec {PYTHON_LOCK}>"$venv.lock" || die 2 "can't write $venv.lock. Set HAB_VENV_DIR to a folder that you can write"
  flock "$PYTHON_LOCK"
  if [[ -f $venv/.stamp && $(<"$venv/.stamp") == "$stamp" ]]; then
    exec {PYTHON_LOCK}>&-
    return 0
  fi
  log "setting up $venv (once, a minute or two)"
  if ! output=$(python::_install "$name" "$venv" "$python" 2>&1); then
    printf '%s\n' "$output" | tail -n 15 >&2
    die 3 "setting up $venv failed (above). Free disk there: $(df -Ph "${venv%/*}" | awk 'NR==2 {print $4}'). Behind a proxy or mirror, set PIP_INDEX_URL, PIP_CERT or https_proxy and run again"
  fi
  printf '%s\n' "$stamp" >"$venv/.stamp"
  exec {PYTHON_LOCK}>&-
}

python::_install() { # python::_install NAME VENV PYTHON
  local name=$1 venv=$2 python=$3
  rm -rf "$venv"
  python::_create "$venv" "$python" || return
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$ROOT/requirements/$name.txt" || return
  # AIDE's own list of requirements pulls torch and 260 packages that its loop never imports
  [[ $name != aide ]] ||
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps -r "$ROOT/requirements/aide-nodeps.txt"
}

python::_create() { # python::_create VENV PYTHON
  local venv=$1 python=$2
  if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv"
  elif command -v uv >/dev/null; then
    uv venv -q --seed --python "$python" "$venv"
  elif "$python" -m pip --version >/dev/null 2>&1; then
    # Debian's python3 comes without ensurepip; virtualenv brings its own pip
    "$python" -m pip install -q --disable-pip-version-check --target "$venv.tool" virtualenv || return
    PYTHONPATH=$venv.tool "$python" -m virtualenv -q "$venv" || return
    rm -rf "$venv.tool"
  else
    printf '%s has neither venv (Debian: apt install python3-venv), nor pip, and there is no uv on PATH: one of the three is needed\n' "$python" >&2
    return 1
  fi
}
