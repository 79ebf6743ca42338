"""Memory and latency of an exported file on this machine."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_facemargin.export.formats import CONTAINERS, TFLITE
from keras_facemargin.export.verdict import Verdict, alternating_medians
from keras_facemargin.export.write import open_session
from keras_facemargin.processor import processor
from keras_facemargin.runtime.openvino import MODEL
from keras_facemargin.runtime.tflite import count_parts

THREADS = (1, 2)
# In a process of its own, and without this package, which imports Keras. Only Linux has these
# numbers of the process.
_PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
{import_}
path, image = sys.argv[1], np.zeros(json.loads(sys.argv[2]), sys.argv[3])
def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))
before = kilobytes("VmRSS")
{open_and_run}
print(1024 * (kilobytes("VmHWM") - before))
"""
# How each runtime opens a file and runs it on one thread; TensorFlow takes no number of threads.
_RUNTIMES = {
    "tflite": (
        "from ai_edge_litert.interpreter import Interpreter",
        "model = Interpreter(model_path=path, num_threads=1)\n"
        "model.allocate_tensors()\n"
        "model.set_tensor(model.get_input_details()[0]['index'], image)\n"
        "model.invoke()",
    ),
    "onnx": (
        "import onnxruntime",
        "options = onnxruntime.SessionOptions()\n"
        "options.intra_op_num_threads = 1\n"
        "model = onnxruntime.InferenceSession(path, options)\n"
        "model.run(None, {model.get_inputs()[0].name: image})",
    ),
    "openvino": (
        "import openvino",
        f"path = str(Path(path, {MODEL!r}))\n"
        "model = openvino.Core().compile_model(path, 'CPU', {'INFERENCE_NUM_THREADS': 1})\n"
        "model(image)",
    ),
}


@dataclass(frozen=True)
class Costs:
    """What an exported file costs on a machine, for one image at a time.

    Attributes:
        host: system, processor and number of its CPUs.
        latency_ms: threads -> milliseconds, median of runs in turns; empty if the runtime does not
            take a number of threads.
        memory_bytes: greatest growth of the memory of a process that opens the file and embeds an
            image on one thread; None where it cannot be measured.
        delegate_parts: of a TFLite file, the number of parts that XNNPACK takes; else None.
        outside_delegate: the ops that it does not take, in order.
    """

    host: str
    latency_ms: dict[int, float]
    memory_bytes: int | None
    delegate_parts: int | None = None
    outside_delegate: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return asdict(self) | {
            "latency_ms": {str(each): ms for each, ms in self.latency_ms.items()},
            "outside_delegate": list(self.outside_delegate),
        }

    def rows(self) -> list[tuple[str, str]]:
        """(measure, value) as text, for a table."""
        rows = [
            (f"  {number} thread{'s' * (number > 1)}", f"{ms:.2f} ms")
            for number, ms in self.latency_ms.items()
        ]
        if self.memory_bytes is not None:
            rows.append(("memory", f"{self.memory_bytes / 1e6:.1f} MB to open it and embed"))
        if self.delegate_parts is not None:
            outside = ", ".join(self.outside_delegate) or "none"
            rows.append(
                ("delegate", f"XNNPACK, {self.delegate_parts} parts; ops outside: {outside}")
            )
        return [*rows, ("host", self.host)]


def with_costs(verdict: Verdict) -> Verdict:
    """A verdict with what its file costs on this machine.

    Args:
        verdict: as `export_embedder` returns it.

    Returns:
        The `Verdict` with `costs`.

    Example:

    ```python
    print(with_costs(export_embedder(embedder, "face.tflite")))
    ```
    """
    path = Path(verdict.path)
    container = CONTAINERS[path.suffix.lower()]
    latency: dict[int, float] = {}
    memory = None
    if container.name in _RUNTIMES:
        sessions = [open_session(path, number) for number in THREADS]
        image = np.zeros([side or 1 for side in sessions[0].shape], sessions[0].dtype)
        medians = alternating_medians(*(partial(each.run, image) for each in sessions))
        latency = dict(zip(THREADS, medians, strict=True))
        memory = measure_memory(path)
    parts, outside = count_parts(path.read_bytes()) if container is TFLITE else (None, ())
    costs = Costs(host(), latency, memory, parts, outside)
    return replace(verdict, costs=costs)


def host() -> str:
    """System, processor and number of CPUs of this machine."""
    return f"{platform.system()} {platform.machine()}, {processor()}, {os.cpu_count()} CPUs"


def measure_memory(path: Path) -> int | None:
    """Growth of the memory of a process that opens a file and embeds an image, in bytes.

    Args:
        path: the file, of a runtime that takes a number of threads.

    Returns:
        None where the system does not have the numbers.
    """
    if not Path("/proc/self/status").is_file():
        return None
    session = open_session(path, 1)
    import_, open_and_run = _RUNTIMES[CONTAINERS[path.suffix.lower()].name]
    program = _PROGRAM.format(import_=import_, open_and_run=open_and_run)
    shape = json.dumps([side or 1 for side in session.shape])
    arguments = [str(path), shape, session.dtype.name]
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    return int(run.stdout) if run.returncode == 0 else None
