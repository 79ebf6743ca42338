"""The Kotlin and Swift code of a bundle, compiled and run without a phone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_embedder

from keras_facemargin.export import export_bundle, read_manifest
from keras_facemargin.images import Crop, align_face, synthesize_faces
from keras_facemargin.zoo import load_card

# Stand-ins for what the code calls of Android, iOS and LiteRT, each with an app.
ANDROID, IOS = (Path(__file__).parent / name for name in ("android", "ios"))
PYTHON = "\n".join((sys.executable, str(Path(__file__).with_name("embed.py"))))
# Debian's libandroid-json-org-java: Android's own org.json.
JSON = Path("/usr/share/java/json-android.jar")


@pytest.fixture(scope="module", params=["float32", "int8"])
def bundle(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("app") / "face"
    crops, _ = synthesize_faces(40, 2, seed=3)
    files = {"embedder.tflite": request.param}
    card = load_card("spherenet_distilled")  # for its thresholds
    export_bundle(tiny_embedder(), folder, files=files, card=card, images=crops)
    return folder


@pytest.mark.slow
def test_the_kotlin_code_compiles_and_passes_its_self_test(bundle, tmp_path):
    java, javac, kotlin = shutil.which("java"), shutil.which("javac"), kotlin_compiler()
    if not (java and javac and JSON.is_file()):
        pytest.skip("needs Java's development kit and libandroid-json-org-java")
    classes = tmp_path / "classes"
    run(javac, "-d", classes, *ANDROID.rglob("*.java"))
    path = os.pathsep.join(map(str, (classes, JSON)))
    code = (bundle / "FaceEmbedder.kt", ANDROID / "Main.kt")
    run(
        kotlin, *code, "-Werror", "-classpath", path, "-include-runtime", "-d", tmp_path / "app.jar"
    )
    # A face that is larger than the crop, turned and not in the middle: pixels as Android has them.
    photo, points, size = drawn_photo(bundle)
    red, green, blue = np.moveaxis(photo.astype(">i4"), 2, 0)
    ((255 << 24) - (1 << 32) + (red << 16) + (green << 8) + blue).astype(">i4").tofile(
        tmp_path / "photo.argb"
    )
    crop = tmp_path / "crop.rgb"
    words = run(
        java,
        f"-Dpython={PYTHON}",
        *("-classpath", os.pathsep.join((str(tmp_path / "app.jar"), path)), "MainKt"),
        *(bundle, tmp_path / "photo.argb", *size, *points.ravel(), crop),
    )
    check(words, crop, photo, points)


@pytest.mark.slow
def test_the_swift_code_compiles_and_passes_its_self_test(bundle, tmp_path, monkeypatch):
    swift = shutil.which("swiftc")
    if not swift:
        pytest.skip("needs Swift's compiler, which Debian 13 has as swiftlang")
    for name in ("CoreGraphics", "TensorFlowLite"):
        made = (
            "-o",
            tmp_path / f"lib{name}.so",
            "-emit-module-path",
            f"{tmp_path}/{name}.swiftmodule",
        )
        run(
            swift,
            "-emit-library",
            "-emit-module",
            "-module-name",
            name,
            IOS / f"{name}.swift",
            *made,
        )
    app = tmp_path / "app"
    run(
        *(
            swift,
            "-warnings-as-errors",
            bundle / "FaceEmbedder.swift",
            IOS / "main.swift",
            "-o",
            app,
        ),
        *("-I", tmp_path, "-L", tmp_path, "-lCoreGraphics", "-lTensorFlowLite"),
        *("-Xlinker", "-rpath", "-Xlinker", tmp_path),
    )
    photo, points, size = drawn_photo(bundle)
    rgba = np.dstack([photo, np.full(photo.shape[:2], 255, "uint8")])
    (tmp_path / "photo.rgba").write_bytes(rgba.tobytes())
    crop = tmp_path / "crop.rgb"
    monkeypatch.setenv("PYTHON", PYTHON)
    words = run(app, bundle, tmp_path / "photo.rgba", *size, *points.ravel(), crop)
    check(words, crop, photo, points)


def check(words, crop, photo, points):
    """What an app prints and writes."""
    right, swapped, cosine, same = words.split("\n")[:4]
    assert right == ""
    assert swapped == "BGR: blue comes before red"
    assert float(cosine) == pytest.approx(0.6)
    assert same == "true false"
    expected = align_face(photo, points, Crop.of())
    found = np.fromfile(crop, "uint8").reshape(expected.shape)
    assert np.abs(found.astype(int) - expected).mean() < 0.5


def drawn_photo(bundle):
    golden = read_manifest(bundle).selftest.photo
    pixels = np.fromfile(bundle / golden.rgb, "uint8").reshape(golden.height, golden.width, 3)
    return pixels, np.array(golden.points), (golden.width, golden.height)


def kotlin_compiler():
    """The compiler in the npm package kotlin-compiler, in the folder that NODE_MODULES names."""
    compiler = Path(os.environ.get("NODE_MODULES", ""), "kotlin-compiler/bin/kotlinc")
    if not compiler.is_file():
        pytest.skip("needs kotlin-compiler: set NODE_MODULES to a folder node_modules with it")
    return compiler


def run(*command):
    """The standard output of a program that must succeed."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_swift_code_parses(bundle):
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = tree_sitter.Language(pytest.importorskip("tree_sitter_swift").language())
    text = (bundle / "FaceEmbedder.swift").read_text(encoding="utf-8")
    assert not tree_sitter.Parser(grammar).parse(text.encode()).root_node.has_error
    broken = text.replace("static let height =", "static let height", 1)
    assert tree_sitter.Parser(grammar).parse(broken.encode()).root_node.has_error
