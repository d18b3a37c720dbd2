// Compresses the front-end modules for embedding: `node pack.mjs OUTPUT_FOLDER`.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const modules = {
  "plotly.js": "plotly.js-dist-min/plotly.min.js",
  "three-core.js": "three/build/three.core.js",
  "three.js": "three/build/three.module.js",
  "three-orbit.js": "three/examples/jsm/controls/OrbitControls.js",
};

const output = process.argv[2];
mkdirSync(output, { recursive: true });
for (const [name, path] of Object.entries(modules)) {
  // A module that a page makes from text has no folder, so a relative import becomes a name for the import map.
  const text = readFileSync(new URL(`node_modules/${path}`, import.meta.url), "utf8")
    .replaceAll("'./three.core.js'", "'three-core'");
  writeFileSync(`${output}/${name}.gz`, gzipSync(text, { level: 9 }));
}
