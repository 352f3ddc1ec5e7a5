"""The command line, in a process of its own."""

import subprocess
import sys


def command(*arguments, **options):
    """`python -m testbed` with these arguments, ended: its exit code and what it printed, as text."""
    line = [sys.executable, "-m", "testbed", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)
