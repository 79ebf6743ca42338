"""The benchmark runs, and all ways lead to the same images; no test looks at a time."""

import csv
import importlib.util
import re
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_facemargin.data.folder import FaceFolder
from keras_facemargin.data.formats.recordio import RecordReader, unpack_record
from keras_facemargin.data.records import FaceRecords, write_face_records
from keras_facemargin.data.tfrecords import FaceTFRecords, write_face_tfrecords
from keras_facemargin.images.synthetic import write_synthetic_faces

WAYS = ["records", "shuffled", "tfrecord", "folder", "augmented", "layers", "adaface"]
TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "benchmark_data.py"


@pytest.fixture(scope="module")
def benchmark_data():
    pytest.importorskip("tensorflow")
    spec = importlib.util.spec_from_file_location("benchmark_data", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def records(tmp_path):
    files = write_synthetic_faces(tmp_path / "people", 3, 4)
    write_face_records(tmp_path / "faces.rec", files, np.repeat([0, 1, 2], 4))
    return FaceRecords(tmp_path / "faces.rec")


def test_all_ways_lead_to_the_same_images(benchmark_data, records, tmp_path):
    folder = FaceFolder(benchmark_data.write_files(tmp_path / "files", records))
    bare = list(benchmark_data.bare_dataset(records, 5).as_numpy_iterator())
    write_face_tfrecords(tmp_path / "faces.tfrecord", records.paths, records.labels)
    for faces in (records, folder, FaceTFRecords(tmp_path / "faces.tfrecord")):
        for (a, x), (b, y) in zip(bare, faces.dataset(5).as_numpy_iterator(), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(x, y)
    mixed = benchmark_data.shuffled(records)
    assert sorted(map(str, mixed.paths)) == sorted(map(str, records.paths))
    assert list(mixed.labels) != list(records.labels)


@pytest.mark.parametrize("given", [True, False])
def test_prints_ratios_with_their_aims_and_appends_them(
    benchmark_data, records, tmp_path, capsys, given
):
    figures = tmp_path / "figures.csv"
    tiny = ["--batch-size", "4", "--passes", "1", "--rounds", "1", "--csv", str(figures)]
    source = ["--records", records.file] if given else ["--people", "2"]
    benchmark_data.main([*tiny, *source])
    printed = capsys.readouterr().out
    aims = {"records": 0.85, "tfrecord": 0.85, "augmented": 0.6}
    for name, aim in aims.items():
        assert re.search(rf"{name} / bare .* {aim} (reached|missed)", printed)
    assert re.search(r"adaface / bare .* - ", printed)
    assert "Load of the machine" in printed
    assert "pip install mxnet==1.9.1" in " ".join(printed.split())
    with figures.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"].split()[0] for row in rows] == WAYS
    assert all(float(row["ratio"]) > 0 and float(row["images_per_second"]) > 0 for row in rows)


def test_another_process_takes_its_turns(benchmark_data, records, tmp_path, capsys):
    # Instead of MXNet: counts the requested passes.
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\n"
        "import sys, time\n"
        "for line in sys.stdin:\n"
        "    words = line.strip().split('\\t')\n"
        "    time.sleep(1e-3)\n"
        "    sum(range(100_000))\n"
        "    print(time.process_time() if line == 'cpu\\n' else words[1], flush=True)\n"
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    figures = tmp_path / "figures.csv"
    tiny = ["--batch-size", "4", "--passes", "2", "--rounds", "1", "--csv", str(figures)]
    tiny += ["--records", records.file, "--mxnet-python", str(python)]
    benchmark_data.main(tiny)
    printed = capsys.readouterr().out
    assert "records / mxnet" in printed and "left out" not in printed
    with figures.open(encoding="utf-8") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    for case in ("records / mxnet", "augmented / mxnet augmented", "shuffled / mxnet python"):
        assert float(rows[case]["ratio"]) > 0 and float(rows[case]["cpu_ratio"]) > 0


def test_a_process_that_ends_is_told_of(benchmark_data, records):
    with (
        pytest.raises(RuntimeError, match="pip install mxnet"),
        benchmark_data.Peer(sys.executable, "no.rec") as peer,
    ):
        peer.ask("cpu")


def test_mxnet_gets_the_images_and_nothing_else(benchmark_data, records, tmp_path):
    benchmark_data.write_plain_records(tmp_path / "plain.rec", records, 2)
    found = [unpack_record(payload) for _, payload in RecordReader(tmp_path / "plain.rec")]
    assert [each.image for each in found] == 2 * [each.read_bytes() for each in records.paths]
    assert [each.label for each in found] == 2 * records.labels.tolist()
    assert [each.id for each in found] == list(range(2 * len(records)))
