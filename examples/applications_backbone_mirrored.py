"""Trains an embedder on a backbone of keras.applications, on every GPU of this machine.

    python examples/applications_backbone_mirrored.py people/ --backbone ResNet50 --epochs 20

`people/` holds one folder for each person, with aligned 112x112 crops in it. Without a folder, the
script draws faces of people who do not exist. A machine without GPUs trains on its CPU. The batch
size is that of all devices together. `--weights imagenet` starts from Keras' ImageNet weights.
"""

import argparse
from pathlib import Path

import keras
import tensorflow as tf

from keras_facemargin import ArcFace, MarginClassifier, build_embedder
from keras_facemargin.callbacks import MarginRamp
from keras_facemargin.data import FaceFolder
from keras_facemargin.images import write_synthetic_faces


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("people", type=Path, nargs="?", help="folder of aligned crops")
    parser.add_argument("--backbone", default="MobileNetV2", help="a name in keras.applications")
    parser.add_argument("--weights", choices=["imagenet"], help="default: random weights")
    parser.add_argument("--embedding-dim", type=int, default=128, help="length of the embedding")
    parser.add_argument("--image-size", type=int, default=112, help="side of the crops in pixels")
    parser.add_argument("--epochs", type=int, default=2, help="passes over the images")
    parser.add_argument("--batch-size", type=int, default=24, help="images per step")
    parser.add_argument("--output", type=Path, default=Path("trained"), help="folder to write")
    options = parser.parse_args(arguments)

    if options.people is None:
        options.people = options.output / "synthetic_faces"
        if not options.people.is_dir():
            write_synthetic_faces(options.people, num_identities=12, images_per_identity=4)

    size = options.image_size
    faces = FaceFolder(options.people, image_size=size)
    strategy = tf.distribute.MirroredStrategy()
    print(f"{strategy.num_replicas_in_sync} device(s), {len(faces)} images")

    with strategy.scope():
        embedder = build_embedder(
            options.backbone,
            options.embedding_dim,
            weights=options.weights,
            input_shape=(size, size, 3),
        )
        head = ArcFace(faces.num_classes, margin=0.5, scale=30.0)
        classifier = MarginClassifier(embedder, head)
        classifier.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    classifier.fit(
        faces.dataset(options.batch_size, training=True),
        epochs=options.epochs,
        shuffle=False,  # the dataset shuffles
        verbose=2,
        callbacks=[MarginRamp(epochs=max(1, options.epochs // 4))],
    )
    embedder.save(options.output / "embedder.keras")  # opens with Keras alone
    print(options.output / "embedder.keras")


if __name__ == "__main__":
    main()
