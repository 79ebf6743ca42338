"""The name of the processor beside a measured figure."""

import platform

import pytest

from keras_facemargin import processor

EPYC = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu {} rdrand\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (EPYC.format("avx2"), "AMD EPYC (AVX2)"),
        (EPYC.format("avx2 avx512f"), "AMD EPYC (AVX-512)"),
        (EPYC.format("avx2 avx512f avx512_vnni"), "AMD EPYC (AVX-512 VNNI)"),
        (EPYC.format("sse2"), "AMD EPYC"),
        ("Features\t: fp asimddp\n", "mine (dot product)"),
        (None, "mine"),  # another system
    ],
)
def test_the_name_has_the_instructions_that_decide_the_speed(tmp_path, monkeypatch, text, name):
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(processor, "_CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "mine")
    assert processor.processor() == name
