"""helpers/lib/environment_check.py: what an environment must be able to import."""

import sys

from helpers.lib import environment_check


def test_only_what_is_for_this_python_is_asked_for(tmp_path):
    (tmp_path / "more.in").write_text("rich>=1\n")
    now, other = f"{sys.version_info[0]}.{sys.version_info[1]}", "3.99"
    (tmp_path / "core.in").write_text(
        f'# words\n-r more.in\npandas>=2 ; python_version >= "{now}"\ntomli>=2 ; python_version >= "{other}"\n\nPyYAML\n'
    )
    assert environment_check.asked_for(tmp_path / "core.in") == ["rich", "pandas", "PyYAML"]
