# python.sh: virtual environments of ours, whatever the person's shell, modules and pip.conf say.
bats_require_minimum_version 1.5.0

setup_file() { # a folder of two wheels stands in for an index
  export WHEELS=$BATS_FILE_TMPDIR/wheels
  mkdir "$WHEELS"
  python3 - "$WHEELS" <<'PY'
import pathlib, sys, zipfile

for name in ("click", "other"):
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(sys.argv[1], f"{name}-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "import json\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
PY
}

setup() {
  load common.bash
  CHECKOUT=$BATS_TEST_TMPDIR/checkout
  mkdir -p "$CHECKOUT"/{requirements,scripts_hpc} "$HOME/.config/pip"
  ln -s "$ROOT/helpers" "$CHECKOUT/helpers"
  ln -s "$ROOT/scripts_hpc/lib" "$CHECKOUT/scripts_hpc/lib"
  tee "$CHECKOUT/requirements/core.in" >"$CHECKOUT/requirements/core.txt" <<<'click==1.0'
  cat >"$CHECKOUT/start.sh" <<'S'
set -euo pipefail
ROOT=$1
source "$ROOT/scripts_hpc/lib/common.sh"
source "$ROOT/scripts_hpc/lib/python.sh"
python::ensure core
"$PYTHON" -c 'import click; print(click.__file__)'
S
  unset HAB_VENV_DIR "${!PIP_@}" "${!PYTHON@}"
  printf '[global]\nno-index = true\n[install]\nfind-links = %s\n' "$WHEELS" >"$HOME/.config/pip/pip.conf"
  VENV=$CHECKOUT/.venv-core
}

start() { try bash "$CHECKOUT/start.sh" "$CHECKOUT"; }

works() {
  expect_status 0
  [[ $output == "$VENV"/lib/*/site-packages/click/__init__.py ]] || { echo "$output" && return 1; }
}

@test "another Python's modules and pip's other targets don't reach ours; where packages come from does" {
  local module=$BATS_TEST_TMPDIR/module away=$BATS_TEST_TMPDIR/away
  # a stamp of old, written without a look at the environment, isn't believed
  mkdir -p "$VENV/bin"
  cksum <"$CHECKOUT/requirements/core.txt" >"$VENV/.stamp"
  printf '#!/bin/sh\nexit 0\n' >"$VENV/bin/python" && chmod +x "$VENV/bin/python"
  # what `module load` puts on PYTHONPATH: pip would take its click for installed
  mkdir -p "$module/click" "$module/click-1.0.dist-info" "$module/helpers"
  touch "$module/click/__init__.py" "$module/helpers/__init__.py"
  printf 'Metadata-Version: 2.1\nName: click\nVersion: 1.0\n' >"$module/click-1.0.dist-info/METADATA"
  printf 'user = true\ntarget = %s\nrequire-virtualenv = true\nquiet = 0\n' "$away" >>"$HOME/.config/pip/pip.conf"
  PYTHONPATH=$module PYTHONHOME=$module PYTHONUSERBASE=$away PYTHONSTARTUP=/nonexistent PYTHONNOUSERSITE='' PYTHON=/bin/false \
    PIP_USER=1 PIP_TARGET=$away PIP_PREFIX=$away PIP_REQUIRE_VIRTUALENV=1 PIP_CONSTRAINT=/nonexistent PIP_QUIET=1 \
    VIRTUAL_ENV=$away CONDA_PREFIX=$away start
  works
  [[ ! -e $away ]]
  [[ $(sed -n 2p "$VENV/.stamp") == click ]]
  # and a script that lies elsewhere finds this checkout's code
  [[ $(cd / && "$VENV/bin/python" -c 'import helpers; print(helpers.__file__)') == "$CHECKOUT/helpers/__init__.py" ]]
  cp -a "$VENV" "$BATS_FILE_TMPDIR/venv"
}

@test "an environment that is broken beside its stamp heals itself, one that is whole is left alone" {
  local made
  cp -a "$BATS_FILE_TMPDIR/venv" "$VENV" || start # the one of the test before, where it ran
  made=$(stat -c %i "$VENV")
  start
  works
  [[ -z $error && $(stat -c %i "$VENV") == "$made" ]]
  rm -r "$VENV"/lib/*/site-packages/click # by hand, or by a scratch folder's clean-up
  start
  works
  expect_in "doesn't work any more: making it anew" "$error"
  rm "$VENV/bin/python" && ln -s /nonexistent/python "$VENV/bin/python" # its Python was updated away
  start
  works
}

@test "what was installed and can't be imported: exit 3, what is wrong, and no stamp" {
  tee "$CHECKOUT/requirements/core.in" >"$CHECKOUT/requirements/core.txt" <<<'other==1.0'
  mkdir "$BATS_TEST_TMPDIR/wheels"
  cp "$WHEELS"/other-* "$BATS_TEST_TMPDIR/wheels"
  (cd "$BATS_TEST_TMPDIR/wheels" && mkdir other && echo 'import missing_module' >other/__init__.py && python3 -m zipfile -e other-*.whl all &&
    cp other/__init__.py all/other/ && rm other-*.whl && python3 -m zipfile -c other-1.0-py3-none-any.whl all/*)
  sed -i "s|$WHEELS|$BATS_TEST_TMPDIR/wheels|" "$HOME/.config/pip/pip.conf"
  start
  expect_status 3
  expect_in "other: ModuleNotFoundError: No module named 'missing_module'" "$error"
  expect_in "what was installed can't be imported" "$error"
  [[ ! -e $VENV/.stamp ]]
}

@test "no room for an environment is told as what it is" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  # as GNU dd was seen to say it under a quota; pip's own words vary
  printf '#!/bin/sh\necho "dd: error writing: Disk quota exceeded" >&2\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/dd"
  chmod +x "$BATS_TEST_TMPDIR/bin/dd"
  rm "$HOME/.config/pip/pip.conf"
  PIP_NO_INDEX=1 PATH=$BATS_TEST_TMPDIR/bin:$PATH start
  expect_status 3
  expect_in "setting up $VENV failed: your quota is used up" "$error"
}

@test "a module from elsewhere is not taken for the environment's own" {
  local site=$BATS_TEST_TMPDIR/site
  mkdir -p "$site"
  python3 -m zipfile -e "$WHEELS"/click-*.whl "$site"
  # it can be imported, but not from the environment that was asked for
  try python3 -c 'import sys; sys.path.insert(0, sys.argv[1]); from helpers.lib.environment_check import main; sys.exit(main(sys.argv[2:]))' \
    "$site" "$CHECKOUT/requirements/core.in"
  expect_status 1
  expect_in "it comes from $site/click/__init__.py, not from" "$error"
}

@test "a checkout of somebody else, with one environment of two: that one is used, the other lives in the person's cache, and whoever asks hears the same" {
  local other=() shared said stamp
  # rights mean nothing to root
  ((UID)) || other=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  shared=$(mktemp -d)
  cp -r "$CHECKOUT/requirements" "$shared/"
  mkdir -p "$shared/scripts_hpc" "$shared/.venv-core/bin"
  cp -r "$ROOT/scripts_hpc/lib" "$shared/scripts_hpc/"
  touch "$shared/requirements/"{aide,aide-nodeps}.txt
  ln -s "$(type -aP python3 | tail -n 1)" "$shared/.venv-core/bin/python" # not one of a folder of root
  { cksum <"$shared/requirements/core.txt" && echo json; } >"$shared/.venv-core/.stamp"
  chmod 555 "$shared"
  home() { HOME=/home/me try "${other[@]}" bash -c 'ROOT=$1; . "$ROOT/scripts_hpc/lib/python.sh"; python::home "${@:2}"' bash "$shared" "$@"; }
  home core aide
  said=$output
  # whose requirements have changed since
  echo other==1.0 >>"$shared/requirements/core.txt"
  home core
  chmod 755 "$shared"
  rm -r "$shared"
  [[ $said =~ ^"$shared/.venv-core"$'\n'(/home/me/.cache/hpc-agent-bench/[0-9]+)/.venv-aide$ && $output == "${BASH_REMATCH[1]}/.venv-core" ]]
  HAB_VENV_DIR=/envs HAB_VENV_EXPERIMENT=/mine try "$ROOT/.venv-core/bin/python" -c 'from helpers.rendering import render; print(render.venvs("core", "aide", "experiment"))'
  [[ $output == "{'core': '/envs/.venv-core', 'aide': '/envs/.venv-aide', 'experiment': '/mine'}" ]]
}

@test "an environment's stamp covers all that was installed" {
  local before
  stamp() { bash -c 'ROOT=$1; . "$ROOT/scripts_hpc/lib/python.sh"; python::_stamp "$2"' bash "$CHECKOUT" "$1"; }
  touch "$CHECKOUT/requirements/"{aide,aide-nodeps}.txt
  before=$(stamp aide)
  echo aideml==9 >"$CHECKOUT/requirements/aide-nodeps.txt"
  [[ $(stamp aide) != "$before" && $(stamp core) == "$(cksum <"$CHECKOUT/requirements/core.txt")" ]]
}

@test "a Python that doesn't start is passed over, with a word" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  # as a module's Python was seen to say it where the module isn't loaded
  cat >"$BATS_TEST_TMPDIR/bin/python3" <<'S'
#!/bin/sh
echo "$0: error while loading shared libraries: libpython3.12.so.1.0: cannot open shared object file: No such file or directory" >&2
exit 127
S
  chmod +x "$BATS_TEST_TMPDIR/bin/python3"
  ln -s "$(command -v python3)" "$BATS_TEST_TMPDIR/bin/python3.13"
  find() { bash -c 'ROOT=$1; . "$ROOT/scripts_hpc/lib/common.sh"; . "$ROOT/scripts_hpc/lib/python.sh"; python::_find' bash "$ROOT"; }
  PATH=$BATS_TEST_TMPDIR/bin:$PATH try find
  expect_status 0
  [[ $output == "$BATS_TEST_TMPDIR/bin/python3.13" ]]
  expect_in "$BATS_TEST_TMPDIR/bin/python3 doesn't start (code 127: $BATS_TEST_TMPDIR/bin/python3: error while loading shared libraries: libpython3.12.so.1.0" "$error"
  expect_in ": passed over" "$error"
}

terminal() { # terminal: start.sh at a terminal; what it showed is in the file `shown`
  cd "$BATS_TEST_TMPDIR" && TERM=xterm timeout 60 script -qfec "bash $CHECKOUT/start.sh $CHECKOUT" /dev/null >shown 2>&1 </dev/null
}

@test "at a terminal a turning line tells the step, and is gone afterwards; elsewhere there is none" {
  command -v script >/dev/null || skip 'needs script(1)'
  terminal || { cat -v shown && return 1; }
  grep -qF 'making an environment with /' shown || { cat -v shown && return 1; }
  grep -qF 'downloading and installing 1 packages (' shown || { cat -v shown && return 1; }
  # the last that is written to the line before the command's own words clears it
  [[ $(grep -aoE $'\r\e\\[K'"$VENV" shown) == $'\r\e[K'"$VENV" ]] || { cat -v shown && return 1; }
  [[ ! -e $VENV.step && -z $(pgrep -f "$CHECKOUT/start.sh") ]]
  rm -rf "$VENV"
  start
  works
  [[ $error != *$'\r'* && $error != *installing* ]]
}

@test "Ctrl-C while an environment is made: the turning line is gone, and so is all that turned it" {
  command -v script >/dev/null || skip 'needs script(1)'
  # a pip that takes for ever
  mkdir "$BATS_TEST_TMPDIR/slow" && printf '[global]\nindex-url = http://127.0.0.1:9/\nretries = 1000\n' >"$HOME/.config/pip/pip.conf"
  cd "$BATS_TEST_TMPDIR"
  : >shown
  local code=0
  # as a person types it, once the line turns
  over() { [[ -z $(pgrep -f "$CHECKOUT/start.sh") ]]; }
  { wait_for 40 grep -qF 'downloading and installing' shown && printf '\003' && wait_for 10 over; } |
    TERM=xterm timeout 60 script -qfec "bash $CHECKOUT/start.sh $CHECKOUT" /dev/null >shown 2>&1 || code=$?
  # by its own word, or by the signal
  ((code == 130)) || { printf 'code %s\n' "$code" && cat -v shown && return 1; }
  [[ $(tail -c 20 shown | tr '\r' '\n' | tail -n 1) == $'\e[K' ]] || { cat -v shown && return 1; }
  [[ ! -e $VENV.step && -z $(pgrep -f "$CHECKOUT/start.sh") ]]
}

@test "who waits for another command that makes the environment is told so" {
  exec {lock}>"$VENV.lock"
  flock "$lock"
  bash "$CHECKOUT/start.sh" "$CHECKOUT" >/dev/null 2>"$BATS_TEST_TMPDIR/said" {lock}>&- &
  wait_for 20 grep -qF "another command is setting up $VENV: waiting for it" "$BATS_TEST_TMPDIR/said"
  [[ ! -e $VENV ]]
  kill $!
  exec {lock}>&-
}
