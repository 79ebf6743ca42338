// Opens the page of a bundle in headless Chromium and compares photos with it.
//
//     node page_in_browser.mjs JOB
//
// JOB is the path of a JSON file: modules (a folder node_modules with puppeteer-core), chromium, url,
// pairs ([[file, file], ...]), width, height, and optionally screenshot (a path) and dark. In the last
// line of its output is JSON: status, answers (of each pair: notes, text, verdict, sentence, cosine,
// and the faces of both photos), hosts that the page contacted, problems in its console, and whether
// the page is wider than its window.
//
// A job with `expression` is another page: it is opened, and what it waits for is `result`.

import { readFile } from "node:fs/promises";

const job = JSON.parse(await readFile(process.argv[2], "utf8"));
const { default: puppeteer } = await import(`${job.modules}/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js`);
const browser = await puppeteer.launch({ executablePath: job.chromium, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage(), hosts = new Set(), problems = [];
  await page.setViewport({ width: job.width, height: job.height });
  if (job.dark) await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  page.on("console", (message) => problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(error.message));
  await page.goto(job.url);
  if (job.expression) {
    await page.waitForFunction(job.expression, { timeout: 120000 });
    const result = await page.evaluate(job.expression);
    console.log(JSON.stringify({ result, hosts: [...hosts] }));
  } else {
    console.log(JSON.stringify(await compare(page, hosts, problems)));
  }
} finally {
  await browser.close();
}

async function compare(page, hosts, problems) {
  const answers = [];
  await page.waitForFunction('!/Loading/.test(document.querySelector("#status").textContent)', { timeout: 120000 });
  const status = await page.$eval("#status", (element) => element.textContent);
  const inputs = await page.$$("input[type=file]");
  for (const pair of job.pairs) {
    for (const [number, file] of pair.entries()) await inputs[number].uploadFile(file);
    await page.waitForFunction(
      '[...document.querySelectorAll(".note")].every((one) => !/Looking|No photo/.test(one.textContent))',
      { timeout: 120000 },
    );
    answers.push(await page.evaluate(async () => {
      const { shown } = await import("./page.mjs");
      const faces = shown.photos.map((one) => (one.faces ?? []).map((face) => ({
        points: face.points, crop: [...face.crop], embedding: [...face.embedding], quality: face.quality,
      })));
      const { verdict, sentence, cosine } = shown.answer ?? {};
      const notes = [...document.querySelectorAll(".note")].map((one) => one.textContent);
      return { notes, text: document.querySelector("#answer").innerText, verdict, sentence, cosine, faces };
    }));
  }
  // The stops of the Tab key, by name.
  const stops = [];
  await page.evaluate(() => document.activeElement?.blur());
  for (let step = 0; step < 8; step++) {
    await page.keyboard.press("Tab");
    stops.push(await page.evaluate(() => document.activeElement === document.body ? "" : document.activeElement.ariaLabel ?? document.activeElement.textContent));
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  if (job.screenshot) await page.screenshot({ path: job.screenshot, fullPage: true });
  return { status, answers, hosts: [...hosts], problems, stops, wide };
}
