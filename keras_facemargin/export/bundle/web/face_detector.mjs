// Finds faces and five points on each: MTCNN (Zhang et al., 2016), as keras_facemargin does in Python.
//
//     import * as ort from "onnxruntime-web";
//     const detect = await openDetector(ort);
//     const faces = await detect(photo); // [{box, score, points, doubt}], highest score first
//
// A photo is {data, width, height}: RGB or RGBA bytes, such as the ImageData of a canvas. `box` is
// left, top, right, bottom; `points` are left eye, right eye, nose, left and right mouth corner, as a
// viewer sees them; `doubt` is the reason not to trust the points, or "". Pixels: (0, 0) is the
// centre of the first pixel.
//
// The three networks are beside this file; their licence is in mtcnn-LICENSE.txt.

const CELL = 12; // pixels, side of the first network's window
const STEP = 0.709; // between two scales: half the area
const LEAST = [0.6, 0.7, 0.8]; // scores
const MOST = 256; // patches at a time
const SAME_FACE = 0.7; // two windows are of one face if they share this part of the smaller one
const APART = 0.25; // points agree if they are no farther apart than this part of their spread
const SMALLEST = 20, PART = 80; // the smallest face: pixels, and its part of the photo's longer side
const LARGEST_SIDE = 1600; // a larger photo is averaged over squares first
const NETWORKS = ["pnet.onnx", "rnet.onnx", "onet.onnx"];

// ort: the module onnxruntime-web or onnxruntime-node; read: from the name of a network to its path,
// URL or bytes.
export async function openDetector(ort, read = (name) => new URL(name, import.meta.url).href) {
  const networks = [];
  for (const name of NETWORKS) networks.push(await ort.InferenceSession.create(await read(name)));
  const run = async (stage, values, shape) => {
    const found = await networks[stage].run({ image: new ort.Tensor("float32", values, shape) });
    const outputs = Object.fromEntries(Object.entries(found).map(([name, tensor]) => [name, tensor.data]));
    return { ...outputs, scores: faceOfTwo(found.classes) };
  };
  return async (photo) => {
    const longest = Math.max(photo.width, photo.height);
    const factor = Math.max(1, Math.ceil(longest / LARGEST_SIDE));
    const least = Math.max(CELL, Math.max(SMALLEST, longest / PART) / factor);
    const windows = await findWindows(run, averaged(photo, factor), least);
    const place = (value) => (value + 0.5) * factor - 0.5;
    for (const each of windows) {
      each.box = each.box.map(place);
      each.points = each.points.map((point) => point.map(place));
    }
    return byFace(windows).map(medianFace);
  };
}

// The photo as RGB bytes, averaged over squares of `factor` x `factor` pixels.
function averaged({ data, width, height }, factor) {
  const channels = data.length / (width * height);
  const columns = Math.ceil(width / factor), rows = Math.ceil(height / factor);
  const out = new Uint8Array(columns * rows * 3);
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const bottom = Math.min((row + 1) * factor, height), right = Math.min((column + 1) * factor, width);
    const count = (bottom - row * factor) * (right - column * factor);
    for (let c = 0; c < 3; c++) {
      let sum = 0;
      for (let y = row * factor; y < bottom; y++)
        for (let x = column * factor; x < right; x++) sum += data[(y * width + x) * channels + c];
      out[(row * columns + column) * 3 + c] = Math.floor(sum / count + 0.5);
    }
  }
  return { data: out, width: columns, height: rows };
}

// The windows that all three networks accept, highest score first: [{box, score, points}].
async function findWindows(run, photo, least) {
  let boxes = (await propose(run, photo, least)).map(square);
  const second = await answers(run, 1, photo, boxes, 24);
  const moved = boxes.map((box, i) => ({ box: shift(box, second.offsets, i), score: second.scores[i] }))
    .filter(({ score }) => score > LEAST[1]);
  boxes = suppress(moved, 0.9).map(({ box }) => square(box));
  const third = await answers(run, 2, photo, boxes, 48);
  return boxes.map((box, i) => {
    const sides = [box[2] - box[0] + 1, box[3] - box[1] + 1];
    const points = [0, 1, 2, 3, 4].map((p) =>
      [0, 1].map((axis) => sides[axis] * third.points[10 * i + 5 * axis + p] + box[axis] - 1));
    return { box: shift(box, third.offsets, i), score: third.scores[i], points };
  }).filter(({ score }) => score > LEAST[2]).sort((a, b) => b.score - a.score);
}

// The boxes of the first network at every scale.
async function propose(run, photo, least) {
  const table = sums(photo), found = [];
  for (let scale = CELL / least; Math.min(photo.width, photo.height) * scale >= CELL; scale *= STEP) {
    const height = Math.floor(photo.height * scale), width = Math.floor(photo.width * scale);
    const { scores, offsets } = await run(0, shrink(table, photo, height, width), [1, 3, height, width]);
    const rows = Math.floor((height - 1) / 2) - 4, columns = Math.floor((width - 1) / 2) - 4;
    const here = [];
    for (let cell = 0; cell < rows * columns; cell++) {
      if (!(scores[cell] > LEAST[0])) continue;
      const x = 2 * (cell % columns), y = 2 * Math.floor(cell / columns);
      const corners = [x + 1, y + 1, x + CELL, y + CELL]; // the authors' Matlab counts from 1
      here.push({
        box: corners.map((each, k) => (each + Math.fround((CELL - 1) * offsets[k * rows * columns + cell])) / scale),
        score: scores[cell],
      });
    }
    found.push(...suppress(here, 0.5));
  }
  return suppress(found, 0.7).map(({ box }) => box);
}

// Levels 0..255 as the networks take them, -1..1.
const centred = (level) => (level - 127.5) / 128;

// Sums of the rows above each row of the centred photo, (height + 1, width, 3).
//
// Here and in `shrink` every step is rounded to float32, as in Python: a window whose score is nearly
// the limit is then accepted by both or by neither.
function sums({ data, width, height }) {
  const line = 3 * width, table = new Float32Array((height + 1) * line);
  for (let i = 0; i < height * line; i++) table[i + line] = table[i] + centred(data[i]);
  return table;
}

// The photo of these sums at a smaller size, each pixel the mean of its area: (3, height, width).
function shrink(table, photo, height, width) {
  const out = new Float32Array(3 * height * width), line = 3 * photo.width;
  const tall = edges(photo.height, height), wide = edges(photo.width, width);
  const down = Math.fround(height / photo.height), right = Math.fround(width / photo.width);
  const along = new Float32Array(line + 3); // sums of the columns to the left of each column
  let above = sumsAt(table, tall[0], line);
  for (let row = 0; row < height; row++) {
    const below = sumsAt(table, tall[row + 1], line);
    for (let i = 0; i < line; i++) along[i + 3] = along[i] + Math.fround(Math.fround(below[i] - above[i]) * down);
    above = below;
    let before = sumsAt(along, wide[0], 3);
    for (let column = 0; column < width; column++) {
      const after = sumsAt(along, wide[column + 1], 3);
      for (let c = 0; c < 3; c++)
        out[(c * height + row) * width + column] = Math.fround(after[c] - before[c]) * right;
      before = after;
    }
  }
  return out;
}

// The sums up to an edge between two lines of a table, in proportion.
function sumsAt(table, [whole, part], line) {
  const out = new Float32Array(line), at = whole * line;
  for (let i = 0; i < line; i++) {
    const first = table[at + i];
    out[i] = first + Math.fround(part * Math.fround(table[at + line + i] - first));
  }
  return out;
}

// The softmax of the second of two classes, rounded as in Python: many scores are then exactly 1, and
// equal scores are in the same order.
function faceOfTwo({ data, dims: [batch, , ...map] }) {
  const count = map.reduce((product, side) => product * side, 1), scores = new Float32Array(batch * count);
  for (let i = 0; i < batch; i++) for (let k = 0; k < count; k++) {
    const other = data[2 * i * count + k], face = data[(2 * i + 1) * count + k];
    scores[i * count + k] = 1 / Math.fround(1 + Math.fround(Math.exp(Math.fround(other - face))));
  }
  return scores;
}

// The edges of `count` equal parts of a length, each as a whole number and the rest.
function edges(length, count) {
  return Array.from({ length: count + 1 }, (_, i) => {
    const edge = i * (length / count), whole = Math.min(Math.floor(edge), length - 1);
    return [whole, Math.fround(edge - whole)];
  });
}

// The outputs of a later network for boxes.
async function answers(run, stage, photo, boxes, side) {
  const found = {};
  for (let start = 0; start < boxes.length; start += MOST) {
    const part = boxes.slice(start, start + MOST);
    const outputs = await run(stage, patches(photo, part, side), [part.length, 3, side, side]);
    for (const [name, data] of Object.entries(outputs)) (found[name] ??= []).push(...data);
  }
  return found;
}

// Squares of the photo at one size, centred, (boxes, 3, side, side); grey outside the photo.
function patches({ data, width, height }, boxes, side) {
  const out = new Float32Array(boxes.length * 3 * side * side);
  boxes.forEach((box, n) => {
    for (let row = 0; row < side; row++) for (let column = 0; column < side; column++) {
      // Boxes count from the corners of pixels.
      const x = box[0] - 0.5 + (box[2] - box[0]) * (column / (side - 1));
      const y = box[1] - 0.5 + (box[3] - box[1]) * (row / (side - 1));
      if (x < 0 || y < 0 || x > width - 1 || y > height - 1) continue;
      const left = Math.floor(x), top = Math.floor(y);
      const right = Math.min(left + 1, width - 1), bottom = Math.min(top + 1, height - 1);
      const across = x - left, down = y - top;
      for (let c = 0; c < 3; c++) {
        const level = (v, u) => data[3 * (v * width + u) + c];
        const upper = level(top, left) * (1 - across) + level(top, right) * across;
        const lower = level(bottom, left) * (1 - across) + level(bottom, right) * across;
        out[((3 * n + c) * side + row) * side + column] = centred(upper * (1 - down) + lower * down);
      }
    }
  });
  return out;
}

// A box that a network has corrected by parts of its sides.
const shift = (box, offsets, i) =>
  box.map((each, k) => each + offsets[4 * i + k] * (box[2 + (k % 2)] - box[k % 2] + 1));

// The square around the middle of a box.
function square([left, top, right, bottom]) {
  const x = (left + right) / 2, y = (top + bottom) / 2, half = Math.max(right - left, bottom - top) / 2;
  return [x - half, y - half, x + half, y + half];
}

const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);

const common = (a, b) =>
  Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0) *
  Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);

// The windows that share at most a part of their union with a better one, best first.
function suppress(windows, most) {
  const order = [...windows].sort((a, b) => a.score - b.score).reverse(); // of equals the last first
  return order.filter(({ box }, j) => {
    for (let i = 0; i < j; i++) {
      const both = common(order[i].box, box);
      if (both / (area(order[i].box) + area(box) - both) > most) return false;
    }
    return true;
  });
}

// Lists of the windows of each face; windows and faces highest score first.
function byFace(windows) {
  const faces = [];
  for (const one of windows) {
    const own = faces.find(([first]) =>
      common(one.box, first.box) / Math.max(Math.min(area(one.box), area(first.box)), 1e-9) > SAME_FACE);
    if (own) own.push(one);
    else faces.push([one]);
  }
  return faces;
}

// The first of a face's windows that agrees with their median, with the median's points.
function medianFace(windows) {
  const points = windows[0].points.map((point, p) =>
    point.map((_, axis) => median(windows.map((each) => each.points[p][axis]))));
  const mean = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / 5);
  const spread = Math.sqrt(points.reduce((sum, [x, y]) => sum + (x - mean[0]) ** 2 + (y - mean[1]) ** 2, 0) / 5);
  const agree = windows.filter((each) => each.points.reduce((sum, [x, y], p) =>
    sum + Math.hypot(x - points[p][0], y - points[p][1]), 0) / 5 <= APART * spread);
  if (2 * agree.length < windows.length) {
    const doubt = `only ${agree.length} of ${windows.length} windows around the face agree on them.`;
    return { ...windows[0], points, doubt };
  }
  return { ...agree[0], points, doubt: "" };
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
