"""Commands in a pseudo-terminal."""

import json
import os
import pty
import re
import sys

_SCRIPT = """
import fcntl, json, struct, sys, termios
from testbed.cli.app import main
for columns, arguments in json.load(sys.stdin):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    sys.argv = ["testbed", *arguments]
    try:
        main()
    except SystemExit:
        print("\\x1e", flush=True)
"""


def printed(commands, cwd):
    """For each (columns, arguments), what the command prints on stdout and stderr to a terminal of that width.

    Without colours. All commands run in one process, one after the other.
    """
    reader, writer = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(reader, 0)
        os.close(writer)
        environment = {name: os.environ[name] for name in os.environ if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        os.chdir(cwd)
        os.execve(sys.executable, [sys.executable, "-c", _SCRIPT], environment | {"TERM": "xterm"})
    os.close(reader)
    with open(writer, "w") as file:
        json.dump(commands, file)
    text = _read(terminal).replace("\r\n", "\n")
    os.waitpid(pid, 0)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).split("\x1e\n")[:-1]


def _read(terminal):
    """Everything up to the terminal's end, which Linux reports as an error."""
    parts = []
    with os.fdopen(terminal, "rb", buffering=0) as file:
        try:
            while part := file.read(1 << 16):
                parts.append(part)
        except OSError:
            pass
    return b"".join(parts).decode()
