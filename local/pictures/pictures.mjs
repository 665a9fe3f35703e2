// `make pictures`: the goldens as a phone's mail client shows them, 390 points wide in a proportional font, as PNGs in
// .local/pictures. What a terminal of 80 columns shows: `target/debug/keyguard doctor | node local/pictures/pictures.mjs doctor`.

import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = join(HERE, "../..");
const OUT = join(ROOT, ".local/pictures");
const MAILS = ["deletion-scheduled", "material-deleted", "policy-account-dropped", "guard-check-failed", "key-enabled"];

/** A phone's screen. */
const [WIDTH, HEIGHT] = [390, 844];

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const golden = (name) => readFileSync(join(ROOT, "tests/golden", `${name}.snap`), "utf8").split("\n---\n")[1];
const font = (name) => {
  const file = join(HERE, `node_modules/@fontsource/${name}/files/${name}-latin-400-normal.woff2`);
  return `@font-face { font-family: ${name}; src: url(${pathToFileURL(file)}); }`;
};

/** What a mail client puts around a text: its own bars, the Subject, the sender. */
const mail = (subject, text) => `<!doctype html><meta charset="utf-8"><style>${font("roboto")}
  body { margin: 0; font: 16px/24px roboto; }
  .bar { background: #eee; color: #555; padding: 0 16px; font-size: 14px; }
  .top { height: 91px; line-height: 136px; } .bottom { position: fixed; top: ${HEIGHT - 83}px; left: 0; right: 0; height: 83px; }
  h1 { margin: 12px 16px 8px; font: 20px/26px roboto; overflow-wrap: anywhere; }
  .from { margin: 0 16px 12px; color: #555; font-size: 14px; }
  pre { margin: 0 16px; font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }
</style><div class="bar top">Inbox</div><h1>${escaped(subject)}</h1><p class="from">AWS Notifications</p>
<pre>${escaped(text)}</pre><div class="bar bottom"></div>`;

const terminal = (text) => `<!doctype html><meta charset="utf-8"><style>${font("roboto-mono")}
  body { margin: 12px; background: #1c1c1c; color: #ddd; }
  pre { margin: 0; width: 80ch; font: 14px/19px roboto-mono; white-space: pre-wrap; overflow-wrap: anywhere; }
</style><pre>${escaped(text)}</pre>`;

// The browser unpacks itself into the folder for temporary files.
mkdirSync(join(OUT, "browser"), { recursive: true });
process.env.TMPDIR = join(OUT, "browser");
const { default: chromium, inflate } = await import("@sparticuz/chromium");
chromium.setGraphicsMode = false;
const browser = await chromium.executablePath();
const libraries = await inflate(join(HERE, "node_modules/@sparticuz/chromium/bin/al2023.tar.br"));
const env = { ...process.env, LD_LIBRARY_PATH: join(libraries, "lib"), FONTCONFIG_PATH: join(OUT, "browser/fonts") };

/** Chromium's DevTools protocol over a pipe: messages of JSON, each ended by a zero. */
const shell = spawn(browser, [...chromium.args, "--remote-debugging-pipe"], { env, stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] });
const [complaints, waiting, events] = [[], new Map(), new Map()];
shell.stderr.on("data", (text) => complaints.push(text));
shell.on("exit", () => waiting.forEach(({ reject }) => reject(new Error(`Chromium ended: ${complaints.join("")}`))));
let rest = "";
shell.stdio[4].on("data", (chunk) => {
  const messages = (rest + chunk).split("\0");
  rest = messages.pop();
  for (const { id, method, result, error } of messages.map((message) => JSON.parse(message))) {
    events.get(method)?.();
    if (error) waiting.get(id).reject(new Error(error.message));
    else waiting.get(id)?.resolve(result);
  }
});
let last = 0;
const send = (method, params = {}, sessionId = undefined) =>
  new Promise((resolve, reject) => {
    last += 1;
    waiting.set(last, { resolve, reject });
    shell.stdio[3].write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
  });

/** Writes the page and its picture, as high as it is unless a height is given. */
const draw = async (name, html, width, height = 0) => {
  const page = join(OUT, `${name}.html`);
  writeFileSync(page, html);
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const tab = (method, params) => send(method, params, sessionId);
  await tab("Page.enable");
  await tab("Emulation.setDeviceMetricsOverride", { width, height: height || 100, deviceScaleFactor: 1, mobile: false });
  const loaded = new Promise((resolve) => events.set("Page.loadEventFired", resolve));
  await tab("Page.navigate", { url: pathToFileURL(page).href });
  await loaded;
  const expression = "document.fonts.ready.then(() => document.documentElement.scrollHeight)";
  const { result } = await tab("Runtime.evaluate", { expression, awaitPromise: true });
  const clip = { x: 0, y: 0, width, height: height || result.value, scale: 1 };
  const { data } = await tab("Page.captureScreenshot", { clip, captureBeyondViewport: true });
  await send("Target.closeTarget", { targetId });
  writeFileSync(join(OUT, `${name}.png`), Buffer.from(data, "base64"));
  console.log(`.local/pictures/${name}.png`);
};

const [name] = process.argv.slice(2);
if (name) {
  const text = readFileSync(0, "utf8").replaceAll(/\x1b\[[\d;]*m/g, "");
  await draw(name, terminal(text), 80 * 9);
} else {
  for (const name of MAILS) {
    const [subject, text] = [JSON.parse(golden(`${name}.ocsf`)).message, golden(`${name}.text`)];
    await draw(name, mail(subject, text), WIDTH, HEIGHT);
    await draw(`${name}-whole`, mail(subject, text).replace('bar bottom', ''), WIDTH);
  }
}
shell.kill();
