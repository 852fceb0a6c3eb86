# build_all_containers.sh against an Apptainer that fails as told.
bats_require_minimum_version 1.5.0

setup() {
  load ../common.bash
  FAKE=$BATS_TEST_TMPDIR/fake
  IMAGES=$BATS_TEST_TMPDIR/images
  BASE=$BATS_TEST_TMPDIR/base.sif
  TMPDIR=$BATS_TEST_TMPDIR/tmp
  mkdir -p "$FAKE" "$TMPDIR" "$BATS_TEST_TMPDIR/bin"
  ln -s "$ROOT/tests/containers/apptainer" "$BATS_TEST_TMPDIR/bin/apptainer"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
  export FAKE TMPDIR PATH
  unset APPTAINER_TMPDIR SINGULARITY_TMPDIR APPTAINER_CACHEDIR APPTAINER_BIND PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE PIP_INDEX_URL
  unset http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY
  echo base >"$BASE"
  make_site local apptainer
  sed -i "s|^container: .*|container: {runtime: apptainer, python_base: $BASE}|" "$SITE_FILE"
  CHECKOUT=$BATS_TEST_TMPDIR/mle-bench
  mkdir -p "$CHECKOUT/mlebench/competitions/"{a,b}/ "$CHECKOUT/experiments/splits" "$CHECKOUT/runs" "$CHECKOUT/mlebench/__pycache__"
  touch "$CHECKOUT/"{pyproject.toml,README.md,mlebench/registry.py,experiments/splits/low.txt,runs/big.csv,mlebench/__pycache__/x.pyc}
  touch "$CHECKOUT/mlebench/competitions/"{a,b}/config.yaml
  board a && board b
  export MLEBENCH_SOURCE=$CHECKOUT
}

teardown() {
  local pid
  for pid in ${SERVER:-} $(cat "$FAKE/pids" 2>/dev/null); do kill "$pid" 2>/dev/null || true; done
}

board() { printf 'score,date\n0.9%s,2020\n' "$1" >"$CHECKOUT/mlebench/competitions/$1/leaderboard.csv"; }

pointer() { # pointer COMPETITION: its leaderboard as git-LFS leaves it; the true one becomes an object of the fake GitHub
  local file=$CHECKOUT/mlebench/competitions/$1/leaderboard.csv sum
  sum=$(sha256sum <"$file" | cut -d' ' -f1)
  mkdir -p "$FAKE/lfs"
  cp "$file" "$FAKE/lfs/$sum"
  printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n' "$sum" "$(wc -c <"$FAKE/lfs/$sum")" >"$file"
}

github() { # a GitHub on the loopback becomes where mle-bench comes from
  python3 "$ROOT/tests/containers/fake_github.py" "$FAKE" "$CHECKOUT" >"$FAKE/github.log" 2>&1 3>&- &
  SERVER=$!
  while [[ ! -s $FAKE/port ]]; do sleep 0.02; done
  MLEBENCH_SOURCE=http://127.0.0.1:$(<"$FAKE/port")/openai/mle-bench
}

build() { try "$ROOT/containers/build_all_containers.sh" --site "$SITE_FILE" "$@"; }

calls() { # the images that were built since the last call, in one line
  sort "$FAKE/calls" 2>/dev/null | sed 's/.* //' | xargs
  rm -f "$FAKE/calls"
}

row() { # row IMAGE: its line of the table, blanks squeezed
  grep "^$1 " <<<"$output" | tr -s ' '
}

nothing_left() { # no temporary files, whatever happened
  [[ -z $(ls -A "$TMPDIR") ]] || { ls -A "$TMPDIR" && return 1; }
  [[ -z $(find "$IMAGES" -name '.*' -type f) ]]
}

@test "--help is the header, without Python" {
  HAB_PYTHON=/nonexistent HAB_VENV_DIR=/nonexistent try "$ROOT/containers/build_all_containers.sh" --site x --help
  expect_status 0
  expect_in 'Usage: containers/build_all_containers.sh' "$output"
  expect_in MLEBENCH_SOURCE "$output"
  expect_in 'Exit codes: 0' "$output"
  [[ $output != *'set -euo'* && -z $error ]]
}

@test "an unknown option, image or site, a missing value: exit 2, and what there is" {
  build --frobnicate
  expect_status 2
  expect_in 'unknown argument --frobnicate' "$error"
  build --only
  expect_status 2
  expect_in '--only needs a value' "$error"
  build --only aide --only vlm
  expect_status 2
  expect_in '--only vlm: there is no such image. There are: aide experiment mini-swe mlebench-env prepare repository vllm' "$error"
  try "$ROOT/containers/build_all_containers.sh" --site nowhere
  expect_status 2
  expect_in "site 'nowhere'" "$error"
  build --set container.bogus=1
  expect_status 2
  expect_in 'container.bogus: unknown key' "$error"
  [[ -z $(calls) ]]
}

@test "a site without containers: nothing to build, exit 0" {
  build --set container.runtime=none
  expect_status 0
  expect_in 'nothing to build' "$output"
  [[ -z $(calls) ]]
}

@test "no runtime on PATH: exit 3, and the modules of the site" {
  PATH=/usr/bin:/bin build --set container.runtime=singularity --set 'environment.modules=[singularity/4]'
  expect_status 3
  expect_in "singularity is not on PATH: try 'module load singularity/4' first" "$error"
}

@test "a folder for images that can't be written: exit 3" {
  rmdir "$IMAGES" && touch "$IMAGES"
  build --only aide
  expect_status 3
  expect_in "can't write to $IMAGES (paths.containers of site here)" "$error"
  nothing_left
}

@test "a certificate bundle that isn't there, and an MLEBENCH_SOURCE that is none: exit 2 before anything is built" {
  build --set environment.ca_bundle=/nonexistent.pem
  expect_status 2
  expect_in 'environment.ca_bundle of site here: there is no file /nonexistent.pem' "$error"
  MLEBENCH_SOURCE=$BATS_TEST_TMPDIR build
  expect_status 2
  expect_in "MLEBENCH_SOURCE=$BATS_TEST_TMPDIR: no checkout of mle-bench (there is no pyproject.toml)" "$error"
  [[ -z $(calls) ]]
}

@test "all images: table, hashes, no temporary files" {
  build < <(yes)
  expect_status 0
  [[ $(head -n 1 <<<"$output" | tr -s ' ') == 'IMAGE RESULT SIZE SECONDS' && $(wc -l <<<"$output") == 8 ]]
  [[ $(row aide) =~ ^aide\ built\ [0-9]+\ [0-9]+\ *$ ]]
  [[ $(cat "$FAKE/calls") == *'build --fakeroot aide'* ]]
  [[ $(calls) == 'aide experiment mini-swe mlebench-env prepare repository vllm' ]]
  (cd "$IMAGES" && sha256sum --check --quiet ./*.sha256)
  nothing_left
}

@test "what is up to date is left alone, until something that it is made of changes" {
  build
  expect_status 0
  calls
  build
  expect_status 0
  [[ $(row vllm) == 'vllm up to date '* && -z $(calls) ]]

  build --force --only aide
  [[ $(row aide) == 'aide built '* && $(calls) == aide ]]
  rm "$IMAGES/vllm.sif.sha256" "$IMAGES/aide.sif"
  build
  [[ $(calls) == 'aide vllm' ]]
  # another site, with the same folder of images
  cp "$SITE_FILE" "${SITE_FILE%.yaml}-too.yaml"
  try "$ROOT/containers/build_all_containers.sh" --site "${SITE_FILE%.yaml}-too.yaml"
  expect_status 0
  [[ -z $(calls) ]]
  echo newer >>"$BASE"
  build
  [[ $(calls) == 'aide experiment mini-swe mlebench-env prepare repository' ]]
  touch "$CHECKOUT/mlebench/more.py"
  build
  [[ $(calls) == 'mlebench-env prepare' ]]
  build --set 'container.vllm_packages=[vllm==1.2]'
  [[ $(calls) == vllm ]]
}

@test "a requirement that changes" {
  mkdir "$BATS_TEST_TMPDIR/checkout"
  cp -r "$ROOT/"{containers,helpers,requirements,scripts_hpc,site-config,templates} "$BATS_TEST_TMPDIR/checkout/"
  ln -s "$ROOT/.venv-core" "$BATS_TEST_TMPDIR/checkout/"
  again() { try "$BATS_TEST_TMPDIR/checkout/containers/build_all_containers.sh" --site "$SITE_FILE"; }
  again
  calls
  echo '# newer' >>"$BATS_TEST_TMPDIR/checkout/requirements/agent-packages.txt"
  again
  [[ $(calls) == aide ]]
  echo '# newer' >>"$BATS_TEST_TMPDIR/checkout/requirements/grading.txt"
  again
  [[ $(calls) == mlebench-env ]]
}

@test "a line with # counts where it is part of what the image holds, not in the comments at the top" {
  try "${HAB_CORE_PYTHON:-$ROOT/.venv-core/bin/python}" -c '
from helpers.images.build import fingerprint
top, body = "Bootstrap: docker\nFrom: x\n", "\n%%post\n  cat >/opt/x <<END\n%s\nEND\n"
made = [fingerprint(top + comment + body % line, "none") for comment, line in (("", "# a"), ("# here\n", "# a"), ("", "# b"))]
print(made[0] == made[1], made[0] == made[2])'
  expect_status 0
  [[ $output == "True False" ]]
}

@test "a failure: the others are built, the old image stays, exit 3 with the cause" {
  build --only aide
  expect_status 0
  local before
  before=$(<"$IMAGES/aide.sif")
  echo 'echo half >"$PART"; echo "ERROR: No matching distribution found for x==1" >&2; exit 255' >"$FAKE/do-aide"
  build --force --only aide --only vllm
  expect_status 3
  [[ $(row aide) == 'aide FAILED '*'the package index lacks a pinned version: check container.pip_index_url' ]]
  [[ $(row vllm) == 'vllm built '* ]]
  expect_in "aide failed; the last lines of $IMAGES/aide.log" "$error"
  expect_in 'No matching distribution' "$error"
  [[ $(<"$IMAGES/aide.sif") == "$before" ]]
  (cd "$IMAGES" && sha256sum --check --quiet ./*.sha256)
  nothing_left
  rm "$FAKE/do-aide"
  build --only aide
  [[ $(row aide) == 'aide up to date '* ]]
}

@test "a build that ends well without an image is a failure" {
  echo 'exit 0' >"$FAKE/do-aide"
  build --only aide
  expect_status 3
  [[ $(row aide) == 'aide FAILED '*"see $IMAGES/aide.log" && ! -e $IMAGES/aide.sif ]]
  echo ': >"$PART"; exit 0' >"$FAKE/do-aide"
  build --only aide
  expect_status 3
  [[ ! -e $IMAGES/aide.sif ]]
  nothing_left
}

@test "likely causes" {
  source "$ROOT/scripts_hpc/lib/common.sh"
  source <(sed -n '/^build::cause()/,/^}/p; /^build::lacking()/,/^}/p; /^build::free_gb()/p' "$ROOT/containers/build_all_containers.sh")
  TEMPORARY=$TMPDIR PYTHON=${HAB_CORE_PYTHON:-$ROOT/.venv-core/bin/python}
  cause() {
    printf 'INFO: Starting build...\n%s\nFATAL: While performing build\n' "$1" >"$BATS_TEST_TMPDIR/log"
    expect_in "$2" "$(build::cause "$BATS_TEST_TMPDIR/log")"
  }
  cause "FATAL: could not use fakeroot: no mapping entry found in /etc/subuid for u" 'there is no fakeroot for you on this node'
  cause 'ERROR  : Failed to create user namespace: No space left on device' 'user namespaces are off or used up on this node'
  cause 'write /tmp/x: no space left on device' "disk full: "
  cause 'OSError: [Errno 122] Disk quota exceeded' 'your quota was used up while it was built: '
  cause 'OSError: [Errno 122] Disk quota exceeded' "GB free in $TMPDIR (APPTAINER_TMPDIR)"
  cause 'initializing source docker://x: dial tcp: lookup registry-1.docker.io: no such host' 'no network'
  cause "WARNING: Retrying after NewConnectionError(': [Errno 111] Connection refused')" 'no network'
  cause 'x509: certificate signed by unknown authority' 'environment.ca_bundle'
  cause 'toomanyrequests: You have reached your pull rate limit' 'the registry limits downloads'
  cause 'reading manifest v0 in docker.io/x: manifest unknown' 'check container.*_base'
  cause 'hab: the base image x has no python3' 'the base image x has no python3'
  cause 'something else' "see $BATS_TEST_TMPDIR/log"
}

@test "a base image that isn't there is named" {
  rm "$BASE"
  build --only aide
  expect_status 3
  expect_in "the base image $BASE doesn't exist: container.*_base of site here" "$(row aide)"
}

@test "a quota that is used up, although df shows room: nothing is started" {
  printf '#!/bin/sh\ncase $(readlink /proc/$$/fd/1) in "%s/"*) echo "dd: error writing: Disk quota exceeded" >&2; exit 1;; esac\nexec /bin/dd "$@"\n' \
    "$IMAGES" >"$BATS_TEST_TMPDIR/bin/dd"
  chmod +x "$BATS_TEST_TMPDIR/bin/dd"
  build --only aide
  expect_status 3
  [[ $(row aide) == *"no room in $IMAGES: your quota is used up (the disk itself has "*" free): delete something of yours, or ask for more" ]]
}

@test "a disk that is too small: nothing is started" {
  printf '#!/bin/sh\nprintf "h\\nd 9 9 %%s 1%% /\\n" 20000000\n' >"$BATS_TEST_TMPDIR/bin/df"
  chmod +x "$BATS_TEST_TMPDIR/bin/df"
  build --only vllm --only aide
  expect_status 3
  [[ $(row vllm) == *"disk: needs 30 GB in $TMPDIR, 19 GB are free (set APPTAINER_TMPDIR to a larger disk)" ]]
  [[ $(calls) == aide ]]
}

@test "Ctrl-C: exit 130, nothing goes on, nothing is left" {
  local pid code=0 name
  echo 'echo half >"$PART"; sleep 301 & echo $! >"$FAKE/pids"; wait' >"$FAKE/do-aide"
  set -m # a background process of a shell without job control ignores SIGINT
  "$ROOT/containers/build_all_containers.sh" --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  pid=$!
  set +m
  until [[ -s $FAKE/pids ]] || ! kill -0 "$pid"; do sleep 0.05; done
  kill -INT "$pid"
  wait "$pid" || code=$?
  [[ $code == 130 ]]
  for _ in {1..100}; do # a zombie keeps its name until init collects it
    name=$(cat "/proc/$(<"$FAKE/pids")/comm" 2>/dev/null || true)
    [[ $name == sleep ]] || break
    sleep 0.1
  done
  [[ $name != sleep ]]
  nothing_left
  [[ $(calls) == aide && ! -e $IMAGES/aide.sif ]]
}

@test "index, proxy and certificates reach the build, and neither the definition, the log, the label nor the command line" {
  echo PEM-DATA >"$BATS_TEST_TMPDIR/ca.pem"
  build --only mlebench-env --set environment.ca_bundle="$BATS_TEST_TMPDIR/ca.pem" --set "environment.proxy=http://me:it's@proxy:1" \
    --set container.pip_index_url=https://me:hush@index/simple --set 'environment.no_proxy=[.site]'
  expect_status 0
  [[ $(<"$FAKE/mnt-mlebench-env/ca.pem") == PEM-DATA ]]
  (
    . "$FAKE/mnt-mlebench-env/env.sh"
    [[ $https_proxy == "http://me:it's@proxy:1" && $http_proxy == "$https_proxy" && $no_proxy == .site,localhost,127.0.0.1 ]]
    [[ $PIP_CERT == /mnt/ca.pem && $SSL_CERT_FILE == /mnt/ca.pem ]]
  )
  grep -qx 'index-url = https://me:hush@index/simple' "$FAKE/mnt-mlebench-env/pip.conf"
  run ! grep -rE "hush|it's@|PEM-DATA" "$IMAGES" "$FAKE/argv" "$FAKE/mnt-mlebench-env/"*.{json,labels}
  [[ $error != *hush* ]]
}

@test "where the site sets none, the caller's own index, proxy and certificates are used" {
  echo mine >"$BATS_TEST_TMPDIR/my.pem"
  PIP_INDEX_URL=https://mirror/simple HTTPS_PROXY=http://p:2 SSL_CERT_FILE=$BATS_TEST_TMPDIR/my.pem build --only aide
  expect_status 0
  [[ $(<"$FAKE/mnt-aide/ca.pem") == mine ]]
  grep -qx 'index-url = https://mirror/simple' "$FAKE/mnt-aide/pip.conf"
  grep -qx 'export https_proxy=http://p:2' "$FAKE/mnt-aide/env.sh"
  build --force --only aide
  [[ ! -s $FAKE/mnt-aide/env.sh && ! -s $FAKE/mnt-aide/pip.conf && ! -e $FAKE/mnt-aide/ca.pem ]]
}

@test "mle-bench from a checkout: what images need of it, and its leaderboards counted" {
  build --only mlebench-env
  expect_status 0
  [[ $(row mlebench-env) =~ [0-9]\ $ ]]
  [[ -f $FAKE/mnt-mlebench-env/mle-bench/mlebench/registry.py && -f $FAKE/mnt-mlebench-env/mle-bench/experiments/splits/low.txt ]]
  [[ ! -e $FAKE/mnt-mlebench-env/mle-bench/runs && ! -e $FAKE/mnt-mlebench-env/mle-bench/mlebench/__pycache__ ]]
  grep -q '"competitions": 2, "leaderboards": 2' "$FAKE/mnt-mlebench-env/mlebench-env.json"
  pointer a
  build --only mlebench-env
  [[ $(row mlebench-env) == *' built '*'no medals: 1 leaderboards of mle-bench are git-LFS pointers' ]]
  grep -qx 'hpc-agent-bench.leaderboards 1' "$FAKE/mnt-mlebench-env/mlebench-env.labels"
  build --only mlebench-env
  [[ $(row mlebench-env) == *' up to date '*'no medals: 1 leaderboards'* ]]
}

@test "images without mle-bench are made only when that is said, and say so" {
  MLEBENCH_SOURCE=none build --only mlebench-env
  expect_status 0
  [[ $(row mlebench-env) == *'without mle-bench (MLEBENCH_SOURCE=none)' ]]
  grep -q '"mlebench": null' "$FAKE/mnt-mlebench-env/mlebench-env.json"
  [[ -e $FAKE/mnt-mlebench-env/mle-bench.none && ! -e $FAKE/mnt-mlebench-env/mle-bench ]]
}

@test "an image doesn't come out without mle-bench because /mnt happens to lack it" {
  build --only mlebench-env
  step() { # the lines of %post that install mle-bench, with FOLDER as /mnt; only pip is not run
    sed -n '/if \[ -d \/mnt\/mle-bench/,/^  fi/p' "$IMAGES/mlebench-env.def" | sed "s|/mnt|$1|g" |
      sh -euc 'fail() { echo "$*"; exit 1; }; pip() { echo "pip $*"; ls "$4"; exit; }; eval "$(cat)"'
  }
  mkdir "$BATS_TEST_TMPDIR/empty"
  run step "$BATS_TEST_TMPDIR/empty"
  [[ $status == 1 && $output == 'there is no mle-bench in '*', and MLEBENCH_SOURCE=none was not said' ]]
  run step "$FAKE/mnt-mlebench-env"
  [[ $status == 0 && $output == 'pip install --no-deps --no-build-isolation '*pyproject.toml* ]]
  touch "$BATS_TEST_TMPDIR/empty/mle-bench.none"
  run step "$BATS_TEST_TMPDIR/empty"
  [[ $status == 0 && -z $output ]]
}

@test "mle-bench from GitHub: the pinned commit, with its leaderboards from git-LFS" {
  local real
  real=$(<"$CHECKOUT/mlebench/competitions/a/leaderboard.csv")
  pointer a && pointer b
  github
  build --only mlebench-env --only prepare
  expect_status 0
  [[ $(row prepare) =~ [0-9]\ $ ]]
  [[ $(<"$FAKE/mnt-prepare/mle-bench/mlebench/competitions/a/leaderboard.csv") == "$real" ]]
  [[ ! -e $FAKE/mnt-prepare/mle-bench/runs ]]
  grep -q '"commit": "783b15af77404fbaffe7255b0c4a934b46153389", "competitions": 2, "leaderboards": 2' "$FAKE/mnt-prepare/prepare.json"
}

@test "git-LFS refuses, or sends something else: the images are built, without medals, and it is said" {
  pointer a && pointer b
  github
  echo damaged | tee "$FAKE/lfs/"* >/dev/null
  build --only mlebench-env
  expect_status 0
  [[ $(row mlebench-env) == *'no medals: 2 leaderboards of mle-bench are git-LFS pointers' ]]
  grep -q 'arrived damaged' "$IMAGES/mlebench-env.log"
  rm "$FAKE/lfs/"*
  build --force --only mlebench-env
  expect_status 0
  [[ $(row mlebench-env) == *'no medals: 2'* ]]
}

@test "GitHub out of reach: the images with mle-bench fail with what to do, the others are built" {
  github
  kill "$SERVER" && wait "$SERVER" || true
  build
  expect_status 3
  [[ $(row mlebench-env) == *FAILED*"mle-bench can't be downloaded from $MLEBENCH_SOURCE (no connection)."*'set MLEBENCH_SOURCE to the folder of a checkout, or to `none`'* ]]
  [[ $(calls) == 'aide experiment mini-swe repository vllm' ]]
}

@test "bases: registries, local images, relative paths; the ROCm image for AMD" {
  head_of() { head -n 2 "$IMAGES/$1.def" | xargs; }
  build --only aide --set container.python_base=oras://reg.example:5000/python:3.11 --set container.fakeroot=false
  expect_status 0
  [[ $(head_of aide) == 'Bootstrap: oras From: reg.example:5000/python:3.11' && $(<"$FAKE/calls") == 'build aide' ]]
  grep -qx 'hpc-agent-bench.base reg.example:5000/python:3.11' "$FAKE/mnt-aide/aide.labels"
  build --only aide --only vllm --set container.python_base=docker://python:3.11 --set gpu.vendor=amd --set container.vllm_rocm_base=docker://rocm/vllm:v1
  expect_status 0
  [[ $(head_of aide) == 'Bootstrap: docker From: python:3.11' && $(head_of vllm) == 'Bootstrap: docker From: rocm/vllm:v1' ]]
  run ! grep -q 'pip install' "$IMAGES/vllm.def"
  build --only aide
  [[ $(head_of aide) == "Bootstrap: localimage From: $BASE" ]]
  run ! grep -F "$BATS_TEST_TMPDIR" "$FAKE/mnt-aide/"*.{json,labels}
  build --only aide --set container.python_base=containers/base/python.sif
  expect_status 3
  expect_in "the base image $ROOT/containers/base/python.sif doesn't exist" "$(row aide)"
}

# ---- the images of tasks

task_with() { # task_with ID LINE…: a task in paths.tasks whose Dockerfile has these lines
  local id=$1 folder=$BATS_TEST_TMPDIR/tasks/$1
  shift
  mkdir -p "$folder"
  printf '{"task_id": "%s"}\n' "$id" >"$folder/tb_meta.json"
  printf '%s\n' "$@" >"$folder/Dockerfile"
  echo data >"$folder/data.txt"
}

own_tasks() { # the site finds tasks in a folder of this test's, and Dockerfiles their base in the stand-in for one
  sed -i "s|^  tasks: .*||; s|^paths:|paths:\n  tasks: $BATS_TEST_TMPDIR/tasks|; s|^container: {|container: {bases: {x: $BASE, docker.io/: docker://mirror/}, |" "$SITE_FILE"
}

@test "--task: the image that its Dockerfile makes, which tasks with the same share, and no other" {
  own_tasks
  task_with one 'FROM x' 'COPY data.txt /data/' 'RUN true' 'EXPOSE 80'
  task_with two '# the same' 'FROM x' 'COPY data.txt /data/' 'RUN true' 'EXPOSE 80'
  task_with three 'FROM y:1' 'RUN <<END' 'true' 'END'
  printf 'two\n\n# none\nthree\n' >"$BATS_TEST_TMPDIR/list"
  build --task one --task-list "$BATS_TEST_TMPDIR/list"
  expect_status 0
  local images=("$IMAGES"/environments/*.sif)
  ((${#images[@]} == 2))
  [[ $(calls | wc -w) == 2 && $(wc -l <<<"$output") == 3 ]]
  [[ $(head -n 1 <<<"$output" | tr -s ' ') == 'IMAGE RESULT SIZE SECONDS' ]]
  [[ $(awk '{print index($0, $2)}' <<<"$output" | sort -u | wc -l) == 1 ]] # one below the other
  grep -qx "From: $BASE" "$IMAGES"/environments/*.def
  grep -qx "From: mirror/library/y:1" "$IMAGES"/environments/*.def
  (cd "$IMAGES/environments" && sha256sum --check --quiet ./*.sha256)
  grep -q "tasks/one/Dockerfile: line 4: EXPOSE has no meaning here" "$IMAGES"/environments/*.log
  grep -rqx data "$FAKE"/mnt-*/context/1/data.txt
  nothing_left

  build --task one --task two --task three
  expect_status 0
  [[ -z $(calls) && $(grep -c 'up to date' <<<"$output") == 2 ]]
  echo more >>"$BATS_TEST_TMPDIR/tasks/two/data.txt"
  build --task one --task "$BATS_TEST_TMPDIR/tasks/two"
  [[ $(calls | wc -w) == 1 && $(grep -c ' built ' <<<"$output") == 1 ]]
  echo newer >>"$BASE"
  build --task one
  [[ $(calls | wc -w) == 1 ]]
}

@test "--task: an image that the task names, ours or not; the default one" {
  own_tasks
  task_with one 'USER nobody'
  echo '{"image": "aide"}' >"$BATS_TEST_TMPDIR/tasks/one/tb_meta.json"
  task_with two && rm "$BATS_TEST_TMPDIR/tasks/two/Dockerfile"
  build --task one --task two
  expect_status 0
  [[ $(calls) == 'aide repository' ]]
  echo '{"image": "theirs"}' >"$BATS_TEST_TMPDIR/tasks/one/tb_meta.json"
  build --task one
  expect_status 2
  expect_in "task one: its image theirs is none that is built here, and isn't in $IMAGES" "$error"
  touch "$IMAGES/theirs.sif"
  build --task one
  expect_status 0
  expect_in 'nothing to build' "$output"
}

@test "--task: unknown tasks and Dockerfiles that can't be built are all told, exit 2, and nothing is built" {
  own_tasks
  task_with one 'FROM x' 'VOLUME /a' 'USER me'
  task_with fine 'FROM x'
  build --task one --task nowhere --task fine
  expect_status 2
  expect_in "$BATS_TEST_TMPDIR/tasks/one/Dockerfile:2: VOLUME: " "$error"
  expect_in "$BATS_TEST_TMPDIR/tasks/one/Dockerfile:3: USER me: " "$error"
  expect_in 'task nowhere: there is neither a Dockerfile nor a task.json or tb_meta.json' "$error"
  [[ -z $(calls) ]]
}

@test "--task: a base image that isn't there, and a RUN that fails, are named" {
  own_tasks
  task_with one 'FROM x' 'RUN make it'
  rm "$BASE"
  build --task one
  expect_status 3
  expect_in "the base image $BASE doesn't exist: container.bases of site here" "$output"
  echo base >"$BASE"
  build --task one
  expect_status 0
  local image
  image=$(basename "$IMAGES"/environments/*.sif .sif)
  echo 'echo "hab: line 2: RUN make it ended with exit code 2" >&2; exit 255' >"$FAKE/do-$image"
  build --task one --force
  expect_status 3
  [[ $(row "environments/$image") == "environments/$image FAILED "*' line 2: RUN make it ended with exit code 2' ]]
}

@test "two at once build an image once: the second waits, and finds it" {
  own_tasks
  task_with one 'FROM x'
  local pid image code=0
  build --task one
  image=$(basename "$IMAGES"/environments/*.sif .sif)
  rm "$IMAGES"/environments/*.sif* && calls
  echo 'touch "$FAKE/began"; until [[ -e $FAKE/go ]]; do sleep 0.05; done' >"$FAKE/do-$image"
  "$ROOT/containers/build_all_containers.sh" --site "$SITE_FILE" --task one >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  pid=$!
  until [[ -e $FAKE/began ]]; do sleep 0.05; done
  "$ROOT/containers/build_all_containers.sh" --site "$SITE_FILE" --task one --force >"$BATS_TEST_TMPDIR/out2" 2>&1 3>&- &
  until grep -q 'is being built by another process' "$BATS_TEST_TMPDIR/out2"; do sleep 0.05; done
  [[ ! -e $IMAGES/environments/$image.sif ]]
  touch "$FAKE/go"
  wait "$pid" || code=$?
  [[ $code == 0 ]]
  wait $! || code=$?
  [[ $code == 0 && $(<"$BATS_TEST_TMPDIR/out") == *' built '* && $(<"$BATS_TEST_TMPDIR/out2") == *' up to date '* ]]
  [[ $(calls) == "$image" ]]
  nothing_left
}

@test "a build that is killed leaves no image under its name; the next one takes away what it left" {
  own_tasks
  task_with one 'FROM x'
  local pid image
  build --task one
  image=$(basename "$IMAGES"/environments/*.sif .sif)
  rm "$IMAGES"/environments/*.sif* && calls
  echo 'echo half >"$PART"; echo $$ >"$FAKE/pids"; exec sleep 300' >"$FAKE/do-$image"
  "$ROOT/containers/build_all_containers.sh" --site "$SITE_FILE" --task one >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  pid=$!
  until [[ -s $FAKE/pids ]]; do sleep 0.05; done
  kill -9 "$pid"
  wait "$pid" || true
  [[ -z $(ls "$IMAGES"/environments/*.sif 2>/dev/null) && -n $(ls "$IMAGES"/environments/.*.part.sif) ]]
  kill "$(<"$FAKE/pids")"
  rm "$FAKE/do-$image"
  build --task one
  expect_status 0
  [[ $(row "environments/$image") == *' built '* && -z $(ls "$IMAGES"/environments/.*.part.sif 2>/dev/null) ]]
}
