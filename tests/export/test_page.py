"""The page of a bundle decides as `keras_facemargin` does: in Node, and in a browser."""

import base64
import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from tiny import tiny_embedder

from keras_facemargin.export import export_bundle, read_manifest
from keras_facemargin.export.bundle.detector import write_detector
from keras_facemargin.export.bundle.manifest import read_expected
from keras_facemargin.export.bundle.page import has_page, write_page
from keras_facemargin.images import Crop, read_photo, synthesize_faces
from keras_facemargin.images.degrade import degrade
from keras_facemargin.images.mtcnn.networks import FirstNetwork, second_network, third_network
from keras_facemargin.images.mtcnn.weights import read_networks
from keras_facemargin.quality import Quality
from keras_facemargin.quality.resolution import effective_resolution
from keras_facemargin.recognizer import Face, Recognizer, load_recognizer
from keras_facemargin.zoo import load_card, load_embedder

IN_BROWSER = Path(__file__).parent / "page_in_browser.mjs"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle of a small embedder that has the card of the default one."""
    folder = tmp_path_factory.mktemp("page") / "made"
    card = load_card("spherenet_distilled")
    export_bundle(tiny_embedder(), folder, files={"embedder.onnx": "float32"}, card=card)
    return folder


def node(script, *arguments):
    """What a script prints in its last line, as JSON."""
    if shutil.which("node") is None:
        pytest.skip("needs node")
    run = subprocess.run(
        ["node", str(script), *map(str, arguments)], capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def modules(*names):
    """The folder node_modules that NODE_MODULES names."""
    folder = os.environ.get("NODE_MODULES")
    if folder is None or not all((Path(folder) / name).is_dir() for name in names):
        packages = " and ".join(names)
        pytest.skip(f"needs {packages}: set NODE_MODULES to a folder node_modules with it")
    return folder


# The networks of the detector.


@pytest.mark.parametrize("side", [12, 13, 24, 31, 48])
def test_the_first_network_gives_the_maps_of_numpy(tmp_path, side):
    write_detector(tmp_path)
    image = np.random.default_rng(side).uniform(-1, 1, (3, side, side + 5)).astype("float32")
    scores, offsets = FirstNetwork(read_networks()["pnet"])(image)
    session = onnxruntime.InferenceSession(tmp_path / "pnet.onnx")
    own, classes = session.run(["offsets", "classes"], {"image": image[None]})
    np.testing.assert_allclose(own[0], offsets, atol=1e-5)
    np.testing.assert_allclose(of_two(classes)[0], scores, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "side", "build"), [("rnet", 24, second_network), ("onet", 48, third_network)]
)
def test_the_later_networks_give_the_answers_of_numpy(tmp_path, name, side, build):
    write_detector(tmp_path)
    patches = np.random.default_rng(0).uniform(-1, 1, (5, 3, side, side)).astype("float32")
    scores, *others = build(read_networks()[name])(patches)
    outputs = ["classes", "offsets", "points"][: 1 + len(others)]
    session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx")
    classes, *own = session.run(outputs, {"image": patches})
    np.testing.assert_allclose(of_two(classes), scores, atol=1e-5)
    for mine, other in zip(own, others, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def of_two(classes):
    return 1 / (1 + np.exp(classes[:, 0] - classes[:, 1]))


# What a bundle has.


def test_the_readme_has_the_command_of_the_page_and_the_licence_of_its_detector(made):
    readme = (made / "README.md").read_text()
    assert "npm install" in readme and "http://localhost:8000/web/" in readme
    assert "WIDER FACE" in readme
    assert (made / "web/mtcnn-LICENSE.txt").read_text().startswith("MIT License")


def test_a_bundle_without_an_onnx_file_has_no_page(tmp_path):
    export_bundle(tiny_embedder(), tmp_path / "made", files={"embedder.tflite": "float32"})
    assert not (tmp_path / "made/web").exists()
    readme = (tmp_path / "made/README.md").read_text()
    assert "npm install" not in readme and "WIDER FACE" not in readme


def test_there_is_no_page_for_a_crop_without_a_template():
    assert has_page(Crop.of(160)) and not has_page(Crop(160, 120, None))


def test_the_page_contacts_no_other_server(made):
    page = (made / "web/index.html").read_text()
    assert "default-src 'none'" in page and "connect-src 'self'" in page
    for file in (made / "web").glob("*.mjs"):
        assert "https:" not in file.read_text(), file


def test_the_suffix_gives_the_embedding_before_it_is_normalised(made):
    added = json.loads((made / "web/settings.json").read_text())["unnormalised"]
    content = (made / "embedder.onnx").read_bytes() + base64.b64decode(added["suffix"])
    crops, _ = synthesize_faces(2, 1, seed=4)
    images = crops.astype("float32")
    session = onnxruntime.InferenceSession(content)
    own, unit = session.run([added["output"], "embedding"], {"image": images})
    expected = tiny_embedder().predict(images, verbose=0)
    np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-4)
    assert np.linalg.norm(own, axis=1).min() > 1.5
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)


# Without a runtime: quality and decisions.

# A runtime that runs nothing, and the files of a folder.
FAKE = """
import { readFileSync, writeFileSync } from "node:fs";
const folder = process.argv[2], job = JSON.parse(readFileSync(process.argv[3], "utf8"));
const { openRecognizer, sharpness } = await import(`file://${folder}/web/recognizer.mjs`);
const ort = { InferenceSession: { create: async () => ({}) } };
const read = async (path) => new Uint8Array(readFileSync(`${folder}/web/${path}`));
"""


def run_script(tmp_path, bundle, body, job):
    (tmp_path / "script.mjs").write_text(FAKE + body)
    (tmp_path / "job.json").write_text(json.dumps(job))
    return node(tmp_path / "script.mjs", bundle, tmp_path / "job.json")


@pytest.mark.parametrize("size", [112, (112, 96), 150, 160])
def test_the_page_measures_the_detail_of_a_crop(tmp_path, size):
    crop = Crop.of(size)
    made = tmp_path / "bundle"
    files = {"embedder.onnx": "float32"}
    assert export_bundle(tiny_embedder(size), made, files=files).models[0].verdict["passed"]
    clean, _ = synthesize_faces(4, 1, seed=2, size=crop)
    noise = np.random.default_rng(0).integers(0, 256, (*crop.shape, 3), dtype="uint8")
    crops = [*clean, noise, np.full_like(noise, 7)]
    crops += [degrade(each, kind) for each in clean for kind in ("blur2", "28px", "jpeg8")]
    found = run_script(
        tmp_path,
        made,
        """
        const { sharpness: window } = JSON.parse(readFileSync(`${folder}/web/settings.json`));
        console.log(JSON.stringify(job.map((crop) => sharpness(crop, window))));
        """,
        [each.ravel().tolist() for each in crops],
    )
    expected = effective_resolution(np.stack(crops))
    assert len(np.unique(expected)) > 8
    # A resized crop may differ by the rounding of a pixel.
    np.testing.assert_allclose(found, expected, atol=1e-6 if crop.height == 112 else 0.02)


GOOD = Quality(0.5, 30.0)
POINTS = (Crop.of(112).points * 0.2 + 30).tolist()  # 7 pixels between the eyes
# Cosine, the qualities of the two faces, the doubts about their points.
PAIRS = [
    (0.7, (GOOD, GOOD), ("", "")),
    (0.45, (GOOD, GOOD), ("", "")),
    (0.41, (GOOD, GOOD), ("", "")),
    (0.3, (GOOD, GOOD), ("", "")),
    (0.0, (GOOD, GOOD), ("", "")),
    (-0.3, (GOOD, GOOD), ("", "")),
    (0.7, (GOOD, Quality(0.5, 9.2)), ("", "")),
    (0.7, (Quality(0.5, 9.2), Quality(0.5, 14.0)), ("", "")),
    (0.7, (Quality(0.5, 9.2), Quality(0.5, 7.0)), ("", "")),
    (0.1, (GOOD, Quality(0.5, 9.2)), ("", "")),
    (0.5, (Quality(0.5, 9.2), Quality(0.5, 14.0)), ("", "")),
    (0.7, (Quality(0.5, 6.5), Quality(0.5, 7.0)), ("", "")),
    (0.1, (Quality(0.001, 8.0), Quality(0.004, 30.0)), ("", "")),
    (0.7, (Quality(0.004, 30.0), GOOD), ("", "")),
    (0.1, (Quality(0.004, 30.0), GOOD), ("", "")),
    (0.1, (Quality(None, 30.0), GOOD), ("", "")),
    (0.7, (GOOD, GOOD), ("", "only 1 of 4 windows around the face agree on them.")),
]
DECIDE = """
const recognizer = await openRecognizer(ort, read);
console.log(JSON.stringify(job.map(([first, second]) => recognizer.verify(first, second))));
"""


@pytest.mark.parametrize("limits", [True, False])
def test_the_page_decides_as_the_recognizer_does(made, tmp_path, limits):
    card = load_card("spherenet_distilled")
    if not limits:
        card = card.model_copy(update={"quality": None, "likelihood": None})
    folder = tmp_path / "bundle"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("web"))
    model = folder / "embedder.onnx"
    write_page(folder, model, card.crop, card=card, thresholds=card.thresholds.mirrored)
    embedder = SimpleNamespace(
        card=card, thresholds=card.thresholds, name=card.name, crop=card.crop
    )
    recognizer = Recognizer(embedder, lambda photo: [])
    pairs, expected = [], []
    for cosine, qualities, doubts in PAIRS:
        embeddings = [1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]
        faces = [
            Face(
                None, np.array(POINTS), 1.0, None, np.array(row, "float32"), quality, doubt or None
            )
            for row, quality, doubt in zip(embeddings, qualities, doubts, strict=True)
        ]
        expected.append(recognizer.verify(*faces))
        pairs.append(
            [
                {
                    "points": POINTS,
                    "embedding": face.embedding.tolist(),
                    "doubt": face.doubt or "",
                    "quality": vars(face.quality),
                }
                for face in faces
            ]
        )
    found = run_script(tmp_path, folder, DECIDE, pairs)
    for own, other in zip(found, expected, strict=True):
        assert (own["verdict"], own["reason"]) == (other.verdict, other.reason)
        assert own["sentence"] == other.sentence
    verdicts = {each.verdict for each in expected}
    assert verdicts == ({"same", "different", "cannot say"} if limits else {"cannot say"})
    if not limits:
        assert "7 pixels between the eyes on its photo" in found[0]["reason"]


def test_a_page_without_a_threshold_cannot_say(made, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("web"))
    write_page(folder, folder / "embedder.onnx", Crop.of(112), card=None, thresholds=())
    face = {"embedding": [1.0, 0.0], "doubt": "", "quality": vars(GOOD)}
    (answer,) = run_script(tmp_path, folder, DECIDE, [[face, face]])
    assert answer["verdict"] == "cannot say" and "--calibrate" in answer["sentence"]


# With a runtime, on real photos.


def assert_same_faces(own, faces, points=0.1, crop=0.5, cosine=0.9999):
    """Compares the faces of the page with those of a Recognizer, the largest first."""
    assert len(own) == len(faces)
    for mine, face in zip(own, faces, strict=True):
        assert np.linalg.norm(mine["points"] - face.points, axis=1).max() < points
        assert np.abs(np.array(mine["crop"], float) - face.crop.ravel()).mean() < crop
        a, b = np.array(mine["embedding"], float), face.embedding.astype(float)
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > cosine
        assert mine["quality"]["sharpness"] == pytest.approx(face.quality.sharpness, abs=0.5)


@pytest.mark.parametrize("size", [112, 150])
def test_node_finds_the_faces_of_real_photos(tmp_path, shared_data, size):
    made = tmp_path / "bundle"
    export_bundle(tiny_embedder(size), made, files={"embedder.onnx": "float32"})
    runtime = Path(modules("onnxruntime-web")) / "onnxruntime-web/dist/ort.node.min.mjs"
    recognizer = load_recognizer(tiny_embedder(size))
    photos = [read_photo(path) for path in sorted((shared_data / "photos").glob("*/*.jpg"))[:2]]
    group = np.concatenate(photos, axis=1)
    large = np.asarray(Image.fromarray(photos[0]).resize((1701, 1500)))
    photos += [group, large]
    for number, photo in enumerate(photos):
        (tmp_path / f"{number}.rgb").write_bytes(photo.tobytes())
    found = run_script(
        tmp_path,
        made,
        f"""
        const runtime = await import("file://{runtime}"), all = [];
        const recognizer = await openRecognizer(runtime, read);
        for (const [path, height, width] of job) {{
          const faces = await recognizer.faces({{ data: readFileSync(path), height, width }});
          all.push(faces.map((face) => ({{
            ...face, crop: [...face.crop], embedding: [...face.embedding],
          }})));
        }}
        console.log(JSON.stringify(all));
        """,
        [[str(tmp_path / f"{n}.rgb"), *photo.shape[:2]] for n, photo in enumerate(photos)],
    )
    assert len(found[2]) >= 2
    for own, photo in zip(found, photos, strict=True):
        assert_same_faces(own, recognizer.faces(photo))


# In a browser.


@contextlib.contextmanager
def served(folder):
    """The address of a plain file server for a folder."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def browse(bundle, tmp_path, page="web/", **options):
    """What `page_in_browser.mjs` reports about a page in a bundle."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium")
    with served(bundle) as address:
        job = {"modules": modules("puppeteer-core"), "chromium": chromium, "pairs": []}
        job |= {"url": f"{address}/{page}", "width": 1280, "height": 900} | options
        (tmp_path / "browser.json").write_text(json.dumps(job))
        found = node(IN_BROWSER, tmp_path / "browser.json")
    assert found["hosts"] == [address.removeprefix("http://")]
    assert not found.get("wide")
    return found


@pytest.fixture(scope="module")
def default_bundle(tmp_path_factory):
    """The bundle of the default embedder with the runtime of its page."""
    folder = tmp_path_factory.mktemp("default") / "bundle"
    runtime = modules("onnxruntime-web", "puppeteer-core")
    card = load_card("spherenet_distilled")
    embedder = load_embedder(card.name)
    export_bundle(embedder, folder, card=card)
    (folder / "web/node_modules").symlink_to(runtime)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_gives_the_answers_of_verify(default_bundle, tmp_path, shared_data, width):
    """Same people, strangers, a group, a blurred photo, a photo on its side, and a PNG file."""
    paths = [
        str(path)
        for person in ("George_W_Bush", "Colin_Powell")
        for path in sorted((shared_data / "photos" / person).glob("*.jpg"))[:2]
    ]
    images = [read_photo(path) for path in paths]
    kinds = {
        "group.png": Image.fromarray(np.concatenate(images, axis=1)),
        "blurred.png": Image.fromarray(images[0]).reduce(4).resize((250, 250)),
        "small.webp": Image.fromarray(images[2]).resize((120, 120)),
        "turned.jpg": Image.fromarray(np.rot90(images[0])),
        "large.jpg": Image.fromarray(images[1]).resize((2000, 2000)),
    }
    upright = Image.Exif()
    upright[0x112] = 6
    for name, image in kinds.items():
        options = {"exif": upright} if name == "turned.jpg" else {}
        image.save(tmp_path / name, quality=95, **options)
    own = [str(tmp_path / name) for name in kinds]
    pairs = [[paths[0], paths[1]], [paths[2], paths[3]], [paths[0], paths[2]]]
    pairs += [[own[0], own[1]], [own[2], own[3]], [own[4], paths[1]]]
    found = browse(default_bundle, tmp_path, pairs=pairs, width=width)
    assert found["status"] == "Ready." and not found["problems"]
    assert found["stops"][:2] == ["Choose the first photo", "Choose the second photo"]
    recognizer = load_recognizer()
    verdicts = set()
    for (first, second), answer in zip(pairs, found["answers"], strict=True):
        expected = recognizer.verify(first, second)
        for path, faces in zip((first, second), answer["faces"], strict=True):
            assert_same_faces(faces, recognizer.faces(path))
        assert answer["verdict"] == expected.verdict
        assert answer["cosine"] == pytest.approx(expected.cosine, abs=1e-3)
        assert expected.words in answer["text"] and expected.reason in answer["text"]
        verdicts.add(expected.verdict)
    assert verdicts == {"same", "different", "cannot say"}


@pytest.mark.slow
def test_a_browser_agrees_on_every_photo(default_bundle, tmp_path, shared_data):
    """The figures of docs/bundle.md."""
    paths = list(map(str, sorted((shared_data / "photos").glob("*/*.jpg"))))
    pairs = list(zip(paths[::2], paths[1::2], strict=True))
    answers = browse(default_bundle, tmp_path, pairs=pairs)["answers"]
    recognizer = load_recognizer()
    count = 0
    for pair, answer in zip(pairs, answers, strict=True):
        faces = [recognizer.faces(path) for path in pair]
        for own, other in zip(answer["faces"], faces, strict=True):
            assert_same_faces(own, other, points=0.001, crop=0.01, cosine=0.99999)
            count += len(own)
        expected = recognizer.verify(*(each[0] for each in faces))
        assert answer["verdict"] == expected.verdict
    assert (len(pairs), count) == (125, 303)


@pytest.mark.slow
def test_a_browser_names_what_is_wrong_with_a_photo(default_bundle, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / "noise.png")
    (tmp_path / "words.jpg").write_text("not a photo")
    pair = [str(tmp_path / "noise.png"), str(tmp_path / "words.jpg")]
    (answer,) = browse(default_bundle, tmp_path, pairs=[pair])["answers"]
    assert answer["notes"][0].startswith("No face was found.")
    assert "Received: words.jpg" in answer["notes"][1]
    assert "verdict" not in answer and "Choose two photos." in answer["text"]


@pytest.mark.slow
def test_a_browser_names_what_is_missing_or_wrong_in_the_folder(default_bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(default_bundle, folder, ignore=shutil.ignore_patterns("node_modules"))
    assert "npm install" in browse(folder, tmp_path)["status"]
    (folder / "web/node_modules").symlink_to(modules("onnxruntime-web"))
    for crop in folder.glob("selftest/crop_?.rgb"):
        pixels = np.frombuffer(crop.read_bytes(), "uint8").reshape(-1, 3)
        crop.write_bytes(pixels[:, ::-1].tobytes())
    assert (
        "The self-test failed in this browser. Received: BGR"
        in (browse(folder, tmp_path)["status"])
    )


LITERT = """<!doctype html>
<link rel="icon" href="data:,">
<script type="importmap">{"imports": {
  "@litertjs/core": "./web/node_modules/@litertjs/core/dist/index.js",
  "@litertjs/wasm-utils": "./web/node_modules/@litertjs/wasm-utils/dist/index.js"
}}</script>
<script type="module">
import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { HEIGHT, selfTest, WIDTH } from "./face_embedder.mjs";
await loadLiteRt("./web/node_modules/@litertjs/core/wasm/");
const model = await loadAndCompile("./embedder.tflite", { accelerator: "wasm" }), embeddings = [];
const embed = async (crop) => {
  const image = new Tensor(Float32Array.from(crop), [1, HEIGHT, WIDTH, 3]);
  embeddings.push([...(await (await model.run({ image })).embedding.data())]);
  return embeddings.at(-1);
};
const read = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
window.result = { fault: await selfTest(embed, read), embeddings };
</script>
"""


@pytest.mark.slow
def test_litert_js_runs_the_tflite_file(default_bundle, tmp_path):
    modules("@litertjs/core", "@litertjs/wasm-utils")
    (default_bundle / "litert.html").write_text(LITERT)
    result = browse(default_bundle, tmp_path, "litert.html", expression="window.result")["result"]
    assert result["fault"] == ""
    model = next(m for m in read_manifest(default_bundle).models if m.format == "tflite")
    expected = read_expected(default_bundle, model)
    for own, other in zip(result["embeddings"][:2], expected.crops, strict=True):
        assert np.dot(own, other) / np.linalg.norm(own) / np.linalg.norm(other) > 0.9999
