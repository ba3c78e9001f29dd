// A bridge for the test, with a FHIR endpoint and no homeserver, on free ports and with its state in a directory.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";

const program = process.env.FHIR_BRIDGE;
assert(program, "FHIR_BRIDGE must name the program fhir-bridge: run tests/browser/run");

/** A token that may see texts and put work back. */
export const TOKEN = "0123456789abcdef0123456789abcdef";

async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    return server;
  }));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

/** A running fhir-bridge. */
export class Bridge {
  #process; #output = ""; #state; #port;

  /** Starts it; with `viewers` there is a token to sign in with. */
  static async up(state, { viewers = false } = {}) {
    const bridge = new Bridge();
    const [port, admin] = await freePorts(2);
    bridge.#state = state;
    bridge.#port = port;
    bridge.page = `http://127.0.0.1:${admin}`;
    await mkdir(state, { recursive: true });
    const environment = {
      ...process.env,
      FHIR_BRIDGE_STATE_DIRECTORY: state,
      FHIR_BRIDGE_LISTEN: `["127.0.0.1:${port}"]`,
      FHIR_BRIDGE_ADMIN: `["127.0.0.1:${admin}"]`,
      FHIR_BRIDGE_HOMESERVER__URL: "http://127.0.0.1:9",
      FHIR_BRIDGE_ENGINE__TRIES: "1",
    };
    if (viewers) {
      const file = join(state, "viewers.toml");
      const client = `[[client]]\nname = "zuster"\ntoken = "${TOKEN}"\nscopes = "system/Communication.ru"\n`;
      await writeFile(file, client, { mode: 0o600 });
      environment.FHIR_BRIDGE_PAGE__VIEWERS_FILE = file;
    }
    bridge.#process = spawn(program, ["run"], { env: environment, stdio: ["ignore", "ignore", "pipe"] });
    bridge.#process.stderr.setEncoding("utf8").on("data", (text) => { bridge.#output += text; });
    while (bridge.#process.exitCode === null) {
      // A bridge without a homeserver answers 503, which is an answer.
      if (await fetch(`${bridge.page}/healthz`).catch(() => undefined)) return bridge;
      await new Promise((later) => setTimeout(later, 100));
    }
    throw new Error(`fhir-bridge ended with ${bridge.#process.exitCode}:\n${bridge.#output}`);
  }

  /** Writes a resource to the FHIR endpoint. */
  async put(resource) {
    const url = `http://127.0.0.1:${this.#port}/fhir/${resource.resourceType}/${resource.id}`;
    const headers = { "content-type": "application/fhir+json" };
    const answer = await fetch(url, { method: "PUT", headers, body: JSON.stringify(resource) });
    assert(answer.ok, `${url}: ${answer.status} ${await answer.text()}`);
  }

  /** Pushes an event that cannot be understood, as a homeserver would: it becomes parked work. */
  async park(number) {
    const registration = await readFile(join(this.#state, "registration.yaml"), "utf8");
    const [, token] = registration.match(/^hs_token: ["']?([^"'\n]+)/m);
    const url = `http://127.0.0.1:${this.#port}/_matrix/app/v1/transactions/${number}`;
    const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
    const body = JSON.stringify({ events: [{ type: "m.room.message", number }] });
    assert.equal((await fetch(url, { method: "PUT", headers, body })).status, 200);
  }

  async down() {
    if (this.#process.exitCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
  }
}
