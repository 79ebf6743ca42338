"""Python processes that a test starts, which always end with it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
_SECONDS = 240  # a process that hangs is ended; nothing here takes a tenth of it on a free machine


def start(*arguments, **environment):
    """Starts `python ARGUMENTS` with the package and the tests at hand."""
    folders = [CHECKOUT, CHECKOUT / "tests"]
    if {**os.environ, **environment}.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        folders.append(CHECKOUT / "tests" / "not_imported")
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": ":".join(map(str, folders)),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    """Waits for all; a list of (exit code, standard output, standard error)."""
    try:
        outputs = [process.communicate(timeout=_SECONDS) for process in processes]
        return [(p.returncode, *out) for p, out in zip(processes, outputs, strict=True)]
    finally:
        for process in processes:
            process.kill()


def worker_environments(count):
    """The `TF_CONFIG` of so many workers on this machine, at ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return [
        json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
        for index in range(count)
    ]


# The console script's lines, in a terminal whose owner has set nothing. Each command ends with a
# line in both streams: its exit code and what has been imported.
COMMANDS = """
import json, os, sys
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
commands, sys.argv = json.loads(sys.argv[1]), ["/somewhere/bin/facemargin"]
for sys.argv[1:] in commands:
    try:
        from keras_facemargin.cli import main
        main()
    except SystemExit as stop:
        end = json.dumps([stop.code or 0, sorted(sys.modules)])
        print("\\n" + end, flush=True)
        print("\\n" + end, file=sys.stderr, flush=True)
"""


def run_command(*arguments):
    """Runs `facemargin`: exit code, standard output and error, and the packages it imported."""
    (result,) = run_commands(arguments)
    return result


def run_commands(*commands):
    """Runs several commands in one process: for each what `run_command` returns."""
    words = json.dumps([list(map(str, command)) for command in commands])
    ((status, *streams),) = finish(start("-c", COMMANDS, words))
    assert status == 0, streams[1]
    outputs, errors = (_until_its_end(stream) for stream in streams)
    return [
        (code, out, error, {name.split(".")[0] for name in modules})
        for ((code, modules), out), (_, error) in zip(outputs, errors, strict=True)
    ]


def _until_its_end(stream):
    """What each command wrote, after the line of its end, read as JSON."""
    found, text = [], ""
    for line in stream.splitlines(keepends=True):
        if line.startswith("[") and line.rstrip().endswith("]]"):
            found.append((json.loads(line), text.rstrip("\n")))
            text = ""
        else:
            text += line
    return found
