"""TFLite files in LiteRT."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.runtime.carried import ENTRY
from keras_facemargin.runtime.file import Quantization, Session


def open_session(file: Path | bytes, threads: int | None) -> Session:
    """Opens a file or its bytes; see `open_file`."""
    content = file if isinstance(file, bytes) else file.read_bytes()
    interpreter = _runtime().Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1:
        raise ValueError(f"an embedder has one input, not {len(inputs)}.")

    def run(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        interpreter.set_tensor(inputs[0]["index"], values)
        interpreter.invoke()
        return [_floats(interpreter.get_tensor(each["index"]), each) for each in outputs]

    return Session(
        tuple(int(side) for side in inputs[0]["shape"]),
        np.dtype(inputs[0]["dtype"]),
        _quantization(inputs[0]),
        run,
        _entry(content),
    )


# In a process of its own: the library writes some lines to standard error, the last ones when the
# process ends, and a file that it cannot run may end the process.
_COMPILED = """
import sys
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
file, images, embeddings = sys.argv[1:]
model = CompiledModel.from_file(file)
(signature,) = model.get_signature_list()
(output,) = model.get_output_tensor_details(signature).values()
(given,), (taken,) = model.create_input_buffers(0), model.create_output_buffers(0)
rows = []
for image in np.load(images):
    given.write(image[None])
    model.run_by_index(0, [given], [taken])
    rows.append(np.array(taken.read(int(np.prod(output["shape"])), np.float32)))
np.save(embeddings, rows)
"""


def run_compiled(content: bytes, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Embeddings by LiteRT's CompiledModel, the successor of the interpreter, on the CPU.

    Args:
        content: bytes of a file with one input of one image and one float32 output.
        images: (N, H, W, 3), of the type of the input.

    Returns:
        (N, D).

    Raises:
        RuntimeError: it cannot run the file.
    """
    with tempfile.TemporaryDirectory(prefix="facemargin-") as name:
        file, given, taken = (Path(name, each) for each in ("f.tflite", "x.npy", "y.npy"))
        file.write_bytes(content)
        np.save(given, images)
        program = [sys.executable, "-c", _COMPILED, *map(str, (file, given, taken))]
        run = subprocess.run(program, capture_output=True, text=True, errors="replace", check=False)
        if run.returncode:
            last = (run.stderr.strip() or f"code {run.returncode}").splitlines()[-1]
            raise RuntimeError(f"LiteRT's CompiledModel cannot run the file: {last:.200}")
        embeddings: npt.NDArray[np.float32] = np.load(taken)
    return embeddings


def count_parts(content: bytes) -> tuple[int, tuple[str, ...]]:
    """The parts of a file that XNNPACK, the delegate of the CPU, takes, and the ops outside.

    One part and no op outside is best: each further part copies tensors.

    Returns:
        The number of parts, and the names of the ops outside, in order.
    """
    interpreter = _runtime().Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    # The list, which has no public name, has every op of the file and then one op for each part.
    every = interpreter._get_ops_details()
    parts = [each for each in every if each["op_name"] == "DELEGATE"]
    maker = {
        int(tensor): each
        for each in every
        if each["op_name"] != "DELEGATE"
        for tensor in each["outputs"]
    }
    inside: set[int] = set()
    for part in parts:
        known = {int(tensor) for tensor in part["inputs"]}
        pending = [int(tensor) for tensor in part["outputs"]]
        while pending:
            tensor = pending.pop()
            op = maker.get(tensor)
            if tensor not in known and op is not None:
                known.add(tensor)
                inside.add(op["index"])
                pending += [int(each) for each in op["inputs"]]
    names = [each["op_name"] for each in every if each["index"] not in inside]
    return len(parts), tuple(name for name in names if name != "DELEGATE")


def _quantization(details: Any) -> Quantization | None:
    scale, zero_point = details["quantization"]
    return Quantization(float(scale), int(zero_point)) if scale else None


def _floats(values: npt.NDArray[Any], details: Any) -> npt.NDArray[Any]:
    quantization = _quantization(details)
    if values.dtype.kind == "f" or quantization is None:
        return values.astype("float32")
    return (values.astype("float32") - quantization.zero_point) * np.float32(quantization.scale)


def _entry(content: bytes) -> bytes | None:
    """The entry of the file on its input; None without one."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == ENTRY.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


def _runtime() -> Any:
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise ImportError(
            "Running a TFLite file needs LiteRT. Received: it is not installed. "
            "Run: pip install ai-edge-litert"
        ) from error
    return interpreter
