"""Writes tests/golden/tfa_pairwise.json: the answers of tensorflow-addons 0.23 for a few batches.

tensorflow-addons runs only with TensorFlow 2.15 and Keras 2 on Python 3.11, so it needs its own
environment, outside the checkout. Two commands:

    python3.11 -m venv /tmp/tfa && /tmp/tfa/bin/pip install \
        'tensorflow-cpu==2.15.*' tensorflow-addons==0.23.0
    /tmp/tfa/bin/python tools/assets/write_tfa_golden.py

The file has the inputs of each batch, and the class, arguments, value and gradient by the inputs of
each case; null where tensorflow-addons gives NaN or infinity.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "tfa_pairwise.json"
METRICS = ("L2", "squared-L2", "angular", "manhattan")


def manhattan(embeddings):
    """A custom metric: the sum of absolute differences."""
    return tf.reduce_sum(tf.abs(embeddings[:, None, :] - embeddings[None, :, :]), axis=-1)


def batches():
    """Name -> (labels, embeddings)."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype("float32")

    def unit(*shape):
        x = normal(*shape)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    twins = normal(12, 4)
    twins[1], twins[5] = twins[0], twins[4]
    lattice = rng.integers(-2, 3, (12, 4)).astype("float32")
    lattice[3:6] = -lattice[:3]  # mean 0: its distances are exact in any order of summation
    lattice[6:] = lattice[:6]
    return {
        "random": (rng.integers(0, 4, 12), normal(12, 4)),
        "random, of length 1": (rng.integers(0, 5, 12), unit(12, 4)),
        "random, wide": (rng.integers(0, 3, 12), 4 * normal(12, 4)),
        "random, far from the origin": (rng.integers(0, 3, 12), normal(12, 4) + 20),
        "four of each of three": (np.repeat(np.arange(3), 4), unit(12, 4)),
        "some people once": (np.array([3, 3, 5, 7, 9, 9, 9, 2, 4, 11, 11, 8]), unit(12, 4)),
        "each person once": (np.arange(12), unit(12, 4)),
        "one person": (np.full(12, 2), unit(12, 4)),
        "one sample": (np.array([4]), unit(1, 4)),
        "twins": (np.array([0, 0, 0, 1, 1, 1, 2, 2, 0, 3, 3, 2]), twins),
        "twins of different people": (np.array([0, 0, 1, 1, 2, 2, 0, 1, 1, 0, 0, 2]), lattice),
        "all at one point": (np.array([0, 0, 1, 1]), np.full((4, 4), 0.5, "float32")),
        "all zero": (np.array([0, 0, 1, 1]), np.zeros((4, 4), "float32")),
        "far apart": (np.array([0, 0, 1, 1]), 200 * unit(4, 4)),
    }


def cases():
    """(class, arguments) of the losses that take embeddings."""
    for metric in METRICS:
        yield "TripletSemiHardLoss", {"distance_metric": metric}
        yield "TripletHardLoss", {"distance_metric": metric}
    yield "TripletSemiHardLoss", {"margin": 0.2}
    yield "TripletHardLoss", {"margin": 0.2}
    yield "TripletHardLoss", {"soft": True}
    yield "TripletHardLoss", {"soft": True, "distance_metric": "squared-L2"}
    yield "LiftedStructLoss", {}
    yield "LiftedStructLoss", {"margin": 0.5}


def judge(loss, y_true, y_pred):
    """Value and gradient, each None unless all of it is finite."""
    y_pred = tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = tf.reduce_mean(loss(tf.constant(y_true), y_pred))
    gradient = tape.gradient(value, y_pred).numpy()
    return (
        float(value) if np.isfinite(value) else None,
        written(gradient) if np.isfinite(gradient).all() else None,
    )


def judge_pairs(margin, labels, embeddings):
    """Contrastive loss of all pairs of a batch, as a siamese network would see them."""
    first, second = np.triu_indices(len(labels), k=1)
    is_one_person = (labels[first] == labels[second]).astype("int32")
    x = tf.constant(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(x)
        distances = tf.norm(tf.gather(x, first) - tf.gather(x, second), axis=1)
        value = tfa.losses.ContrastiveLoss(margin=margin)(is_one_person, distances)
    gradient = tf.convert_to_tensor(tape.gradient(value, x)).numpy()
    return (
        float(value) if np.isfinite(value) else None,
        written(gradient) if np.isfinite(gradient).all() else None,
    )


def judge_partners(labels, embeddings):
    """N-pairs loss of the batch's pairs, first with second, third with fourth of each label."""
    anchors, partners, waiting = [], [], {}
    for index, label in enumerate(labels.tolist()):
        if label in waiting:
            anchors.append(waiting.pop(label))
            partners.append(index)
        else:
            waiting[label] = index
    order = np.argsort(anchors)
    anchors, partners = np.array(anchors)[order], np.array(partners)[order]
    x = tf.constant(embeddings)
    with tf.GradientTape() as tape:
        tape.watch(x)
        similarities = tf.matmul(tf.gather(x, anchors), tf.gather(x, partners), transpose_b=True)
        value = tfa.losses.NpairsLoss()(labels[anchors], similarities)
    return float(value), written(tf.convert_to_tensor(tape.gradient(value, x)).numpy())


def written(array):
    """Nested lists of the shortest decimals that give the float32 back."""
    return [[float(str(x)) for x in row] if np.ndim(row) else float(str(row)) for row in array]


def main():
    golden = {"batches": {}, "cases": [], "pairs": []}
    for name, (labels, embeddings) in batches().items():
        golden["batches"][name] = {"labels": labels.tolist(), "embeddings": written(embeddings)}

        def add(kind, arguments, value, gradient, batch=name):
            case = {"loss": kind, "arguments": arguments, "batch": batch}
            golden["cases"].append({**case, "value": value, "gradient": gradient})

        for kind, arguments in cases():
            given = dict(arguments)
            if given.get("distance_metric") == "manhattan":
                given["distance_metric"] = manhattan
            loss = getattr(tfa.losses, kind)(**given)
            add(kind, arguments, *judge(loss, labels.astype("int32"), embeddings))
        if len(labels) > 1:
            for margin in (1.0, 3.0):
                value, gradient = judge_pairs(margin, labels, embeddings)
                arguments = {"margin": margin, "from_embeddings": True}
                add("ContrastiveLoss", arguments, value, gradient)
        if len(set(labels.tolist())) < len(labels):
            value, gradient = judge_partners(labels, embeddings)
            add("NpairsLoss", {"from_embeddings": True}, value, gradient)

    rng = np.random.default_rng(1)

    def add_pairs(kind, arguments, y_true, y_pred):
        y_pred = y_pred.astype("float32")
        value, gradient = judge(getattr(tfa.losses, kind)(**arguments), y_true, y_pred)
        case = {"loss": kind, "arguments": arguments, "y_true": y_true.tolist()}
        case["y_pred"] = written(y_pred)
        golden["pairs"].append({**case, "value": value, "gradient": gradient})

    for margin in (1.0, 0.3):
        distances = np.abs(rng.normal(size=12))
        add_pairs("ContrastiveLoss", {"margin": margin}, rng.integers(0, 2, 12), distances)
    for spread in (1.0, 10.0):
        similarities = spread * rng.normal(size=(7, 7))
        add_pairs("NpairsLoss", {}, rng.integers(0, 4, 7), similarities)
        add_pairs("NpairsLoss", {}, np.arange(7), similarities)
        several = rng.integers(0, 2, (7, 5))
        several[:, 0] = 1
        add_pairs("NpairsMultilabelLoss", {}, several, similarities)
    nothing = np.array([[0, 0], [1, 0], [1, 1]])
    add_pairs("NpairsMultilabelLoss", {}, nothing, rng.normal(size=(3, 3)))

    GOLDEN.parent.mkdir(exist_ok=True)
    lines = ['{"batches": ' + json.dumps(golden["batches"])]
    for part in ("cases", "pairs"):
        cases_of_part = ",\n".join(json.dumps(case, allow_nan=False) for case in golden[part])
        lines.append(f'"{part}": [\n{cases_of_part}\n]')
    GOLDEN.write_text(",\n".join(lines) + "}\n", encoding="utf-8")
    print(f"{GOLDEN}: {len(golden['cases'])} cases, {len(golden['pairs'])} of given pairs")


if __name__ == "__main__":
    main()
