"""Makes keras_facemargin/images/face_model.npz, the statistics behind the faces of the demo.

    python tools/assets/fit_face_model.py --data ../shared/data           # an hour on two cores
    python tools/assets/fit_face_model.py --data ../shared/data --check   # figures of the result

Four steps, each a section below: register every crop to the mean face, separate shape from
texture, find their principal components, split the variance between people and pictures. The
docstring of keras_facemargin/images/synthetic.py explains the result. Needs the `dev` extra.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from sklearn.utils.extmath import randomized_svd

from keras_facemargin.evaluate import all_pairs, equal_error_rate
from keras_facemargin.images.image import read_face
from keras_facemargin.images.synthetic import synthesize_faces

MODEL = Path(__file__).resolve().parents[2] / "keras_facemargin" / "images" / "face_model.npz"
SIZE, HALF, CORNERS = 112, 56, 29  # luma; chroma; corners of the 4-pixel cells of a shape
FLOW = 28  # Registration keeps one displacement per 4x4 pixels, at the centre of each square.
EVEN, ODD = 230, 100  # components: a file of 3 MB
KEPT = 0.6  # of the crops: the rest has hands, sunglasses, profiles or text on it
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with celeb/ and weights/")
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--images", type=int, help="use only so many crops, for a quick trial")
    parser.add_argument("--check", action="store_true", help="measure the model in the package")
    arguments = parser.parse_args()
    images, labels = load_crops(arguments.data / "celeb", arguments.images)
    if arguments.check:
        check(images, labels, arguments.data / "weights" / "foamliu_MobileFaceNet.onnx")
    else:
        flows, errors = register(images)
        write(arguments.output, images, labels, flows, errors)


def write(path, images, labels, flows, errors):
    """From registered crops to the file."""
    kept = errors <= np.quantile(errors, KEPT)
    parts, labels = separate(images[kept], flows[kept]), labels[kept]
    print(f"statistics of {len(labels)} crops, {len(np.unique(labels[labels >= 0]))} known people")
    arrays = {}
    for name, part in parts.items():
        mean = part.mean(0, keepdims=True)
        mean = (mean + mirrored(name, mean)) / 2
        part -= mean
        arrays[f"{name}_mean"] = np.float16(mean[0])
    for parity, count in (("even", EVEN), ("odd", ODD)):
        components, coefficients = principal_components(parts, parity, count)
        mixing, share = split_variance(coefficients, labels)
        arrays[f"{parity}_mixing"], arrays[f"{parity}_share"] = np.float16(mixing), share
        for name, component in components.items():
            scale = np.abs(component).max((1, 2, 3), keepdims=True) / 127
            arrays[f"{name}_{parity}"] = np.rint(component / scale).astype(np.int8)
            arrays[f"{name}_{parity}_scale"] = scale.ravel().astype(np.float32)
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def load_crops(folder, count):
    """Crops as uint8 `(N, 112, 112, 3)` with labels, -1 for an unknown person.

    Crops named `p_` are left out: they end at the chin, and padding fills the rest.
    """
    paths = sorted(folder.glob("train/*/[!p]_*.jpg")) + sorted(folder.glob("unlabelled/[!p]_*.jpg"))
    if count is not None:
        chosen = np.random.default_rng(0).choice(len(paths), min(count, len(paths)), replace=False)
        paths = [paths[place] for place in np.sort(chosen)]
    people = {name: label for label, name in enumerate(sorted({p.parent.name for p in paths}))}
    people["unlabelled"] = -1
    labels = np.array([people[path.parent.name] for path in paths])
    return np.stack([read_face(path) for path in paths]), labels


# --- 1. Registration: a displacement field per crop that makes all crops look like one face


def register(images):
    """Flows `(N, 28, 28, 2)` from the mean face to each crop, and how badly each crop fits.

    Collection Flow: each round rebuilds every crop, as registered so far, from a few principal
    components. The reconstruction has the crop's light and skin but the common shape, so ordinary
    optical flow between the two sees nothing but shape. Rounds grow finer in every respect.
    """
    luma = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images])
    flows = np.zeros((len(images), FLOW, FLOW, 2), np.float32)
    face, wider = ellipse(44, 54, 66, 1.5), ellipse(50, 60, 64, 1.9)
    outside = shrink(wider, FLOW)[..., None]
    kept = np.ones(len(images), bool)
    rounds = [(2, 7.0, 10), (8, 4.5, 20), (16, 3.2, 36), (28, 2.4, 60), (40, 2.0, 80)]
    for number, (texture_rank, smoothing, shape_rank) in enumerate(rounds):
        warped = np.stack([warp(*pair) for pair in zip(luma, flows, strict=True)])
        rebuilt, errors = low_rank(warped, face, kept, texture_rank, seed=number)
        steps = [flow_step(*pair, face, smoothing) for pair in zip(*rebuilt, strict=True)]
        flows = np.stack([follow(*pair) for pair in zip(flows, steps, strict=True)]) * outside
        flows = plausible(flows, kept, shape_rank)
        if number:
            kept = errors < np.quantile(errors, KEPT)
        print(f"round {number}: median error {np.median(errors):.3f} of the variance", flush=True)
    return flows, errors


def low_rank(warped, face, kept, rank, seed):
    """Crops and their reconstructions, both at one brightness and contrast; the errors."""
    weight = face.ravel()
    pixels = warped.reshape(len(warped), -1).astype(np.float32)
    pixels -= (pixels @ weight / weight.sum())[:, None]
    pixels /= np.sqrt(pixels**2 @ weight / weight.sum())[:, None] + 1e-5
    mean = mirror_mean(pixels[kept].mean(0).reshape(SIZE, SIZE)).ravel()
    deviations = pixels - mean
    some = np.random.default_rng(seed).permutation(np.flatnonzero(kept))[:700]
    some = deviations[some].reshape(-1, SIZE, SIZE)
    some = np.concatenate([some, some[:, :, ::-1]]).reshape(-1, SIZE * SIZE)
    power, vectors = np.linalg.eigh((some * weight) @ some.T)
    basis = vectors[:, -rank:].T @ some / np.sqrt(power[-rank:])[:, None]
    rebuilt = (deviations @ (basis * weight).T) @ basis + mean
    errors = (pixels - rebuilt) ** 2 @ weight / weight.sum()

    def visible(x):
        return np.clip(36 * x + 128, 0, 255).astype(np.uint8).reshape(-1, SIZE, SIZE)

    return (visible(rebuilt), visible(pixels)), errors


def flow_step(rebuilt, crop, face, smoothing):
    """Smooth displacements `(28, 28, 2)` from the reconstruction to the crop."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(0)
    search.setPatchSize(8)
    search.setPatchStride(3)
    flow = search.calc(rebuilt, crop, None)
    length = np.linalg.norm(flow, axis=-1, keepdims=True)
    flow *= np.minimum(1, 4 / (length + 1e-6))
    # Where the face has no structure, neighbours know better where it went.
    across, down = (cv2.Sobel(rebuilt, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    structure = face * (across**2 + down**2)
    trust = structure / (structure + 9) + 0.03 * face
    flow = cv2.GaussianBlur(flow * trust[..., None], (0, 0), smoothing)
    return shrink(flow / (cv2.GaussianBlur(trust, (0, 0), smoothing)[..., None] + 0.05), FLOW)


def follow(flow, step):
    """First the step, then the flow from where it leads."""
    x, y = np.meshgrid(*[np.arange(FLOW, dtype=np.float32)] * 2)
    x, y = x + step[..., 0] * (FLOW / SIZE), y + step[..., 1] * (FLOW / SIZE)
    return step + cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def plausible(flows, kept, rank):
    """Flows without their symmetric mean, held to what flows of other crops look like."""
    mean = flows[kept].mean(0)
    flows = (flows - (mean + mean[:, ::-1] * [-1, 1]) / 2).reshape(len(flows), -1)
    power, basis = np.linalg.eigh(flows[kept].T @ flows[kept] / kept.sum())
    power, basis = power[-rank:], basis[:, -rank:]
    limit = 2.5 * np.sqrt(power)
    flows = np.clip(flows @ basis, -limit, limit) @ basis.T
    return flows.reshape(-1, FLOW, FLOW, 2).astype(np.float32)


def warp(image, flow):
    """The crop in the shape of the mean face."""
    x, y = cv2.split(cv2.resize(flow, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))
    x, y = x + COLUMNS, y + ROWS
    return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def ellipse(width, height, row, edge):
    """1 inside, 0 outside, a soft border between; about the middle column."""
    distance = ((COLUMNS - (SIZE - 1) / 2) / width) ** 2 + ((ROWS - row) / height) ** 2
    return np.clip(edge - distance, 0, 1)


def shrink(array, size):
    return cv2.resize(array, (size, size), interpolation=cv2.INTER_AREA)


def mirror_mean(array):
    return (array + array[:, ::-1]) / 2


# --- 2. Shape and texture


def separate(images, flows):
    """Luma and chroma in the mean shape, and the way back, float32 `(N, rows, columns, C)`."""
    parts = {
        "luma": np.empty((len(images), SIZE, SIZE, 1), np.float32),
        "chroma": np.empty((len(images), HALF, HALF, 2), np.float32),
        "shape": np.empty((len(images), CORNERS, CORNERS, 2), np.float32),
    }
    for number, (image, flow) in enumerate(zip(images, flows, strict=True)):
        texture = cv2.cvtColor(warp(image, flow), cv2.COLOR_RGB2YCrCb)
        parts["luma"][number] = texture[..., :1]
        parts["chroma"][number] = shrink(texture[..., 1:], HALF)
        parts["shape"][number] = inverse(
            cv2.resize(flow, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        )
    return parts


def inverse(flow):
    """The field that undoes a flow, at the corners of the cells, by damped fixed-point steps."""
    flow = cv2.resize(flow, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:CORNERS, :CORNERS].astype(np.float32) * (SIZE / (CORNERS - 1)) - 0.5
    start = cv2.merge([x, y])
    back = np.zeros((CORNERS, CORNERS, 2), np.float32)
    for _ in range(12):
        at = cv2.split(back + start)
        there = cv2.remap(flow, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        back = (back - there) / 2
    return back


def mirrored(name, part):
    """The same part of the mirror images."""
    part = part[:, :, ::-1]
    return part * np.float32([-1, 1]) if name == "shape" else part


# --- 3. Principal components


def principal_components(parts, parity, count):
    """Components of one parity, each as long as its deviation, and the crops' coefficients.

    Returns a dict of left halves `(count, rows, columns, C)` and `(N, count)` coefficients of unit
    variance.
    """
    sign = 1 if parity == "even" else -1
    halves, shapes = [], []
    for name, part in parts.items():
        half = (part + sign * mirrored(name, part)) / 2
        half = half[:, :, : -(-part.shape[2] // 2)]
        shapes.append(half.shape[1:])
        halves.append(half.reshape(len(half), -1))
    weight = np.sqrt(np.concatenate([left_half(importance(name)) for name in parts]))
    weighted = np.concatenate(halves, axis=1) * weight
    left, length, right = randomized_svd(weighted, count, n_iter=3, random_state=0)
    explained = (length**2).sum() / (weighted**2).sum()
    print(f"{count} {parity} components hold {explained:.1%} of their variance", end="; ")
    print(f"one crop makes at most {(left**2).max():.1%} of one of them")
    deviation = length / np.sqrt(len(left))
    vectors = np.split(
        right * deviation[:, None] / weight, np.cumsum([np.prod(s) for s in shapes])[:-1], axis=1
    )
    components = {
        name: vector.reshape(count, *shape)
        for name, vector, shape in zip(parts, vectors, shapes, strict=True)
    }
    return components, left * np.sqrt(len(left))


def importance(name):
    """How much a squared deviation counts at each place of a part, `(rows, columns, C)`."""
    face = 0.07 + 0.93 * ellipse(44, 56, 66, 1.5)
    for column, row, width, height, gain in (
        (38, 51, 9, 6, 1),
        (74, 51, 9, 6, 1),
        (56, 91, 16, 8, 0.6),
    ):
        face += gain * np.exp(-(((COLUMNS - column) / width) ** 2) - ((ROWS - row) / height) ** 2)
    face = mirror_mean(face)
    if name == "luma":
        return face[..., None]
    if name == "chroma":  # one value for 2x2 pixels
        return np.repeat(4.8 / 2 * shrink(face, HALF)[..., None], 2, axis=-1)
    # One corner is for 4x4 pixels, and a pixel's move changes luma by some 7 grey levels.
    return np.repeat(16 * 7.0**2 * shrink(face, CORNERS)[..., None], 2, axis=-1)


def left_half(weights):
    return weights[:, : -(-weights.shape[1] // 2)].ravel()


# --- 4. Identity and image


def split_variance(coefficients, labels):
    """The basis in which both covariances are diagonal, and the share of that between people.

    Between and within come from the moments of unbalanced groups (one-way random effects), each
    drawn a tenth of the way to its diagonal, since a thousand people do not fill the matrix.
    """
    known = labels >= 0
    coefficients = coefficients[known].astype(np.float64)
    _, person, count = np.unique(labels[known], return_inverse=True, return_counts=True)
    means = np.zeros((len(count), coefficients.shape[1]))
    np.add.at(means, person, coefficients)
    means /= count[:, None]
    residual = coefficients - means[person]
    within = residual.T @ residual / (len(coefficients) - len(count))
    between = np.cov(means.T) - within * np.mean(1 / count)
    within, between = (0.9 * c + 0.1 * np.diag(np.diag(c)) for c in (within, between))
    root = np.linalg.cholesky(within + between)
    half_way = np.linalg.solve(root, between)
    share, rotation = np.linalg.eigh(np.linalg.solve(root, half_way.T))
    print(f"share between people: {', '.join(f'{s:.2f}' for s in share[::-20])}")
    return root @ rotation[:, ::-1], np.clip(share[::-1], 0, 1).astype(np.float32)


# --- Check: are the faces useful, and do they show no real person?


def check(images, labels, teacher):
    """Prints the EER of a published embedder on the samples and their similarity to people."""
    faces, people = synthesize_faces(num_identities=60, images_per_identity=10, seed=1)
    embed = embedder(teacher)
    made = embed(faces)
    eer = equal_error_rate(*all_pairs(made, people))
    print(f"verification of 60 people, 10 images each: EER {eer:.2%}")

    crops, names = images[labels >= 0], labels[labels >= 0]
    for space, sample, known in (
        ("embedder", made, embed(crops)),
        ("pixels", luma_vectors(faces), luma_vectors(crops)),
    ):
        strangers = known @ known.T
        strangers[names[:, None] == names[None]] = -1
        between = strangers.max(1)
        nearest = (sample @ known.T).max(1)
        print(f"{space}: cosine to the nearest of {len(known)} crops of others")
        for kind, cosines in (("crops", between), ("samples", nearest)):
            middle, high = np.quantile(cosines, [0.5, 0.99])
            print(f"  {kind}: median {middle:.2f}, 99 % {high:.2f}, maximum {cosines.max():.2f}")


def embedder(path):
    """The published MobileFaceNet, whose graph takes one image at a time."""
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name

    def embed(images):
        pixels = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        pixels = pixels.astype(np.float32).transpose(0, 3, 1, 2)
        vectors = np.concatenate([session.run(None, {name: one[None]})[0] for one in pixels])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return embed


def luma_vectors(images):
    """Inner faces, 40x40, mean 0, length 1."""
    luma = [shrink(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY)[22:112, 11:101], 40) for i in images]
    luma = np.stack(luma).reshape(len(images), -1).astype(np.float32)
    luma -= luma.mean(1, keepdims=True)
    return luma / np.linalg.norm(luma, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
