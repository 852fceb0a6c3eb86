"""As much of mle-bench as helpers/grading/mlebench_local.py and graders.py ask of it, by names and texts of commit 783b15a."""
