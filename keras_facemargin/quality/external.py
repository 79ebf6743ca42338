"""Quality scores of other projects, as functions of images.

`keras_facemargin.evaluate.error_versus_discard` judges them by the same curve as `judge`.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Scorer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float64]]


def load_ediffiqa(file: str | os.PathLike[str]) -> Scorer:
    """Opens an ONNX file of eDifFIQA, for example the one of OpenCV's zoo.

    You bring the file; onnxruntime runs it. Reference: Babnik, Peer, Struc, "eDifFIQA: Towards
    Efficient Face Image Quality Assessment based on Denoising Diffusion Probabilistic Models", IEEE
    Transactions on Biometrics, Behavior, and Identity Science (2024).

    Args:
        file: an .onnx file from aligned 112x112 crops, RGB in -1..1, to one score each.

    Returns:
        A function of uint8 (N, 112, 112, 3), RGB, to float64 (N,), higher for better crops.

    Raises:
        ImportError: onnxruntime is not installed.
        OSError, ValueError: the file cannot be opened.

    Example:

    ```python
    score = load_ediffiqa("ediffiqa_tiny_jun2024.onnx")
    score(crops)  # (N,)
    ```
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"The quality file does not exist. Received: {path}")
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "An ONNX file needs onnxruntime: pip install 'keras_facemargin[export]'"
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has one type for each fault
        raise ValueError(f"{path}: ONNX Runtime cannot open it. Received: {error!s:.200}") from None
    name = session.get_inputs()[0].name

    def score(crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        found = np.empty(len(crops))
        for place, crop in enumerate(crops):  # published files take one crop at a time
            pixels = (crop.astype("float32") / 255 - 0.5) / 0.5
            (output,) = session.run(None, {name: pixels.transpose(2, 0, 1)[None]})
            if np.size(output) != 1:
                raise ValueError(
                    f"{path}: a quality file must give one score for each crop. Received: an "
                    f"output of shape {np.shape(output)}."
                )
            found[place] = float(np.ravel(output)[0])
        return found

    return score


def load_ofiq() -> Callable[[npt.NDArray[np.uint8]], float]:
    """Opens OFIQ, the reference implementation of ISO/IEC 29794-5, through python-ofiq.

    Returns:
        A function of one photo, uint8 (H, W, 3), RGB, to the unified quality score, 0 to 100. OFIQ
        finds the face itself; a photo without one has 0.

    Raises:
        ImportError: the package python-ofiq is not installed.
        Exception: as `ofiq.OFIQ`, if its models are missing: run `python-ofiq setup`.

    Example:

    ```python
    score = load_ofiq()
    score(read_photo("ada.jpg"))
    ```
    """
    try:
        import ofiq
    except ImportError as error:
        raise ImportError(
            "OFIQ needs the package python-ofiq: pip install python-ofiq, then python-ofiq setup, "
            "which downloads its models (400 MB)."
        ) from error
    judge = ofiq.OFIQ()

    def score(photo: npt.NDArray[np.uint8]) -> float:
        try:
            return float(judge.scalar_quality(photo))
        except ofiq.FaceDetectionError:
            return 0.0

    return score
