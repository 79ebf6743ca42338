"""What MXNet itself does with our files; run by the Python of an environment that has it.

    python3.11 -m venv mxnet-env
    mxnet-env/bin/pip install mxnet==1.9.1 'numpy<1.24'
    mxnet-env/bin/python tools/benchmarks/mxnet_peer.py records FILE.rec
    mxnet-env/bin/python tools/benchmarks/mxnet_peer.py pairs FILE.bin
    mxnet-env/bin/python tools/benchmarks/mxnet_peer.py iterate FILE.rec

- records: a JSON line for each record, in the order of the index: key, label, id, id2 and the
  SHA-256 of the image's bytes, as `MXIndexedRecordIO` and `recordio.unpack` give them;
- pairs: InsightFace's `load_bin`: unpickles (executing it, so only files of one's own) and decodes
  with `mx.image.imdecode`; a JSON line for each image, the SHA-256 of its bytes and of its RGB
  pixels, and one with the list of `issame`;
- iterate: reads lines WAY<tab>BATCH_SIZE and answers each with the number of images that it passed
  over, and the line `cpu` with the seconds that this process has computed.

`benchmark_data.py` and `tests/data/test_against_mxnet.py` start it. It imports nothing of ours: the
versions that MXNet needs and those that Keras needs exclude each other.
"""

import hashlib
import json
import numbers
import os
import pickle
import random
import sys
import time

import mxnet as mx


def open_records(file):
    return mx.recordio.MXIndexedRecordIO(os.path.splitext(file)[0] + ".idx", file, "r")


def records(file):
    reader = open_records(file)
    for key in reader.keys:
        header, image = mx.recordio.unpack(reader.read_idx(key))
        label = header.label
        label = label if isinstance(label, numbers.Number) else label.tolist()
        print(json.dumps([key, label, header.id, header.id2, digest(image)]))


def pairs(file):
    try:
        with open(file, "rb") as stream:
            images, same = pickle.load(stream)
    except UnicodeDecodeError:
        with open(file, "rb") as stream:
            images, same = pickle.load(stream, encoding="bytes")
    for image in images:
        pixels = mx.image.imdecode(image).asnumpy()
        print(json.dumps([digest(image), digest(pixels.tobytes())]))
    print(json.dumps(list(map(bool, same))))


def digest(data):
    return hashlib.sha256(data).hexdigest()


def iterate(file):
    iterators, reader = {}, open_records(file)

    def native(batch_size, **augmentation):
        return mx.io.ImageRecordIter(
            path_imgrec=file,
            data_shape=(3, 112, 112),
            batch_size=batch_size,
            preprocess_threads=os.cpu_count(),
            round_batch=False,
            verbose=False,
            **augmentation,
        )

    makers = {
        "mxnet": native,
        # What our light augmentation does, by its own means.
        "mxnet augmented": lambda batch_size: native(
            batch_size,
            shuffle=True,
            pad=4,
            rand_crop=True,
            rand_mirror=True,
            brightness=0.1,
            contrast=0.2,
            saturation=0.3,
        ),
        "mxnet python": lambda batch_size: InsightFaceWay(reader, batch_size),
    }
    for line in sys.stdin:
        if line == "cpu\n":
            answer = time.process_time()
        else:
            if line not in iterators:
                way, batch_size = line.split("\t")
                iterators[line] = makers[way](int(batch_size))
            # With round_batch=False the last batch is filled up, and says that it was not.
            answer = min(pass_over(iterators[line]), len(reader.keys))
        print(answer, flush=True)


def pass_over(iterator):
    iterator.reset()  # also drops what was prefetched while others had their turn
    seen = 0
    for batch in iterator:
        batch.data[0].wait_to_read()
        batch.label[0].wait_to_read()
        seen += len(batch.label[0])
    return seen


class InsightFaceWay:
    """Its `FaceImageIter`: a record by its key, decoded, copied into a batch; all in Python."""

    def __init__(self, reader, batch_size):
        self._reader, self._batch_size = reader, batch_size
        self._keys = list(reader.keys)

    def reset(self):
        random.shuffle(self._keys)

    def __iter__(self):
        for start in range(0, len(self._keys), self._batch_size):
            keys = self._keys[start : start + self._batch_size]
            data = mx.nd.empty((self._batch_size, 3, 112, 112))
            labels = mx.nd.empty((self._batch_size,))
            for place, key in enumerate(keys):
                header, image = mx.recordio.unpack(self._reader.read_idx(key))
                data[place][:] = mx.nd.transpose(mx.image.imdecode(image), axes=(2, 0, 1))
                labels[place] = header.label
            yield mx.io.DataBatch([data], [labels])


if __name__ == "__main__":
    {"records": records, "pairs": pairs, "iterate": iterate}[sys.argv[1]](sys.argv[2])
