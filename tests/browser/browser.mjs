// Headless Chromium, with a home of its own: it trusts what that home's certificate database holds, as a person's
// Chromium on Linux does.
import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const run = promisify(execFile);
const ARGUMENTS = [
  "--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

/** Starts a browser that lives in `home`, for which each of `names` is this machine. */
export function launch(home, names = []) {
  const mapped = names.map((name) => `MAP ${name} 127.0.0.1`).join(", ");
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: mapped ? [...ARGUMENTS, `--host-resolver-rules=${mapped}`] : ARGUMENTS,
    env: { ...process.env, HOME: home },
  });
}

/** Makes browsers in `home` trust a certificate authority for web sites, as docs/src/lab.md tells people to. */
export async function trust(home, certificate) {
  const database = join(home, ".pki", "nssdb");
  await mkdir(database, { recursive: true });
  await run("certutil", ["-d", `sql:${database}`, "-N", "--empty-password"]);
  await run("certutil", ["-d", `sql:${database}`, "-A", "-n", "care-federation", "-t", "C,,", "-i", certificate]);
}
