# models.sh download: real huggingface_hub against a Hub on the loopback.
bats_require_minimum_version 1.5.0

COMMIT=0123456789abcdef0123456789abcdef01234567

setup() {
  load common.bash
  HUB=$BATS_TEST_TMPDIR/hub
  MODELS=$BATS_TEST_TMPDIR/models
  mkdir -p "$HUB/acme/tiny"
  head -c 400000 /dev/urandom >"$HUB/acme/tiny/model-1.safetensors"
  head -c 300000 /dev/urandom >"$HUB/acme/tiny/model-2.safetensors"
  printf '{}' | tee "$HUB/acme/tiny/config.json" >"$HUB/acme/tiny/tokenizer.json"
  SITE_FILE=$BATS_TEST_TMPDIR/here.yaml
  cat >"$SITE_FILE" <<YAML
scheduler: {kind: local}
container: {runtime: none}
paths: {models: "$MODELS"}
models:
  tiny: {engine: vllm, repo: acme/tiny, served_name: tiny}
  folder: {engine: vllm, repo: $BATS_TEST_TMPDIR/weights, served_name: folder}
YAML
  unset HF_TOKEN HUGGINGFACE_HUB_TOKEN HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
  python3 "$ROOT/tests/fake_hub.py" "$HUB" >"$BATS_TEST_TMPDIR/hub.log" 2>&1 3>&- &
  HUB_PID=$!
  while [[ ! -s $HUB/port ]]; do sleep 0.02; done
  HF_ENDPOINT=http://127.0.0.1:$(<"$HUB/port")
  export HF_ENDPOINT
}

teardown() { kill "$HUB_PID" 2>/dev/null || true; }

download() { try "$ROOT/scripts_hpc/models.sh" download "$@" --site "$SITE_FILE"; }

refused() { # refused STATUS TEXT: one line, which says TEXT
  expect_status "$1"
  expect_in "$2" "$error"
  [[ $(grep -c '' <<<"$error") == 1 && $error != *Traceback* && -z $output ]]
}

fetched() { grep -c "^GET /acme/tiny/resolve/.*/$1 " "$HUB/requests" || true; }

whole() { # whole NAME: it is in the cache, as on the Hub
  cmp "$HUB/acme/tiny/$1" "$MODELS/hub/models--acme--tiny/snapshots/$COMMIT/$1"
}

tensors() { # tensors FILE: an empty file of safetensors: the length of its header, and a header without a tensor
  printf '\2\0\0\0\0\0\0\0{}' >"$1"
}

@test "--help is the header, without Python" {
  HAB_PYTHON=/nonexistent HAB_VENV_DIR=/nonexistent try "$ROOT/scripts_hpc/models.sh" download tiny --help
  expect_status 0
  expect_in 'scripts_hpc/models.sh download MODEL' "$output"
  expect_in 'Exit codes: 0' "$output"
  [[ $output != *'set -euo'* ]]
}

@test "no model, an unknown one, an unknown option" {
  download
  expect_status 2
  expect_in MODEL "$error"
  download bogus
  refused 2 "'bogus': not in site-config/models.yaml. Known models: 30b"
  download tiny --frobnicate
  expect_status 2
}

@test "models without weights to download: exit 0, and nothing is asked of the Hub" {
  download replay
  expect_status 0
  expect_in 'replay is not a language model: nothing to download' "$output"
  download endpoint
  expect_status 0
  expect_in 'nothing to download' "$output"
  download folder
  refused 2 "folder: there is no folder $BATS_TEST_TMPDIR/weights. Copy what is missing there."
  mkdir "$BATS_TEST_TMPDIR/weights"
  printf '{}' | tee "$BATS_TEST_TMPDIR/weights/config.json" >"$BATS_TEST_TMPDIR/weights/tokenizer.json"
  download folder
  refused 2 "folder: $BATS_TEST_TMPDIR/weights is incomplete: weights (*.safetensors, *.bin, *.pt, *.pth, *.gguf) is missing"
  tensors "$BATS_TEST_TMPDIR/weights/model.safetensors"
  download folder
  expect_status 0
  expect_in "reads its weights from $BATS_TEST_TMPDIR/weights: nothing to download" "$output"
  [[ ! -e $HUB/requests ]]
}

@test "no network" {
  kill "$HUB_PID"
  download tiny
  refused 3 "tiny: the Hub can't be reached"
  expect_in 'environment.proxy' "$error"
}

@test "HF_HUB_OFFLINE forbids it" {
  HF_HUB_OFFLINE=1 download tiny
  refused 2 'HF_HUB_OFFLINE is set'
}

@test "an unknown repository and an unknown revision" {
  rm -r "$HUB/acme/tiny"
  download tiny
  refused 2 'there is no repository acme/tiny, or it needs a token'
  HF_TOKEN=t download tiny
  refused 2 'there is no repository acme/tiny, or your token may not read it (HTTP 404)'
  mkdir "$HUB/acme/tiny" && touch "$HUB/acme/tiny/model.safetensors"
  download tiny --revision v9
  refused 2 "acme/tiny has no revision 'v9'"
}

@test "a gated repository: says where to accept its terms" {
  echo 'gated acme/tiny' >"$HUB/faults"
  download tiny
  refused 2 'acme/tiny is gated: accept its terms at https://huggingface.co/acme/tiny, then give a token as HF_TOKEN'
}

@test "the Hub is broken" {
  echo 'status acme/tiny 500' >"$HUB/faults"
  download tiny
  refused 3 'the Hub answers HTTP 500'
}

@test "a repository without weights" {
  rm "$HUB"/acme/tiny/*.safetensors
  download tiny
  refused 2 'acme/tiny holds no weights'
}

@test "a disk that is too small is found before the first byte" {
  echo 'claim model-1.safetensors 900000000000000' >"$HUB/faults"
  download tiny
  refused 3 'tiny: 900.0 TB are to be downloaded, and'
  expect_in 'paths.models of site here' "$error"
  [[ $(fetched '.*') == 0 ]]
}

@test "the token, from the environment or of .env's one line, and of no other" {
  cp -r "$ROOT/helpers" "$ROOT/scripts_hpc" "$ROOT/site-config" "$BATS_TEST_TMPDIR/" # .env lies at the root of a checkout
  mkdir "$BATS_TEST_TMPDIR/requirements" && cp "$ROOT/requirements/core.txt" "$BATS_TEST_TMPDIR/requirements/"
  ln -s "$ROOT/.venv-core" "$BATS_TEST_TMPDIR/.venv-core"
  printf 'OPENAI_API_KEY=sk-other\nexport HF_TOKEN="hf_file"\n' >"$BATS_TEST_TMPDIR/.env"
  echo 'private acme/tiny hf_file' >"$HUB/faults"
  PYTHONPATH='' try "$BATS_TEST_TMPDIR/scripts_hpc/models.sh" download tiny --site "$SITE_FILE"
  expect_status 0
  whole model-1.safetensors
  run ! grep -q sk-other "$HUB/requests"

  HF_TOKEN=hf_wrong PYTHONPATH='' try "$BATS_TEST_TMPDIR/scripts_hpc/models.sh" download tiny --site "$SITE_FILE"
  expect_status 2
  [[ $error != *hf_* ]]
}

@test "all files, the commit, how to pin it; a second time nothing is fetched" {
  download tiny
  expect_status 0
  expect_in "tiny: acme/tiny at commit $COMMIT (700.0 kB) is in $MODELS/hub" "$output"
  expect_in "revision: $COMMIT" "$output"
  for name in model-1.safetensors model-2.safetensors config.json; do whole "$name"; done
  [[ $(<"$MODELS/hub/models--acme--tiny/refs/main") == "$COMMIT" ]]
  : >"$HUB/requests"
  download tiny --revision "$COMMIT"
  expect_status 0
  [[ $(fetched '.*') == 0 ]]
}

@test "a pinned model needs no advice" {
  sed -i "s|repo: acme/tiny|repo: acme/tiny, revision: $COMMIT|" "$SITE_FILE"
  download tiny
  expect_status 0
  [[ $output != *'pin it'* ]]
}

@test "what holds the same weights once more stays on the Hub" {
  mkdir "$HUB/acme/tiny/original"
  printf x | tee "$HUB/acme/tiny/pytorch_model.bin" "$HUB/acme/tiny/tiny.gguf" >"$HUB/acme/tiny/original/consolidated.00.pth"
  download tiny
  expect_status 0
  [[ $(fetched '.*bin') == 0 && $(fetched '.*gguf') == 0 && $(fetched '.*pth') == 0 ]]
  rm "$HUB"/acme/tiny/*.safetensors
  rm -rf "$MODELS"
  download tiny
  expect_status 0
  whole pytorch_model.bin
}

@test "a connection that breaks goes on where it was" {
  head -c 25000000 /dev/urandom >"$HUB/acme/tiny/model-1.safetensors"
  echo 'cut model-1.safetensors 22000000 1' >"$HUB/faults"
  download tiny
  expect_status 0
  whole model-1.safetensors
  [[ $(fetched model-1.safetensors) == 2 ]]
  # huggingface_hub writes pieces of 10 MiB
  grep -q '^GET .*model-1.safetensors bytes=20971520-' "$HUB/requests"
}

@test "a download that fails keeps the files that are complete; the next one fetches the rest" {
  echo 'cut model-1.safetensors 0 99' >"$HUB/faults"
  download tiny
  expect_status 3
  expect_in 'Run it again: complete files are kept' "$(tail -n 1 <<<"$error")"
  [[ $error != *Traceback* ]]
  whole model-2.safetensors
  rm "$HUB/faults"
  : >"$HUB/requests"
  download tiny
  expect_status 0
  whole model-1.safetensors
  [[ $(fetched model-1.safetensors) == 1 && $(fetched model-2.safetensors) == 0 ]]
}

@test "Ctrl-C: exit 130 at once, no partial files; the next one ends it" {
  local pid started=$SECONDS blobs=$MODELS/hub/models--acme--tiny/blobs code=0
  echo 'slow model-1.safetensors' >"$HUB/faults"
  set -m # a background process of a shell without job control ignores SIGINT
  "$ROOT/scripts_hpc/models.sh" download tiny --site "$SITE_FILE" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  pid=$!
  set +m
  until compgen -G "$blobs/*.incomplete" >/dev/null || ! kill -0 "$pid"; do sleep 0.05; done
  kill -INT "$pid"
  wait "$pid" || code=$?
  [[ $code == 130 ]]
  ((SECONDS - started < 4))
  grep -q 'interrupted: complete files are kept' "$BATS_TEST_TMPDIR/out"
  run ! compgen -G "$blobs/*.incomplete"
  rm "$HUB/faults"
  download tiny
  expect_status 0
  whole model-1.safetensors
}

@test "partial files of a killed download are deleted once they are old" {
  local blobs=$MODELS/hub/models--acme--tiny/blobs
  mkdir -p "$blobs"
  touch "$blobs/young.12345678.incomplete"
  touch -d '2 hours ago' "$blobs/old.12345678.incomplete"
  download tiny
  expect_status 0
  [[ -e $blobs/young.12345678.incomplete && ! -e $blobs/old.12345678.incomplete ]]
}

@test "a file that was cut after its download, or whose link leads nowhere, is fetched again" {
  download tiny
  local snapshot=$MODELS/hub/models--acme--tiny/snapshots/$COMMIT
  truncate -s 1000 "$(realpath "$snapshot/model-1.safetensors")"
  rm "$(realpath "$snapshot/model-2.safetensors")"
  : >"$HUB/requests"
  download tiny
  expect_status 0
  expect_in "model-1.safetensors isn't whole: it is downloaded again" "$error"
  whole model-1.safetensors
  whole model-2.safetensors
  [[ $(fetched config.json) == 0 ]]
}

@test "a repository without a tokenizer: said at the download, not by vLLM" {
  rm "$HUB/acme/tiny/tokenizer.json"
  download tiny
  expect_status 2
  expect_in 'a tokenizer (tokenizer.json, vocab.json, *.model, …) is missing. So it is on the Hub' "$error"
  sed -i 's|repo: acme/tiny|&, vllm_args: ["--tokenizer=acme/other"]|' "$SITE_FILE"
  download tiny
  expect_status 0
}
