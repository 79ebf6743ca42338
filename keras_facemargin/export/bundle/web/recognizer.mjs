// From two photos to an answer: the same person, different people, or cannot say. It decides as the
// command `facemargin verify` does.
//
//     import * as ort from "onnxruntime-web";
//     const recognizer = await openRecognizer(ort);
//     const [first] = await recognizer.faces(photo1), [second] = await recognizer.faces(photo2);
//     console.log(recognizer.verify(first, second).sentence);
//
// A photo is {data, width, height}: RGB or RGBA bytes, such as the ImageData of a canvas.

import { align, cosine, HEIGHT, MODEL, TEMPLATE, WIDTH } from "../face_embedder.mjs";
import { openDetector } from "./face_detector.mjs";

const FEWEST = 11; // pixels between the eyes on a photo, for an embedder without limits of quality
const WORDS = { same: "same person", different: "different people", "cannot say": "cannot say" };
const fetched = async (path) =>
  new Uint8Array(await (await fetch(new URL(path, import.meta.url))).arrayBuffer());

// ort: the module onnxruntime-web or onnxruntime-node; read: from a path, as seen from this folder,
// to the bytes of the file.
export async function openRecognizer(ort, read = fetched) {
  const settings = JSON.parse(new TextDecoder().decode(await read("settings.json")));
  const model = await read(`../${MODEL}`);
  const session = await ort.InferenceSession.create(withOutput(model, settings.unnormalised));
  const output = settings.unnormalised ? settings.unnormalised.output : "embedding";
  const detect = await openDetector(ort, read);

  // The outputs for a crop and for its mirror image. They are not normalised if the file allows it:
  // the length of an embedding is a part of its quality.
  async function embed(crop) {
    const pixels = Float32Array.from([...crop, ...mirrored(crop)]);
    const image = new ort.Tensor("float32", pixels, [2, HEIGHT, WIDTH, 3]);
    const rows = (await session.run({ image }, [output]))[output].data;
    return [rows.slice(0, rows.length / 2), rows.slice(rows.length / 2)];
  }

  // The face of an aligned crop, RGB bytes.
  async function faceOfCrop(crop) {
    const [plain, mirror] = await embed(crop);
    return {
      crop,
      embedding: Float32Array.from([...plain, ...mirror]),
      quality: {
        utility: settings.quality && settings.unnormalised ? utility(plain, mirror, settings.quality) : null,
        sharpness: sharpness(crop, settings.sharpness),
      },
    };
  }

  // All faces of a photo, the largest first: [{box, score, points, doubt, crop, embedding, quality}].
  async function faces(photo) {
    const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
    const found = (await detect(photo)).sort((a, b) => area(b) - area(a));
    const faces = [];
    for (const face of found)
      if (isFace(face.points, photo)) faces.push({ ...face, ...(await faceOfCrop(align(photo, face.points))) });
    return faces;
  }

  return { faces, faceOfCrop, verify: (first, second) => verify(first, second, settings) };
}

// The ONNX file with one more output. In protobuf a message that is appended is merged.
function withOutput(model, added) {
  if (!added) return model;
  const suffix = Uint8Array.from(atob(added.suffix), (each) => each.charCodeAt(0));
  const joined = new Uint8Array(model.length + suffix.length);
  joined.set(model);
  joined.set(suffix, model.length);
  return joined;
}

function mirrored(crop) {
  const out = new Uint8Array(crop.length);
  for (let row = 0; row < HEIGHT; row++) for (let column = 0; column < WIDTH; column++)
    for (let c = 0; c < 3; c++)
      out[3 * (row * WIDTH + column) + c] = crop[3 * (row * WIDTH + WIDTH - 1 - column) + c];
  return out;
}

function verify(first, second, { threshold, likelihood, quality }) {
  const similarity = cosine(first.embedding, second.embedding);
  const { verdict, least, reason } = threshold === null
    ? { verdict: "cannot say", reason: "The bundle has no threshold: export it again with --calibrate FOLDER." }
    : decide(similarity, threshold.cosine, first, second, quality);
  // The ratio is that of good faces.
  const good = [first, second].every((face) => !quality || !shortfall("", face.quality, quality));
  const meaning = likelihood && !reason && good ? meaningOf(similarity, likelihood) : "";
  const because = reason ? `${reason.replace(/\.$/, "")}; ` : "";
  const rise = threshold === null ? 0 : least - threshold.cosine;
  const raised = rise ? `, raised by ${rise.toFixed(4)} for missing detail` : "";
  const limit = threshold === null ? "" : `, threshold ${least.toFixed(4)}${raised} (${threshold.origin})`;
  return {
    verdict,
    words: WORDS[verdict],
    cosine: similarity,
    threshold: threshold && { ...threshold, cosine: least, raised },
    reason,
    meaning,
    sentence: `${WORDS[verdict]}: ${because}cosine ${similarity.toFixed(4)}${limit}${meaning && ". "}${meaning}`,
  };
}

// The answer, the smallest cosine of "same" for these faces, and the reason of "cannot say".
//
// Strangers look more similar the less detail the sharper of two faces has: with a face below the
// limit the threshold of "same" rises, unless the other is sharp. "Different" needs two good faces.
function decide(similarity, threshold, first, second, limits) {
  const short = shortcomings(first, second, limits);
  if (short) return { verdict: "cannot say", least: threshold, reason: short };
  if (limits === null) return { verdict: similarity >= threshold ? "same" : "different", least: threshold, reason: "" };
  const qualities = [first.quality, second.quality], details = qualities.map((one) => one.sharpness);
  const sharper = Math.max(...details), clear = Math.min(...details) >= limits.sharpness;
  const known = limits.threshold_rise !== null && sharper >= limits.faint;
  const rise = clear ? 0 : known ? limits.threshold_rise * Math.max(limits.sharp - sharper, 0) : Infinity;
  const least = rise < Infinity ? threshold + rise : threshold;
  if (similarity >= threshold + rise) return { verdict: "same", least, reason: "" };
  const faults = [["first", first], ["second", second]].map(([name, face]) => shortfall(name, face.quality, limits));
  if (similarity < threshold && !faults.some(Boolean)) return { verdict: "different", least, reason: "" };
  return { verdict: "cannot say", least, reason: faults.filter(Boolean).join(" ") };
}

// The reasons why a face gets no answer, whatever it is compared with; "" if there are none.
function shortcomings(first, second, quality) {
  return [["first", first], ["second", second]].map(([name, face]) => {
    if (face.doubt) return `The points of the ${name} face are in doubt: ${face.doubt}`;
    const pixels = quality === null && face.points ? pixelsBetweenEyes(face.points) : Infinity;
    return pixels < FEWEST
      ? `The ${name} face has ${pixels.toFixed(0)} pixels between the eyes on its photo; at least ${FEWEST} are needed.`
      : "";
  }).filter(Boolean).join(" ");
}

// The quality of a face that is below its limit, as a sentence; "" for a face that is good enough.
function shortfall(name, face, limits) {
  if (face.sharpness < limits.sharpness)
    return `The ${name} face has the detail of ${face.sharpness.toFixed(1)} pixels between the eyes; ` +
      `at least ${limits.sharpness.toFixed(1)} are needed.`;
  if (face.utility !== null && face.utility < limits.utility)
    return `The ${name} face is harder to recognise than ${(100 * (1 - face.utility)).toFixed(1)}% of ` +
      "clean celebrity crops.";
  return "";
}

// The likelihood ratio in a sentence, within what the number of pairs supports.
function meaningOf(similarity, { slope, intercept, genuine_pairs: genuine, impostor_pairs: impostors }) {
  const fitted = (slope * similarity + intercept) / Math.LN10;
  const ratio = Math.min(Math.max(fitted, -Math.log10(genuine)), Math.log10(impostors));
  const [one, two] = ratio >= 0 ? ["one person", "two people"] : ["two people", "one person"];
  const times = Number((10 ** Math.abs(ratio)).toPrecision(2)), digits = times >= 10 ? 0 : 1;
  const shown = times.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `The cosine is ${ratio === fitted ? "" : "at least "}${shown} times as likely for ${one} as for ` +
    `${two}; the odds before the comparison are yours.`;
}

// Points and template around their middles, and what the alignment is made of: sum(conj(z) w), sum(|z|^2).
function centredPoints(points) {
  const centre = (list) => {
    const [x, y] = [0, 1].map((axis) => list.reduce((sum, each) => sum + each[axis], 0) / list.length);
    return list.map((each) => [each[0] - x, each[1] - y]);
  };
  return [centre(points), centre(TEMPLATE)];
}

const product = (a, b) => [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]; // complex
const conjugate = ([x, y]) => [x, -y];
const total = (list) => list.reduce((sum, each) => [sum[0] + each[0], sum[1] + each[1]], [0, 0]);

// Whether five points can be those of a face on the photo: not on a line, not mirrored, not beside it.
function isFace(points, photo) {
  const [z, w] = centredPoints(points), spread = z.reduce((sum, [x, y]) => sum + x * x + y * y, 0);
  const length = Math.hypot(...total(z.map((each) => product(each, each)))) / spread;
  const eyes = [z[1][0] - z[0][0], z[1][1] - z[0][1]], mouth = [z[4][0] - z[3][0], z[4][1] - z[3][1]];
  const reach = Math.hypot(...[0, 1].map((i) => z[3][i] + z[4][i] - z[0][i] - z[1][i])) / 8;
  const opposite = eyes[0] * mouth[0] + eyes[1] * mouth[1] < 0 &&
    Math.min(Math.hypot(...eyes), Math.hypot(...mouth)) > reach;
  const own = Math.hypot(...total(z.map((each, i) => product(conjugate(each), w[i]))));
  const flipped = Math.hypot(...total(z.map((each, i) => product(each, w[i]))));
  const [x, y] = total(points).map((each) => each / 5);
  return spread / 5 >= 1 && 1 - length >= 2 * 0.02 ** 2 && !opposite && flipped <= 1.5 * own &&
    x >= -0.5 && y >= -0.5 && x <= photo.width - 0.5 && y <= photo.height - 0.5;
}

// Pixels between the eyes on the photo, for a face that looks ahead.
function pixelsBetweenEyes(points) {
  const [z, w] = centredPoints(points), spread = z.reduce((sum, [x, y]) => sum + x * x + y * y, 0);
  const scale = Math.hypot(...total(z.map((each, i) => product(conjugate(each), w[i])))) / spread;
  return Math.hypot(TEMPLATE[1][0] - TEMPLATE[0][0], TEMPLATE[1][1] - TEMPLATE[0][1]) / scale;
}

// The share of clean crops that are harder to recognise, 0 to 1.
function utility(plain, mirror, { norm_weight: weight, raw_utilities: raw }) {
  const length = Math.sqrt(plain.reduce((sum, each) => sum + each * each, 0));
  const shares = raw.map((_, i) => i / (raw.length - 1));
  return interpolated(weight * Math.log(Math.max(length, 1e-12)) + cosine(plain, mirror), raw, shares);
}

// The value at x of the line through the points (xs, ys); xs ascend.
function interpolated(x, xs, ys) {
  if (x <= xs[0]) return ys[0];
  for (let i = 1; i < xs.length; i++)
    if (x < xs[i]) return ys[i - 1] + ((ys[i] - ys[i - 1]) * (x - xs[i - 1])) / (xs[i] - xs[i - 1]);
  return ys[ys.length - 1];
}

// Pixels between the eyes that hold the detail of a crop: of two measures, of its spectrum and of its
// 8x8 blocks, the lower one counts.
export function sharpness(crop, { shape, top, left, side, measures }) {
  const [height, width] = shape;
  if (height !== HEIGHT || width !== WIDTH) crop = resized(crop, height, width);
  const grey = new Float64Array(side * side);
  let low = Infinity, high = -Infinity;
  for (let row = 0; row < side; row++) for (let column = 0; column < side; column++) {
    const at = 3 * ((top + row) * width + left + column);
    const level = 0.299 * crop[at] + 0.587 * crop[at + 1] + 0.114 * crop[at + 2];
    grey[row * side + column] = level;
    low = Math.min(low, level);
    high = Math.max(high, level);
  }
  if (high === low) return 0;
  const [pixels, spectrum, blocks] = [0, 1, 2].map((k) => measures.map((each) => each[k]));
  return Math.min(interpolated(ofSpectrum(grey, side), spectrum, pixels),
    interpolated(ofBlocks(grey, side), blocks, pixels));
}

// The crop at another size, as Pillow resizes it: cubic, and averaged where it shrinks.
function resized(crop, height, width) {
  const narrow = new Uint8ClampedArray(3 * HEIGHT * width), out = new Uint8ClampedArray(3 * height * width);
  tapsOf(WIDTH, width).forEach(({ first, weights }, column) => {
    for (let row = 0; row < HEIGHT; row++) for (let c = 0; c < 3; c++)
      narrow[3 * (row * width + column) + c] =
        weights.reduce((sum, weight, k) => sum + weight * crop[3 * (row * WIDTH + first + k) + c], 0);
  });
  tapsOf(HEIGHT, height).forEach(({ first, weights }, row) => {
    for (let column = 0; column < width; column++) for (let c = 0; c < 3; c++)
      out[3 * (row * width + column) + c] =
        weights.reduce((sum, weight, k) => sum + weight * narrow[3 * ((first + k) * width + column) + c], 0);
  });
  return out;
}

// For each of `to` pixels the pixels of `from` that it is made of: the first one, and the weights.
function tapsOf(from, to) {
  const step = from / to, spread = Math.max(step, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * step, first = Math.max(Math.floor(centre - 2 * spread + 0.5), 0);
    const last = Math.min(Math.floor(centre + 2 * spread + 0.5), from);
    const found = Array.from({ length: last - first }, (_, k) => cubic(Math.abs(first + k - centre + 0.5) / spread));
    const sum = found.reduce((before, each) => before + each, 0);
    return { first, weights: found.map((each) => each / sum) };
  });
}

function cubic(x) {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// The power at 9 to 13 periods over that at 3 to 6, under a Hann window.
function ofSpectrum(grey, side) {
  const hann = Array.from({ length: side }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 1)) / (side + 1)));
  let sum = 0, weights = 0;
  for (let i = 0; i < side * side; i++) {
    const weight = hann[Math.floor(i / side)] * hann[i % side];
    sum += weight * grey[i];
    weights += weight;
  }
  const wave = Array.from({ length: side }, (_, i) => [Math.cos((2 * Math.PI * i) / side), Math.sin((2 * Math.PI * i) / side)]);
  const most = 13; // periods: nothing beyond is used
  const rows = []; // of each row its waves across
  for (let row = 0; row < side; row++) {
    const waves = [];
    for (let u = 0; u <= most; u++) {
      let re = 0, im = 0;
      for (let x = 0; x < side; x++) {
        const value = (grey[row * side + x] - sum / weights) * hann[row] * hann[x], [c, s] = wave[(u * x) % side];
        re += value * c;
        im -= value * s;
      }
      waves.push([re, im]);
    }
    rows.push(waves);
  }
  let high = 0, low = 0;
  for (let v = -most; v <= most; v++) for (let u = 0; u <= most; u++) {
    const ring = Math.round(Math.hypot(u, v));
    if (ring < 3 || (ring > 6 && ring < 9) || ring > most) continue;
    let re = 0, im = 0;
    for (let y = 0; y < side; y++) {
      const [a, b] = rows[y][u], [c, s] = wave[(((v * y) % side) + side) % side];
      re += a * c + b * s;
      im += b * c - a * s;
    }
    const power = (u ? 2 : 1) * (re * re + im * im); // a wave across counts for its mirror image, too
    if (ring <= 6) low += power;
    else high += power;
  }
  return Math.log10((high + 1) / (low + 1));
}

// The power of the 8x8 cosine transforms at about 3 half periods over that at 1, a geometric mean.
function ofBlocks(grey, side) {
  const block = 8, count = side / block;
  const basis = Array.from({ length: block }, (_, k) => Array.from({ length: block }, (_, i) =>
    (k ? 1 : Math.SQRT1_2) * Math.cos((Math.PI * k * (2 * i + 1)) / (2 * block)) / 2));
  let sum = 0;
  for (let by = 0; by < count; by++) for (let bx = 0; bx < count; bx++) {
    let high = 0, low = 0;
    for (let v = 0; v < 4; v++) for (let u = 0; u < 4; u++) {
      const waves = Math.hypot(u, v);
      if (waves === 0 || (waves >= 1.9 && waves <= 2.2) || waves >= 3.7) continue;
      let value = 0;
      for (let y = 0; y < block; y++) for (let x = 0; x < block; x++)
        value += basis[v][y] * basis[u][x] * grey[(by * block + y) * side + bx * block + x];
      if (waves < 1.9) low += value * value;
      else high += value * value;
    }
    sum += Math.log10((high + 10) / (low + 10)); // below 10 it is the rounding of pixels
  }
  return sum / (count * count);
}
