"""Fine-tunes an embedder on a folder of people and writes it as a TFLite file.

    python examples/fine_tune_on_a_folder.py people/ --output finetuned/

`people/` holds one folder for each person, with aligned 112x112 crops in it. Without a folder, the
script draws faces of people who do not exist. It prints how well your people are recognised and
strangers are distinguished, before and after, and keeps the better embedder.
"""

import argparse
from pathlib import Path

from keras_facemargin import load_embedder
from keras_facemargin.data import FaceFolder
from keras_facemargin.export import export_tflite
from keras_facemargin.images import write_synthetic_faces
from keras_facemargin.training.finetune import HEADS, finetune


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("people", type=Path, nargs="?", help="folder of aligned crops")
    parser.add_argument("--model", default="spherenet_distilled", help="zoo name or .keras file")
    parser.add_argument("--head", default="cosface", choices=sorted(HEADS), help="loss")
    parser.add_argument("--output", type=Path, default=Path("finetuned"), help="folder to write")
    options = parser.parse_args(arguments)

    if options.people is None:
        options.people = options.output.with_name("synthetic_faces")
        if not options.people.is_dir():
            write_synthetic_faces(options.people, num_identities=12, images_per_identity=6)

    embedder = load_embedder(options.model)
    faces = FaceFolder(options.people, image_size=embedder.input_shape[1])
    result = finetune(embedder, faces, options.head)
    for measure, before, after, difference in result.rows():
        print(f"{measure}: {before} -> {after}  {difference}")
    print(*result.remarks, sep="\n")

    result.save(options.output, options.model)  # embedder.keras, classifier.keras, report.json
    print(
        export_tflite(
            result.classifier.embedder, options.output / "embedder.tflite", precision="float16"
        )
    )


if __name__ == "__main__":
    main()
