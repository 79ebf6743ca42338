"""Fixtures and rules for every test: the measured data, and the backends of each test."""

import functools
import gc
import importlib
import os
from pathlib import Path

import pytest
from file_server import serve
from jax_cache import keep_compiled_functions

CHECKOUT = Path(__file__).resolve().parents[1]
# XLA compiles each operation for each shape: most of the time of the jax suite, of which its newer
# code for fusions and LLVM's optimisation are a third each. Processes of the tests inherit flags.
QUICK_XLA = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real faces, protocols and foreign files; a test that needs it skips without."""
    path = Path(os.environ.get("FACEMARGIN_DATA", CHECKOUT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"needs the measured data: no folder {path}; set FACEMARGIN_DATA")
    return path


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine, see `file_server`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as running:
        yield running


def pytest_configure(config):
    """Quick XLA, and two logical CPU devices, so that MirroredStrategy has replicas to disagree.

    The process that only distributes the tests to its workers imports no backend: its import would
    be seconds in which no test runs.
    """
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import keras

    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_XLA}"
    os.environ["JAX_THREEFRY_PARTITIONABLE"] = "0"
    # The modules of a backend take a full collection 0.3 s, and stay; what jax keeps of compiled
    # functions makes collections a quarter of the time at the end of its tests.
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)
    if keras.backend.backend() == "jax":
        import jax

        # Random numbers that no device shares. XLA compiles a draw for each shape, and jax's
        # default draw takes it ten times as long: 1.5 s for each kernel of a network.
        jax.config.update("jax_threefry_partitionable", False)
        keep_compiled_functions()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf
        from tensorflow.python import pywrap_tfe
        from tensorflow.python.client import pywrap_tf_session
        from tensorflow.python.util import tf_stack

        # `keras.utils.set_random_seed`, which runs before each test, makes TensorFlow forget the
        # kernels of all operations: two thirds of the time of tests that run without a graph. Only
        # TensorFlow's own random operations have a state in a kernel, and Keras draws with none.
        pywrap_tfe.TFE_ContextClearCaches = lambda context: None
        # Each operation of a graph keeps the Python stack that made it, for error messages. Under
        # pytest a stack is long: a sixth of the time of tests that trace.
        tf_stack.extract_stack = lambda stacklevel=1: None
        pywrap_tf_session.TF_SetOpStackTrace = lambda operation, stack: None
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )


@pytest.fixture(scope="session", autouse=True)
def _draw_each_synthetic_face_once():
    """Most commands draw the same people; only `test_synthetic.py` draws them again."""
    from keras_facemargin.images import synthetic

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_people", functools.cache(synthetic._people))
        yield


@pytest.fixture(scope="session", autouse=True)
def _move_the_template_once():
    """Most sets of the tests are noise, for which each opening searches all moves: 34 MB."""
    from keras_facemargin.images import alignment_check

    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(alignment_check._moved_template)
        patch.setattr(alignment_check, "_moved_template", cached)
        yield


@pytest.fixture
def real_plots():
    """Takes part in a test that looks at the plots, where the others have `empty_plots`."""


@pytest.fixture
def empty_plots(monkeypatch, request):
    """Figures are made and saved as empty pictures: matplotlib takes most of the time of a page.

    `tests/evaluate` and `tests/report` draw every plot.
    """
    if "real_plots" in request.fixturenames:
        return
    from matplotlib.figure import Figure
    from PIL import Image

    empty = Image.new("L", (1, 1))
    monkeypatch.setattr(Figure, "savefig", lambda _, file, format=None: empty.save(file, format))


@pytest.fixture(scope="module")
def short_finetuning():
    """A tenth of the steps of `finetune`, for tests of what is around it."""
    fit = importlib.import_module("keras_facemargin.training.finetune.fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "_STEPS", 6)
        patch.setattr(fit, "_LEAST_EPOCHS", 3)
        yield


@pytest.fixture(autouse=True)
def _seed():
    import keras

    keras.utils.set_random_seed(0)


# Files of a quarter of a minute or more. They come first, so that a worker does not run one of them
# alone at the end.
LONG = (
    "heads/test_contract.py",
    "test_docs.py",
    "losses/test_losses.py",
    "augmentation/test_layers.py",
    "callbacks/test_exact_resume.py",
    "export/test_layers.py",
    "heads/margin_head/test_shards.py",
    "cli/test_training.py",
    "cli/test_evaluate.py",
    "data/test_faces.py",
    "test_demo.py",
    "test_classifier.py",
    "test_embedder.py",
    "training/test_run.py",
    "training/finetune/test_run.py",
    "zoo/test_convert.py",
    "zoo/test_maps.py",
    "test_fitting.py",
    "tools/test_default_embedder.py",
    "cli/test_bench.py",
    "cli/test_embedders.py",
)


def pytest_ignore_collect(collection_path, config):
    """`-m any_backend` imports no file without such a test: some import TensorFlow, seconds."""
    if "any_backend" in config.getoption("markexpr") and collection_path.match("test_*.py"):
        return "any_backend" not in collection_path.read_text(encoding="utf-8") or None
    return None


def pytest_collection_modifyitems(items):
    """Tests of TensorFlow-only rooms (data, export, tf.distribute) skip on other backends."""
    import keras

    place = {CHECKOUT / "tests" / file: number for number, file in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return
    for item in items:
        if "any_backend" not in item.keywords:
            reason = f"promised on tensorflow only, not on {backend}"
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter):
    """How much of the heads' contract was shown in this run: heads x settings x properties."""
    heads, settings, properties, checks = set(), set(), set(), 0
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    for report in terminalreporter.stats.get("passed", []):
        path, _, name = report.nodeid.rpartition("::")
        if report.when == "call" and path.endswith("test_contract.py") and "[" in name:
            function, _, parameters = name.rstrip("]").partition("[")
            case = next((p for p in parameters.split("-") if p[:1].isupper()), None)
            if case is None:
                continue
            heads.add(case.split(" ")[0])
            settings.add(case)
            properties.add(function)
            checks += 1
    if checks:
        terminalreporter.write_line(
            f"heads' contract on {backend}: {len(heads)} heads "
            f"({len(settings)} settings) x {len(properties)} properties, {checks} checks passed"
        )
