"""As much of mle-bench as helpers/mlebench_local.py and helpers/graders.py ask of it, by the names and texts of commit 783b15a."""
