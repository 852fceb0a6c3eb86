# The words that people and CI use. Each sets up what it needs.
SHELL := bash
TESTS ?=

.PHONY: setup test test-all test-vllm test-experiment test-mini-swe test-chaos lint fmt golden bench docs lock clean

setup: ## the virtual environments of the commands, of AIDE and of the tests
	@tests/run.sh --setup

test: ## the everyday tests; TESTS="tests/helpers/test_jobs.py tests/jobs.bats" for some
	@tests/run.sh $(TESTS)

test-all: ## the slow ones too, and both sites of the test cluster in full: before a release
	@tests/run.sh --all

test-vllm: ## real vLLM (CPU build, a tiny random model) behind the real job script on the test cluster; needs root, 10 GB, minutes
	@tests/run.sh --vllm

test-experiment: ## the agent experiment in its image, a notebook and MLflow on the test cluster; needs root, 5 GB, minutes
	@tests/run.sh --experiment

test-mini-swe: ## real mini-swe-agent (its environment has 400 MB) with the replay model, its trajectories by Harbor's rules; minutes
	@tests/run.sh --mini-swe

test-chaos: ## a benchmark of 60 rollouts on the test cluster, once in peace and once under kills and `resume`; needs root, minutes
	@tests/run.sh --chaos

lint: ## ruff, shellcheck and shfmt
	@tests/lint.sh

fmt: ## format Python and shell
	@tests/lint.sh --fix

golden: ## write the golden texts anew (look at the diff before you commit it)
	@tests/run.sh --golden

bench: ## the figures, as ratios
	@tests/run.sh --bench

docs: ## the picture of the first command in the README, from a run in a fresh clone
	@tests/run.sh --docs

lock: ## requirements/*.txt anew from requirements/*.in; needs uv
	@requirements/lock.sh

clean: ## environments, caches and rendered scripts; runs and data stay
	@rm -rf .venv-* .pytest_cache .ruff_cache rendered
