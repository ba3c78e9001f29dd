// A network of its own for the test, brought up by federation-lab on free ports and taken down at the end.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const program = process.env.FEDERATION_LAB;
assert(program, "FEDERATION_LAB must name the program federation-lab: run tests/browser/run");

/** A running federation-lab. */
export class Lab {
  #process; #output; #state;

  /** Starts a network with its state in `state` and `element` as Element Web; returns it once it serves. */
  static async up(state, element) {
    const lab = new Lab();
    lab.#state = state;
    lab.#output = "";
    const options = ["up", "--state", state, "--element", element, "--port-offset", "auto"];
    lab.#process = spawn(program, options, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [lab.#process.stdout, lab.#process.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => { lab.#output += text; });
    }
    const ended = once(lab.#process, "exit");
    while (lab.#process.exitCode === null) {
      const status = await lab.#status();
      if (status?.phase === "up") {
        lab.network = status.network;
        return lab;
      }
      await Promise.race([ended, new Promise((later) => setTimeout(later, 250))]);
    }
    throw new Error(`federation-lab ended with ${lab.#process.exitCode}:\n${lab.#output}`);
  }

  /** Makes a user, as `anna@vvt`, and returns the password. */
  async user(name) {
    const { stdout } = await run(program, ["users", "add", name, "--state", this.#state]);
    return stdout.trim().split(" ").at(-1);
  }

  /** The certificate of the network's authority, a file. */
  get authority() {
    return join(this.#state, "pki", "ca.pem");
  }

  async down() {
    if (this.#process.exitCode !== null) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
  }

  async #status() {
    // It exits with an error while something is still starting; what it prints counts.
    const { stdout } = await run(program, ["status", "--json", "--state", this.#state]).catch((error) => error);
    try {
      return JSON.parse(stdout).lab;
    } catch {
      return undefined;
    }
  }
}
