// The directory that stands in for Element Web where Element cannot be had: the client in client/, bundled.
import { build } from "esbuild";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";

/** Bundles the stand-in client into `directory`, which is made, and returns it. */
export async function standInClient(directory) {
  const source = join(import.meta.dirname, "client");
  await mkdir(directory, { recursive: true });
  for (const file of ["index.html", "style.css"]) await cp(join(source, file), join(directory, file));
  await build({
    entryPoints: [join(source, "client.js")],
    outfile: join(directory, "client.js"),
    bundle: true,
    minify: true,
    format: "iife",
    target: "es2022",
    loader: { ".wasm": "file" },
    logLevel: "error",
  });
  return directory;
}
