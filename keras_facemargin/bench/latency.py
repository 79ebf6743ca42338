"""The time that an embedder needs for one face, and the machine that it was measured on."""

import dataclasses
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_facemargin.processor import processor

# Calls before the clock starts: the first ones compile or allocate memory.
WARM_UP = 5
RUNS = 50


@dataclasses.dataclass(frozen=True)
class Latency:
    """The time of one call with one image.

    Attributes:
        threads: number of threads; None if the runtime chooses it.
        median, low, high: the median and the middle 80 % of the calls, in milliseconds.
        runs: number of calls.
    """

    threads: int | None
    median: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        time = f"{self.median:.1f} ms ({self.low:.1f} to {self.high:.1f})"
        if self.threads is None:
            return time
        return f"{self.threads} thread{'s' if self.threads > 1 else ''} {time}"


def measure_latency(
    embedder: Callable[..., Any],
    image: npt.NDArray[np.uint8],
    *,
    threads: int | None = None,
    runs: int = RUNS,
) -> Latency:
    """Times calls of an embedder with one image each.

    Args:
        embedder: any callable from images ``(1, H, W, 3)`` to embeddings.
        image: ``(H, W, 3)``, RGB 0..255.
        threads: number of threads that the embedder was opened with; None if the runtime chooses.
        runs: number of calls, after `WARM_UP` calls that do not count.

    Returns:
        A `Latency`.

    Example:
        >>> latency = measure_latency(lambda images: images.mean(axis=(1, 2)),
        ...                           np.zeros((112, 112, 3), "uint8"), runs=3)
        >>> latency.low <= latency.median <= latency.high
        True
    """
    times = []
    for _ in range(WARM_UP + runs):
        start = time.perf_counter()
        np.asarray(embedder(image[None]))
        times.append(1e3 * (time.perf_counter() - start))
    low, median, high = np.percentile(times[WARM_UP:], (10, 50, 90)).tolist()
    return Latency(threads, median, low, high, runs)


def machine() -> str:
    """The processor, the number of its cores that this process may use, the system and its load."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    cores = len(usable) or os.cpu_count() or 1
    words = f"{cores} core{'s' if cores > 1 else ''}"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{processor()}, {words}, {platform.system()} {platform.machine()}{load}"
