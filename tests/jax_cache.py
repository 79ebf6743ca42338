"""What XLA compiles for jax stays in the checkout, for other processes and for later runs.

XLA compiles each operation for each shape, which is most of the time of the jax suite.
"""

import functools
import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".pytest_cache" / "jax"  # `make clean` removes it


def keep_compiled_functions():
    import jax
    from jax._src import lru_cache
    from jax._src.interpreters import mlir

    # One context for all operations: jax makes another for each, 5 ms.
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)

    def put(cache, key, compiled):
        """Unlike jax's own, shows no part of a file to the `get` of another process."""
        draft = FOLDER / f"{os.getpid()}.draft"
        draft.write_bytes(compiled)
        draft.replace(FOLDER / f"{key}{lru_cache._CACHE_SUFFIX}")

    lru_cache.LRUCache.put = put
    jax.config.update("jax_compilation_cache_dir", str(FOLDER))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
