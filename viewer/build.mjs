// src/ → ../medray/serve/static/: one script, one stylesheet, notices, and what it was built from.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const OUT = join(HERE, "..", "medray", "serve", "static");

// As tests/unit/serve/test_page_files.py reckons it: names and bytes of everything that decides the bundle.
function sources() {
  const names = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"];
  names.push(...readdirSync(join(HERE, "src")).map((name) => `src/${name}`));
  const hash = createHash("sha256");
  for (const name of names.sort()) {
    const data = readFileSync(join(HERE, name));
    hash.update(`${name}\0${data.length}\0`).update(data);
  }
  return hash.digest("hex");
}

// The packages whose code is in the bundle, with the licences that they come with.
function notices(inputs) {
  const roots = new Set();
  for (const path of Object.keys(inputs)) {
    const found = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path);
    if (found) roots.add(found[1]);
  }
  // NiiVue comes with these inside its own bundle.
  const bundled = JSON.parse(readFileSync(join(HERE, "node_modules/@niivue/niivue/dist/metafile-esm.json"), "utf8"));
  for (const path of Object.keys(bundled.inputs)) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path);
    if (found) roots.add(`node_modules/${found[1]}`);
  }
  return [...roots].sort().map(notice).join(`\n${"-".repeat(80)}\n\n`);
}

function notice(root) {
  const folder = join(HERE, root);
  let about;
  try {
    about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  } catch {
    throw new Error(`${root} is in the bundle, but its licence is not here`);
  }
  const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name));
  const own = file ? readFileSync(join(folder, file), "utf8").trim() : readFileSync(join(HERE, "licences", `${about.name.replace("/", "__")}.txt`), "utf8").trim();
  return `${about.name} ${about.version}\nLicence: ${about.license}\n\n${own}\n`;
}

rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
const result = await build({
  absWorkingDir: HERE,
  entryPoints: { app: "src/main.ts" },
  outdir: OUT,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  metafile: true,
});
await build({ absWorkingDir: HERE, entryPoints: { app: "src/style.css" }, outdir: OUT, minify: true, target: "es2022" });
for (const name of ["index.html", "icon.svg"]) writeFileSync(join(OUT, name), readFileSync(join(HERE, "src", name)));
writeFileSync(join(OUT, "NOTICES.txt"), notices(result.metafile.inputs));
writeFileSync(join(OUT, "built-from.txt"), `${sources()}\n`);
