/*
 * Bundles src/ into built/app.js and built/app.css, and gathers the licences of what is bundled.
 *
 * The first line of both files names the sources that they were built from (see sourcesDigest), so that a test can
 * tell, without Node, that what is committed belongs to the sources.
 */
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
process.chdir(here);

/** SHA-256 over `name NUL content NUL` of each source, in the order of the names' bytes. */
function sourcesDigest() {
  const names = readdirSync("src", { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).replaceAll("\\", "/"))
    .concat("build.mjs", "package-lock.json")
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const digest = createHash("sha256");
  for (const name of names) digest.update(name).update("\0").update(readFileSync(name)).update("\0");
  return digest.digest("hex");
}

/** The licences of the packages whose files are in the bundle, as one text. */
function licences(metafile) {
  const packages = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const found = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (found) packages.add(found[1]);
  }
  return [...packages].sort().map(licenceOf).join("\n" + "-".repeat(80) + "\n\n");
}

function licenceOf(name) {
  const folder = join("node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} brings no licence text`);
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
}

async function build() {
  const banner = `/* sources: ${sourcesDigest()} */\n/* The licences of the libraries inside are in LICENCES.txt. */`;
  const result = await esbuild.build({
    entryPoints: { app: "src/main.jsx" },
    outdir: "built",
    bundle: true,
    format: "iife",
    target: ["es2020", "chrome105", "firefox115", "safari16"],
    jsx: "automatic",
    jsxImportSource: "preact",
    minify: true,
    charset: "utf8",
    legalComments: "inline",
    banner: { js: banner, css: banner },
    metafile: true,
    logLevel: "warning",
  });
  writeFileSync("built/LICENCES.txt", licences(result.metafile));
  for (const [name, { bytes }] of Object.entries(result.metafile.outputs)) console.log(`${name}  ${bytes} bytes`);
}

await build();
