// The page: two photos -> their faces -> the answer. Nothing leaves the browser.

import { HEIGHT, selfTest, WIDTH } from "../face_embedder.mjs";
import { openRecognizer } from "./recognizer.mjs";

const RUNTIME = "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
const LARGEST = 16e6; // pixels: a canvas of some browsers holds no more
const MARK = { same: "=", different: "≠", "cannot say": "?" };
const $ = (selector, parent = document) => parent.querySelector(selector);

// What the page shows now: the recognizer, and of each photo its pixels, its faces and the number of
// the compared one. `answer` is that of `recognizer.verify`.
export const shown = { recognizer: null, photos: [null, null], answer: null };

const sections = [...document.querySelectorAll(".photo")];
sections.forEach((section, number) => {
  $("input", section).addEventListener("change", (event) => choose(number, event.target.files[0]));
  $("select", section).addEventListener("change", (event) => {
    shown.photos[number].chosen = Number(event.target.value);
    draw(number);
    compare();
  });
});
// Photos that are chosen one soon after the other wait for each other.
let turn = start();

async function start() {
  try {
    say("Loading the models ...");
    const ort = await runtime();
    const recognizer = await openRecognizer(ort);
    const fault = await selfTest(embedding(recognizer), (path) => read(`../${path}`));
    if (fault) throw new Error(`The self-test failed in this browser. Received: ${fault}.`);
    shown.recognizer = recognizer;
    const manifest = JSON.parse(new TextDecoder().decode(await read("../manifest.json")));
    $("#caution").textContent = manifest.caution;
    $("#about").textContent = `Embedder: ${manifest.name}. ${manifest.description} The self-test of the bundle passed in this browser.`;
    $("#licences").replaceChildren(...manifest.license.map((entry) => {
      const item = document.createElement("li");
      item.textContent = `${entry.part} (${entry.of}): ${entry.license} [${entry.stated_by}]`;
      return item;
    }));
    for (const section of sections) $("input", section).disabled = false;
    say("Ready.");
  } catch (error) {
    say(error.message, true);
  }
}

async function runtime() {
  let ort;
  try {
    ort = await import(RUNTIME);
  } catch {
    throw new Error("The page needs onnxruntime-web. Received: it is not in web/node_modules. Run in the folder web: npm install");
  }
  if (!globalThis.crossOriginIsolated) ort.env.wasm.numThreads = 1; // the browser allows no more
  return ort;
}

async function read(path) {
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok) throw new Error(`The page needs ${path}. Received: ${response.status}. Serve the whole folder of the bundle.`);
  return new Uint8Array(await response.arrayBuffer());
}

// The embedding of a crop alone, as the self-test expects it.
function embedding(recognizer) {
  return async (crop) => {
    const both = (await recognizer.faceOfCrop(crop)).embedding;
    return both.slice(0, both.length / 2);
  };
}

function say(words, wrong = false) {
  $("#status").textContent = words;
  $("#status").classList.toggle("wrong", wrong);
}

function choose(number, file) {
  if (!file) return;
  const own = { file };
  shown.photos[number] = own;
  const section = sections[number];
  $(".result", section).hidden = true;
  note(number, "Looking for faces ...");
  compare();
  turn = turn.then(async () => {
    if (shown.photos[number] !== own) return; // another photo was chosen meanwhile
    try {
      await new Promise((resolve) => setTimeout(resolve, 20)); // the words appear first
      own.photo = await readPhoto(file);
      const faces = await shown.recognizer.faces(own.photo);
      if (!faces.length)
        throw new Error("No face was found. Choose a photo with an upright, uncovered face of at least 20 pixels.");
      if (shown.photos[number] !== own) return;
      Object.assign(own, { faces, chosen: 0 });
      list(number);
      draw(number);
      compare();
    } catch (error) {
      if (shown.photos[number] === own) note(number, error.message, true);
    }
  });
}

// The pixels of an image file as keras_facemargin reads them: upright, transparent pixels over black,
// without a colour profile. A very large photo is made smaller.
async function readPhoto(file) {
  let image;
  try {
    image = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`The file must be a photo that this browser can read, such as JPEG, PNG or WebP. Received: ${file.name}. Save it as JPEG.`);
  }
  const scale = Math.min(1, Math.sqrt(LARGEST / (image.width * image.height)));
  const width = Math.max(1, Math.round(image.width * scale)), height = Math.max(1, Math.round(image.height * scale));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "black";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  image.close();
  return context.getImageData(0, 0, width, height);
}

function note(number, words, wrong = false) {
  const place = $(".note", sections[number]);
  place.textContent = words;
  place.classList.toggle("wrong", wrong);
}

// The faces to choose from, if there are several.
function list(number) {
  const { faces } = shown.photos[number], section = sections[number];
  note(number, faces.length === 1 ? "One face found." : `${faces.length} faces found. The largest is compared, or the one that you choose.`);
  $(".choice", section).hidden = faces.length === 1;
  $("select", section).replaceChildren(...faces.map(({ box }, index) => {
    const side = Math.round(box[2] - box[0]);
    return new Option(`${index + 1}: ${side} pixels wide${index ? "" : ", the largest"}`, index);
  }));
}

// The photo with its faces, and the crop of the chosen one.
function draw(number) {
  const { photo, faces, chosen } = shown.photos[number], section = sections[number];
  const view = $(".view", section), most = 900;
  const scale = Math.min(1, most / Math.max(photo.width, photo.height));
  view.width = Math.round(photo.width * scale);
  view.height = Math.round(photo.height * scale);
  const whole = document.createElement("canvas");
  Object.assign(whole, { width: photo.width, height: photo.height });
  whole.getContext("2d").putImageData(photo, 0, 0);
  const context = view.getContext("2d"), place = (value) => (value + 0.5) * scale;
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, 0, 0, view.width, view.height);
  const line = Math.max(2, view.width / 150);
  faces.forEach(({ box, points }, index) => {
    const own = index === chosen;
    const [left, top, right, bottom] = box.map(place);
    for (const [colour, width] of [["black", 2 * line], [own ? "#4fd1ff" : "white", line]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.setLineDash(own ? [] : [3 * line, 2 * line]);
      context.strokeRect(left, top, right - left, bottom - top);
    }
    if (faces.length > 1) {
      context.setLineDash([]);
      context.font = `bold ${9 * line}px sans-serif`;
      context.strokeStyle = "black";
      context.lineWidth = 2 * line;
      context.strokeText(index + 1, left + 2 * line, bottom - 3 * line);
      context.fillStyle = own ? "#4fd1ff" : "white";
      context.fillText(index + 1, left + 2 * line, bottom - 3 * line);
    }
    if (own) for (const [x, y] of points) {
      context.beginPath();
      context.arc(place(x), place(y), 1.2 * line, 0, 2 * Math.PI);
      context.fillStyle = "#4fd1ff";
      context.fill();
    }
  });
  const name = $("h2", section).textContent.toLowerCase();
  view.setAttribute("aria-label", `The ${name} with a frame around ${faces.length === 1 ? "its face" : `each of its ${faces.length} faces; face ${chosen + 1} is compared`}`);
  const crop = $(".crop", section), face = faces[chosen];
  Object.assign(crop, { width: WIDTH, height: HEIGHT });
  const pixels = new ImageData(WIDTH, HEIGHT);
  for (let i = 0; i < WIDTH * HEIGHT; i++) pixels.data.set([...face.crop.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  crop.getContext("2d").putImageData(pixels, 0, 0);
  $("figcaption", section).textContent = `The face as the embedder sees it. Its detail is that of ${face.quality.sharpness.toFixed(1)} pixels between the eyes.`;
  $(".result", section).hidden = false;
}

function compare() {
  const [first, second] = shown.photos.map((one) => one?.faces?.[one.chosen]);
  const answer = (shown.answer = first && second ? shown.recognizer.verify(first, second) : null);
  const section = $("#answer"), text = (selector, words) => ($(selector, section).textContent = words);
  section.className = { same: "same", different: "different", "cannot say": "unknown" }[answer?.verdict] ?? "";
  text(".verdict", answer ? `${MARK[answer.verdict]} ${answer.words}` : "Choose two photos.");
  const threshold = answer?.threshold ?? null;
  text(".numbers", answer ? `Similarity (cosine) ${answer.cosine.toFixed(4)}${threshold ? `; at ${threshold.cosine.toFixed(4)} or above: the same person${threshold.raised}` : ""}.` : "");
  text(".reason", answer ? answer.reason : "");
  text(".meaning", answer ? answer.meaning : "");
  text(".origin", threshold ? `Threshold: ${threshold.origin}. A false accept rate (FAR) is the share of pairs of two people that count as the same person.` : "");
  $(".scale", section).hidden = !answer;
  if (!answer) return;
  const percent = (value) => `${100 * Math.min(Math.max(value, 0), 1)}%`;
  $(".fill", section).style.width = percent(answer.cosine);
  for (const mark of [".limit", ".at"]) {
    $(mark, section).hidden = !threshold;
    if (threshold) $(mark, section).style.left = percent(threshold.cosine);
  }
}
