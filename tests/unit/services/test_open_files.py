"""The limit of open files, in a process of its own."""

import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent("""
    import resource
    from gemproxy.services.open_files import raise_open_file_limit

    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
    print(raise_open_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
    print(raise_open_file_limit())
""")


def test_the_soft_limit_is_raised_to_the_hard_one():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["300", "300", "300", "300"]
