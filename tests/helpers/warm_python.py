"""A Python that starts at once: a process that has imported the large libraries forks itself for each program.

`server()` writes a small script that takes a Python's arguments (-m MODULE, -c CODE or a file). The script hands its own
input, output, environment and folder to the server, which forks a process that runs the program, and ends as that one
ends. Signals reach the program, and it is killed when its script is. Our own package is imported by each program itself.
A program that is to start with other libraries than Python's own (LD_PRELOAD) starts cold.
"""

import atexit
import contextlib
import ctypes
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path

LIBRARIES = [
    *("torch", "torch._dynamo", "torch._inductor", "torch.distributed", "torch.utils.data", "safetensors.torch"),
    *("numpy", "pandas", "pyarrow.parquet", "scipy.optimize", "scipy.stats", "scipy.linalg", "pydantic", "accelerate"),
    *("altair", "jinja2", "typer", "rich.console", "rich.progress", "rich.table", "tomli_w"),
]
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

SCRIPT = """#!{python} -IS
import json, os, signal, socket, sys
if "LD_PRELOAD" in os.environ:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(link, [len(request).to_bytes(8, "big")], [0, 1, 2])
link.sendall(request)
answers = link.makefile()
process = int(answers.readline())
for number in {forwarded}:
    signal.signal(number, lambda number, _: os.kill(process, number))
status = int(answers.readline() or -9)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status not in (9, 19) else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@contextlib.contextmanager
def server(folder: Path):
    """The path of the script, for as long as the block runs; `folder` is the server's."""
    script, address = folder / "warm_python", folder / "socket"
    script.write_text(
        SCRIPT.format(python=sys.executable, address=str(address), forwarded=tuple(int(n) for n in FORWARDED))
    )
    script.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.warm_python", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline(), "the server did not start"
    try:
        yield script
    finally:
        process.stdin.close()
        process.wait(30)


@contextlib.contextmanager
def used(script: Path):
    """`sys.executable` is the script as long as the block runs."""
    before, sys.executable = sys.executable, str(script)
    try:
        yield
    finally:
        sys.executable = before


def programs(folder: Path):
    """Process id and arguments of the programs that now run."""
    found = {}
    for entry in (folder / "programs").iterdir():
        if Path("/proc", entry.name).exists():
            found[int(entry.name)] = entry.read_text().split("\0")
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "programs").mkdir()
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            __import__(library)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen(64)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for pytest
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [], 0.2)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if sys.stdin in ready:  # pytest has ended
            os._exit(0)
        if listener in ready:
            link, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                os._exit(_attend(folder, link))
            link.close()


def _attend(folder: Path, link: socket.socket) -> int:
    """Start the program that is asked for, and wait until it or its script ends."""
    size, files, _, _ = socket.recv_fds(link, 8, 3)
    with link.makefile("rb") as stream:
        arguments, cwd, environment = json.loads(stream.read(int.from_bytes(size, "big")))
    process = os.fork()
    if process == 0:
        _enter_mounts(link)
        link.close()
        _run(folder, [a for a in arguments if a != "-u"], cwd, environment, files)
    for number in files:
        os.close(number)
    entry = folder / "programs" / str(process)
    entry.write_text("\0".join(arguments))
    ended = os.pidfd_open(process)
    with contextlib.suppress(BrokenPipeError):
        link.sendall(f"{process}\n".encode())
    ready, _, _ = select.select([link, ended], [], [])
    if ended not in ready:  # its script was killed
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    entry.unlink()
    with contextlib.suppress(BrokenPipeError):
        link.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    return 0


def _enter_mounts(link: socket.socket) -> None:
    """See the file systems that the script sees."""
    script = int.from_bytes(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)
    theirs = Path("/proc", str(script), "ns", "mnt")
    if theirs.stat() != Path("/proc/self/ns/mnt").stat():
        with theirs.open() as space:
            assert ctypes.CDLL(None).setns(space.fileno(), 0) == 0, "entering a mount namespace failed"


def _run(folder, arguments, cwd, environment, files) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.executable = str(folder / "warm_python")
    pieces = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [cwd, *pieces, *(p for p in sys.path[1:] if p not in pieces)]
    os._exit(_status_of(arguments))


def _status_of(arguments) -> int:
    status = 0
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
        else:
            sys.argv = arguments
            sys.path[0] = str(Path(arguments[0]).parent)
            runpy.run_path(arguments[0], run_name="__main__")
        threading._shutdown()
    except SystemExit as error:
        if error.code is not None:
            status = error.code if isinstance(error.code, int) else 1
        if not isinstance(error.code, int | None):
            sys.stderr.write(f"{error.code}\n")
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    return status


if __name__ == "__main__":
    main()
