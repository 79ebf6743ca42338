"""A bundle is opened here as the developer of an app opens it: by its files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from one_sentence import assert_one_sentence
from PIL import Image
from processes import run_command
from tiny import tiny_embedder

from keras_facemargin import cli
from keras_facemargin.cli.console import console
from keras_facemargin.data import FaceFolder
from keras_facemargin.export import (
    ExportError,
    Tolerance,
    check_bundle,
    export_bundle,
    export_embedder,
    read_manifest,
)
from keras_facemargin.export.bundle import write
from keras_facemargin.export.bundle.manifest import read_expected, schema
from keras_facemargin.export.bundle.selftest import diagnose
from keras_facemargin.images import Crop, align_face, synthesize_faces, write_synthetic_faces
from keras_facemargin.zoo import open_embedder

FILES = {"embedder.tflite": "float32", "small.tflite": "int8", "embedder.onnx": "float32"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle of a small embedder, in three files."""
    folder = tmp_path_factory.mktemp("bundle") / "made"
    crops, _ = synthesize_faces(40, 2, seed=3)
    export_bundle(tiny_embedder(), folder, files=FILES, images=crops)
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A copy to damage."""
    shutil.copytree(made, tmp_path / "copied")
    return tmp_path / "copied"


def app(bundle, file):
    """The app's program: from an array to the tensor of the file, as it is, to the embedding."""
    interpreter = Interpreter(model_path=str(bundle / file))
    run = interpreter.get_signature_runner("serving_default")
    return lambda values: run(image=np.ascontiguousarray(values)[None])["embedding"][0].copy()


def crops_of(bundle):
    return [np.asarray(Image.open(bundle / f"selftest/crop_{one}.png")) for one in (1, 2)]


def moved(x, y):
    return lambda crop: np.roll(crop, (y, x), axis=(0, 1)).astype("float32")


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

# What the programs of apps do with the bytes of a crop before a file with a float input ...
FLOAT_FAULTS = [
    ("BGR", lambda crop: crop[..., ::-1].astype("float32")),
    ("0..1", lambda crop: crop.astype("float32") / 255),
    ("0..1", lambda crop: crop.astype("float32") / 256),
    ("normalised twice", lambda crop: crop.astype("float32") / 127.5 - 1),
    ("normalised twice", lambda crop: (crop.astype("float32") - 127.5) / 128),
    ("normalised twice", lambda crop: ((crop / 255 - IMAGENET[0]) / IMAGENET[1]).astype("f4")),
    ("NCHW", lambda crop: np.moveaxis(crop, 2, 0).astype("float32").reshape(112, 112, 3)),
    ("shifted crop", moved(5, 3)),
    ("shifted crop", moved(-9, 4)),
    ("shifted crop", moved(0, -12)),
    ("shifted crop", moved(-12, -13)),
    ("constant output", lambda crop: np.zeros((112, 112, 3), "float32")),
    ("constant output", lambda crop: np.full((112, 112, 3), 90, "float32")),
]
# ... and with a uint8 input.
BYTE_FAULTS = [
    ("BGR", lambda crop: crop[..., ::-1]),
    ("0..1", lambda crop: (crop / 255).astype("uint8")),
    ("0..1", lambda crop: np.rint(crop / 255).astype("uint8")),
    (
        "normalised twice",
        lambda crop: np.rint((crop / 127.5 - 1) * 127.5 - 0.5).astype("int8").view("uint8"),
    ),
    ("normalised twice", lambda crop: np.rint(crop / 127.5 - 1).astype("int8").view("uint8")),
    ("NCHW", lambda crop: np.moveaxis(crop, 2, 0).reshape(112, 112, 3)),
    ("shifted crop", lambda crop: moved(5, 3)(crop).astype("uint8")),
    ("shifted crop", lambda crop: moved(0, -12)(crop).astype("uint8")),
    ("constant output", lambda crop: np.full((112, 112, 3), 90, "uint8")),
]


@pytest.mark.parametrize(("name", "fault"), FLOAT_FAULTS)
def test_each_fault_has_its_name_with_a_float_file(made, name, fault):
    expected = read_expected(made, read_manifest(made).models[0])
    embed = app(made, "embedder.tflite")
    found = diagnose([embed(fault(crop)) for crop in crops_of(made)], expected)
    assert found.faults == (name,), found


@pytest.mark.parametrize(("name", "fault"), BYTE_FAULTS)
def test_each_fault_has_its_name_with_an_int8_file(made, name, fault):
    expected = read_expected(made, read_manifest(made).models[1])
    embed = app(made, "small.tflite")
    found = diagnose([embed(fault(crop)) for crop in crops_of(made)], expected)
    assert found.faults == (name,), found


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_an_embedding_of_zeros_or_nan_is_constant_output(made, bad):
    expected = read_expected(made, read_manifest(made).models[0])
    assert diagnose([np.full(24, bad)] * 2, expected).faults == ("constant output",)


def test_an_embedding_of_something_else_is_an_unknown_fault(made):
    expected = read_expected(made, read_manifest(made).models[0])
    other = np.random.default_rng(0).normal(size=(2, 24))
    assert diagnose(list(other), expected).faults == ("unknown fault",)


def test_the_right_program_passes_with_rounding_of_a_gpu(made):
    expected = read_expected(made, read_manifest(made).models[0])
    embed = app(made, "embedder.tflite")
    halves = [embed(crop.astype("float32")).astype("float16") for crop in crops_of(made)]
    assert diagnose(halves, expected).faults == ()


def test_the_bundle_passes_its_own_check(made):
    checked = check_bundle(made)
    assert checked.passed
    assert {one.step for one in checked.findings} >= {
        f"{file} on the {images}" for file in FILES for images in ("crops", "photo")
    }


def test_the_manifest_states_the_signature_of_each_file(made):
    for one in read_manifest(made).models:
        if one.format == "tflite":
            interpreter = Interpreter(model_path=str(made / one.file))
            ((image,), (embedding,)) = (
                interpreter.get_input_details(),
                interpreter.get_output_details(),
            )
            assert tuple(image["shape"]) == one.input.shape
            assert np.dtype(image["dtype"]).name == one.input.dtype
            assert embedding["shape"][1] == one.output.embedding_dim
            assert interpreter.get_signature_list() == {
                "serving_default": {"inputs": [one.input.name], "outputs": [one.output.name]}
            }
        assert one.embedding_id == open_embedder(made / one.file).embedding_id
        assert one.output.normalised is (one.precision == "float32")
        assert one.verdict["path"] == one.file


def test_the_manifest_is_of_its_schema(made):
    assert json.loads((made / "manifest.schema.json").read_text()) == schema()
    fields = json.loads((made / "manifest.json").read_text())
    assert set(fields) == set(schema()["properties"])


def test_thresholds_are_those_of_the_very_file(tmp_path):
    faces = tmp_path / "people"
    write_synthetic_faces(faces, 12, 3)
    people = FaceFolder(faces)
    files = {"small.tflite": "int8", "embedder.tflite": "float32"}
    crops, _ = synthesize_faces(40, 2, seed=3)
    manifest = export_bundle(
        tiny_embedder(), tmp_path / "made", files=files, images=crops, people=people, fars=[0.01]
    )
    found = [one.thresholds for one in manifest.models]
    assert [one.of for one in found] == ["this file"] * 2
    assert found[0].single[0].cosine != found[1].single[0].cosine
    for name, thresholds in zip(files, found, strict=True):
        (threshold,) = thresholds.single
        images = np.stack([np.asarray(Image.open(path)) for path in people.paths])
        rows = open_embedder(tmp_path / "made" / name)(images)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        strangers = people.labels[:, None] != people.labels
        impostors = (rows @ rows.T)[strangers & np.tri(36, k=-1, dtype=bool)]
        assert len(impostors) == threshold.impostor_pairs == 594
        assert (impostors > threshold.cosine + 1e-6).sum() <= 5
        assert (impostors > threshold.cosine - 1e-6).sum() in (6, 5)
    readme = (tmp_path / "made/README.md").read_text()
    assert f"{found[0].single[0].cosine:.4f}" in readme
    code = (tmp_path / "made/face_embedder.py").read_text()
    assert f"THRESHOLDS = [[0.01, {round(found[0].single[0].cosine, 4)}]]" in code


def test_the_command_writes_a_bundle(tmp_path, facemargin, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_embedder().save("tiny.keras")
    write_synthetic_faces("people", 12, 3)
    arguments = ("--model", "tiny.keras", "--calibrate", "people")
    code, out, _ = facemargin("export", "--bundle", "made", *arguments)
    assert code == 0
    assert "embedder.onnx" in out and "this file" in out and "0.01" in out
    manifest = read_manifest("made")
    assert [one.precision for one in manifest.models] == ["float32", "float32"]
    assert {one.thresholds.of for one in manifest.models} == {"this file"}
    assert manifest.models[0].verdict["decisions"]["impostor_pairs"] == 594
    assert "Decisions" in Path("made/verdict.html").read_text()
    page = json.loads(Path("made/web/settings.json").read_text())
    assert "594 impostor pairs" in page["threshold"]["origin"]
    # Nothing is done before the refusal.
    result = facemargin("export", "--bundle", "made", "--model", "missing.keras")
    assert_one_sentence(result, "made", "in use")
    assert_one_sentence(facemargin("export"), "--output FILE", "--bundle DIR", "neither")
    both = facemargin("export", "--bundle", "other", "--output", "face.onnx")
    assert_one_sentence(both, "--bundle other")
    lonely = facemargin("export", "--output", "face.onnx", "--pairs", "pairs.txt")
    assert_one_sentence(lonely, "--pairs without --calibrate")
    page = facemargin("export", "--bundle", "other", "--report", "page.html")
    assert_one_sentence(page, "verdict.html")


# The code for apps.


def similarity(seed):
    """Five points of a face on a photo: small and large, turned, also beyond the border."""
    rng = np.random.default_rng(seed)
    scale, turn = rng.uniform(0.4, 5), rng.uniform(-1, 1)
    turned = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = Crop(112, 112).points
    return (
        (points - points.mean(0)) @ turned.T + rng.uniform(100, 260, 2) + rng.normal(0, 1, (5, 2))
    )


@pytest.fixture(scope="module")
def photo():
    """A photo with edges, 401x303: partial squares at its border."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (38, 51, 3)).astype("uint8")
    return np.asarray(Image.fromarray(coarse).resize((401, 303), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def client(made):
    """The Python code of the bundle, as an app imports it."""
    names = {"__name__": "face_embedder", "__file__": str(made / "face_embedder.py")}
    exec(compile((made / "face_embedder.py").read_text(), "face_embedder.py", "exec"), names)
    return names


@pytest.mark.parametrize("seed", range(8))
def test_the_python_code_aligns_to_one_grey_level(client, photo, seed):
    points = similarity(seed)
    own = client["align"](photo, points).astype(float)
    assert np.abs(own - align_face(photo, points)).mean() < 0.5


def test_the_python_code_aligns_real_photos_to_one_grey_level(client, shared_data):
    lines = (shared_data / "lfw/landmarks.jsonl").read_text().splitlines()
    rows = {row["file"]: row.get("r") for row in map(json.loads, lines)}
    for path in sorted((shared_data / "photos").glob("*/*.jpg"))[:40]:
        points = rows[f"{path.parent.name}/{path.name}"]["pts"]
        image = np.asarray(Image.open(path).convert("RGB"))
        own = client["align"](image, points).astype(float)
        assert np.abs(own - align_face(image, points)).mean() < 0.5


def test_the_python_code_compares_and_names_a_fault(client, made):
    embed = client["Embedder"]()
    first, second = crops_of(made)
    assert client["self_test"](embed) == ""
    assert client["self_test"](lambda crop: embed(crop[..., ::-1])).startswith("BGR: ")
    assert client["cosine"](embed(first), embed(second)) < 0.9
    with pytest.raises(ValueError, match=r"no threshold.*Received: far=0.5"):
        client["same_person"](0.3, far=0.5)


def node(*arguments, folder):
    if shutil.which("node") is None:
        pytest.skip("needs node")
    return subprocess.run(
        ["node", *map(str, arguments)], capture_output=True, text=True, cwd=folder, timeout=120
    )


def test_the_javascript_code_aligns_to_one_grey_level(made, photo, tmp_path):
    photos = [similarity(seed).tolist() for seed in range(8)]
    (tmp_path / "photo.rgb").write_bytes(photo.tobytes())
    (tmp_path / "points.json").write_text(json.dumps(photos))
    (tmp_path / "align.mjs").write_text(
        f"""
        import {{ readFileSync, writeFileSync }} from "node:fs";
        import {{ align, cosine, samePerson }} from "{(made / "face_embedder.mjs").as_uri()}";
        const data = readFileSync("photo.rgb"), points = JSON.parse(readFileSync("points.json"));
        const crops = points.map((each) => align({{ data, width: 401, height: 303 }}, each));
        writeFileSync("crops.rgb", Buffer.concat(crops));
        console.log(cosine([1, 0], [1, 1]));
        try {{ samePerson(0.5, 0.5); }} catch (error) {{ console.log(error.message); }}
        """
    )
    run = node("align.mjs", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    cosine, message = run.stdout.splitlines()
    assert float(cosine) == pytest.approx(0.5**0.5)
    assert message.endswith("Received: 0.5")
    crops = np.frombuffer((tmp_path / "crops.rgb").read_bytes(), "uint8").reshape(8, 112, 112, 3)
    for crop, points in zip(crops, photos, strict=True):
        assert np.abs(crop.astype(float) - align_face(photo, points)).mean() < 0.5


def test_the_javascript_code_passes_its_self_test(copied):
    modules = os.environ.get("NODE_MODULES")
    if modules is None:
        pytest.skip("needs onnxruntime-node: set NODE_MODULES to a folder node_modules with it")
    (copied / "node_modules").symlink_to(modules)
    run = node(copied / "face_embedder.mjs", folder=copied)
    assert (run.stdout, run.returncode) == ("The self-test passed.\n", 0), run.stderr
    runner = f"node {copied / 'face_embedder.mjs'}"
    assert check_bundle(copied, runner=runner, model="embedder.onnx", photo=True).passed


def test_the_code_has_the_values_of_its_file(made):
    manifest = read_manifest(made)
    for name in ("face_embedder.py", "face_embedder.mjs", "FaceEmbedder.kt", "FaceEmbedder.swift"):
        text = (made / name).read_text()
        (model,) = (one for one in manifest.models if f'"{one.file}"' in text)
        assert model.embedding_id in text
        assert "38.2946" in text and "92.2041" in text
        assert "@MADE" not in text
    assert "const val BYTES = false" in (made / "FaceEmbedder.kt").read_text()


# The check of a bundle, and the program of an app.


@pytest.fixture
def facemargin(monkeypatch, capsys):
    monkeypatch.setattr(console, "width", 200)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["facemargin", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, *capsys.readouterr()

    return run


def test_the_command_runs_the_program_of_an_app(made, facemargin):
    program = f"{sys.executable} {made / 'face_embedder.py'}"
    code, out, _ = facemargin("bundle", "check", made, "--runner", program, "--photo")
    assert code == 0
    assert "the program on the photo" in out and "The bundle passed." in out


def test_the_check_does_not_import_keras(made):
    code, out, _, packages = run_command("bundle", "check", made)
    assert code == 0 and "The bundle passed." in out
    assert not packages & {"keras", "tensorflow", "jax", "torch", "matplotlib"}


def program(folder, body):
    """A runner; the line `result` is what it prints."""
    file = folder / "program.py"
    file.write_text(f"import json, sys, time\n{body}\nprint(result)\n")
    return f"{sys.executable} {file}"


@pytest.mark.parametrize(
    ("body", "received"),
    [
        ("result = 'ready'", "'ready'"),
        ("result = ''", "''"),
        ("result = '{\"embedding\": [1, 2]}'", "embedding"),
        ("result = '[1, true]'", "[1, true]"),
        ("result = json.dumps([0.5] * 23)", "23 numbers"),
        ("time.sleep(60)", "more than 0.5 seconds"),
        ("raise SystemExit('no such model')", "code 1: no such model"),
    ],
)
def test_a_program_without_an_embedding_is_one_sentence(made, tmp_path, facemargin, body, received):
    runner = program(tmp_path, body)
    # Longer than the start of Python, but for the program that hangs.
    seconds = 0.5 if "sleep" in body else 60
    result = facemargin("bundle", "check", made, "--runner", runner, "--timeout", seconds)
    assert_one_sentence(result, "The runner must print an embedding", received)


@pytest.mark.parametrize("runner", ["/nowhere/program", "", '"open'])
def test_a_program_that_cannot_be_started_is_one_sentence(made, facemargin, runner):
    assert_one_sentence(facemargin("bundle", "check", made, "--runner", runner), "The runner must")


def test_a_constant_program_is_named_in_json(made, tmp_path, facemargin):
    numbers = np.random.default_rng(1).normal(size=24).tolist()
    runner = program(tmp_path, f"result = {json.dumps(numbers)}")
    code, out, _ = facemargin("bundle", "check", made, "--runner", runner, "--json")
    found = json.loads(out)
    assert (code, found["passed"]) == (1, False)
    assert found["findings"][-1]["faults"] == ["constant output"]


def test_a_tampered_model_file_is_found(copied, facemargin):
    model = copied / "embedder.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    code, out, _ = facemargin("bundle", "check", copied)
    assert code == 1
    assert "embedder.onnx" in out and "damaged file" in out and "SHA-256 differs" in out


def test_a_missing_file_is_found(copied):
    (copied / "selftest/crop_2.rgb").unlink()
    (wrong,) = [one for one in check_bundle(copied).findings if one.faults]
    assert wrong.step == "selftest/crop_2.rgb" and "missing" in wrong.words


@pytest.mark.parametrize(
    ("change", "received"),
    [
        ({"colour": "blue"}, "field `colour` is unknown"),
        ({"schema_version": 2}, "must have `schema_version` 1. Received: 2"),
        ({"models": []}, "field `models` must be a list of 1 or more"),
        ({"digests": {"../other": "0" * 64}}, "digests"),
    ],
)
def test_a_wrong_manifest_is_one_sentence(copied, facemargin, change, received):
    path = copied / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert_one_sentence(facemargin("bundle", "check", copied), "manifest.json", received)


def test_a_folder_that_is_not_a_bundle_is_one_sentence(tmp_path, facemargin):
    assert_one_sentence(facemargin("bundle", "check", tmp_path), "without one", "manifest.json")
    result = facemargin("bundle", "check", tmp_path / "missing")
    assert_one_sentence(result, "is not a folder")


def test_an_unknown_model_file_and_a_photo_without_a_program_are_refused(made):
    with pytest.raises(ValueError, match=r"small.tflite.*Received: 'other.onnx'"):
        check_bundle(made, model="other.onnx")
    with pytest.raises(ValueError, match="without a runner"):
        check_bundle(made, photo=True)


# The folder appears in one step.


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="must not exist, or be empty"):
        export_bundle(tiny_embedder(), tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("files", [{}, {"embedder.pb": "float32"}, {"a/b.onnx": "float32"}])
def test_wrong_names_are_refused(tmp_path, files):
    with pytest.raises(ValueError, match="Received"):
        export_bundle(tiny_embedder(), tmp_path / "made", files=files)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch, error):
    def interrupted(*arguments, **options):
        Path(arguments[1]).write_bytes(b"half")
        raise error

    monkeypatch.setattr(write, "export_embedder", interrupted)
    with pytest.raises(type(error)) as caught:
        export_bundle(tiny_embedder(), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []
    if isinstance(error, OSError):
        assert caught.value.filename == str(tmp_path / "made")


def test_a_file_that_misses_its_tolerance_is_kept_beside_the_folder(tmp_path, monkeypatch):
    def strict(*arguments, **options):
        return export_embedder(*arguments, **options, tolerance=Tolerance(1.1, 1.1))

    monkeypatch.setattr(write, "export_embedder", strict)
    with pytest.raises(ExportError, match=r"made\.embedder\.tflite\.failed"):
        export_bundle(tiny_embedder(), tmp_path / "made")
    assert [one.name for one in tmp_path.iterdir()] == ["made.embedder.tflite.failed"]


def test_a_crop_of_another_template_has_points_of_its_own(tmp_path):
    folder = tmp_path / "made"
    files = {"embedder.tflite": "float32"}
    manifest = export_bundle(tiny_embedder((112, 96)), folder, files=files)
    assert manifest.crop.template == "sphereface"
    assert not (folder / "face_embedder.mjs").exists()  # no file for it
    assert check_bundle(folder).passed
    run = subprocess.run([sys.executable, folder / "face_embedder.py"], capture_output=True)
    assert run.stdout == b"The self-test passed.\n", run.stderr
