"""MATLAB's files, which two official lists are published as."""

from pathlib import Path

import numpy as np


def read_mat(file) -> dict:
    """The variables of a .mat file: structures as dicts, cells as object arrays, lengths 1 dropped.

    Raises:
        ImportError: if SciPy is not installed.
        ValueError: if it is no MATLAB file, or one of version 7.3.
        OSError: if it cannot be opened.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise ImportError(
            "This protocol's official list is a MATLAB file, read with SciPy: "
            "pip install 'keras_facemargin[mat]'"
        ) from error
    with Path(file).open("rb") as stream:
        try:
            found = loadmat(stream, squeeze_me=True, struct_as_record=False)
        except (MatReadError, ValueError, TypeError, NotImplementedError) as error:
            raise ValueError(
                f"{file}: must be a MATLAB file of version 5 to 7. Received: {error}"
            ) from error
    return {name: _plain(value) for name, value in found.items() if not name.startswith("__")}


def _plain(value):
    if hasattr(value, "_fieldnames"):
        return {name: _plain(getattr(value, name)) for name in value._fieldnames}
    if isinstance(value, np.ndarray) and value.dtype == object:
        plain = np.empty(value.shape, object)
        for place in np.ndindex(value.shape):
            plain[place] = _plain(value[place])
        return plain
    return value
