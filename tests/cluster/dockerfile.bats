# The image of a Dockerfile, built by the real Apptainer and run: what Docker would make of it.
bats_require_minimum_version 1.5.0

setup() {
  load helpers.bash
  cluster_setup
  TASK=$WORK/task IMAGES=$WORK/images
  as_owner mkdir -p "$TASK/src/deep" "$IMAGES"
  USER_VARIABLES+=(MLEBENCH_SOURCE=none)
}

teardown() {
  rm -rf "$IMAGES"
  cluster_teardown
}

build() { # the task's image; sets IMAGE
  try containers/build_all_containers.sh --task "$TASK" --set "paths.containers=$IMAGES" \
    --set "container.bases={python:3.11-slim: $STATE/base.sif}"
  IMAGE=$(find "$IMAGES/environments" -name '*.sif')
}

inside() { # inside COMMAND: in the image, by a shell, as an agent's container is started
  as_user apptainer --silent exec --contain --cleanenv --no-home "$IMAGE" sh -c "$1"
}

@test "ENV, ARG, the order of COPY and RUN, WORKDIR, .dockerignore, CMD" {
  as_owner tee "$TASK/Dockerfile" >/dev/null <<'EOF'
ARG BASE=python
FROM ${BASE}:3.11-slim AS only
ARG SECRET=hush NUMBER=7
ENV GREETING="it's {{ here }}" KEPT=$NUMBER
ENV PATH=/opt/tools:$PATH LD_LIBRARY_PATH=/opt/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
WORKDIR /app
RUN python3 -c 'import os; print(os.getcwd(), os.environ["GREETING"], os.environ["SECRET"], os.environ["PATH"])' >/of-a-child
COPY src src/
RUN find src | sort >/listed; cat src/one >/before; echo from-run >src/one
COPY src/one again/
COPY --chmod=755 run.sh /opt/tools/tool
COPY <<END /etc/conf
greeting=$GREETING
%post
END
RUN <<END
set -e
%not-there || echo goes on >/after
mkdir -p /root/bin && printf '#!/bin/sh\necho mine\n' >/root/bin/mine && chmod 700 /root/bin/mine
END
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN [[ -n $BASH_VERSION ]] && ! (false | true)
EXPOSE 80
CMD ["sh", "-c", "pwd; tool"]
EOF
  local name
  for name in one deep/two left-out; do echo "$name" | as_owner tee "$TASK/src/$name" >/dev/null; done
  echo src/left-out | as_owner tee "$TASK/.dockerignore" >/dev/null
  printf '#!/bin/sh\necho "tool: $GREETING"\n' | as_owner tee "$TASK/run.sh" >/dev/null
  build
  expect_status 0
  [[ $(inside 'cat /of-a-child') == "/app it's {{ here }} hush /opt/tools:"* ]]
  [[ $(inside 'cat /listed' | xargs) == 'src src/deep src/deep/two src/one' ]]
  [[ $(inside 'cat /before /app/src/one /app/again/one' | xargs) == 'one from-run one' ]]
  [[ $(inside 'cat /etc/conf' | xargs -0) == $'greeting=it\'s {{ here }}\n%post'* && $(inside 'cat /after') == 'goes on' ]]
  # at run time: ENV, for children too, and neither ARG nor anything of the build
  [[ $(inside 'sh -c "echo \$GREETING,\$KEPT,\$SECRET,\$NUMBER,\$PIP_CONFIG_FILE,\$LD_LIBRARY_PATH"') == "it's {{ here }},7,,,,/opt/lib"* ]]
  [[ $(inside 'tool; /root/bin/mine; ls /mnt') == $'tool: it\'s {{ here }}\nmine' ]]
  [[ $(as_user apptainer --silent run --contain --cleanenv --no-home "$IMAGE") == $'/app\ntool: it\'s {{ here }}' ]]
  [[ $(as_user apptainer --silent run --contain --cleanenv --no-home "$IMAGE" echo other) == other ]]
  [[ $(inside 'cat /opt/hab-image.json') == *'"workdir": "/app"'* ]]
  build
  expect_status 0
  expect_in 'up to date' "$output"
}

@test "a RUN that fails is named, and leaves no image" {
  printf 'FROM python:3.11-slim\nRUN true\nRUN ls /nowhere\nRUN true\n' | as_owner tee "$TASK/Dockerfile" >/dev/null
  build
  expect_status 3
  expect_in 'line 3: RUN ls /nowhere ended with exit code 2' "$output"
  [[ -z $IMAGE && -z $(find "$IMAGES" -name '*.part.sif') ]]
}

@test "the image for repository tasks without one: git, Python, pytest" {
  as_user containers/build_all_containers.sh --only repository --set "paths.containers=$IMAGES" # a minute or two, for apt
  IMAGE=$IMAGES/repository.sif
  [[ $(inside 'git --version && python -m pytest --version && which python') == 'git version '*'pytest '*/opt/venv/bin/python ]]
}
