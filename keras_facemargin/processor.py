"""The processor that a figure was measured on."""

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Instructions that decide the speed of bytes and floats, by their flag in Linux, the best first.
_INSTRUCTIONS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "i8mm": "I8MM",
    "asimddp": "dot product",
}


def processor() -> str:
    """The name of this machine's processor, with the instructions that its speed depends on.

    Returns:
        Such as "AMD EPYC (AVX2)"; without instructions where the system does not list them.
    """
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name") or platform.processor() or platform.machine()
    flags = set((found.get("flags") or found.get("Features") or "").split())
    best = next((words for flag, words in _INSTRUCTIONS.items() if flag in flags), "")
    return f"{name or 'unknown processor'}{f' ({best})' if best else ''}"
