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
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}",
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


# The console script's lines, in a terminal whose owner has set nothing; last, what was imported.
COMMAND = """
import json, os, sys
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
sys.argv[0] = "/somewhere/bin/facemargin"
from keras_facemargin.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""


def run_command(*arguments):
    """Runs `facemargin`: exit code, standard output and error, and the packages it imported."""
    ((code, out, error),) = finish(start("-c", COMMAND, *arguments))
    *said, modules = out.splitlines()
    return code, "\n".join(said), error, {name.split(".")[0] for name in json.loads(modules)}
