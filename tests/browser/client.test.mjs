// A browser against a running network: it loads the client on 8003, logs in on vvt, opens the room that a person at
// huisarts invited it to, and sends and receives across federation. What breaks here is CORS, well-known, mixed content.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch, trust } from "./browser.mjs";
import { Lab } from "./lab.mjs";
import { Person } from "./matrix.mjs";
import { standInClient } from "./stand-in.mjs";

const PATIENCE = 60_000; // ms; a federated step takes a second, a busy machine needs more
const ROOM = "Medicatie";
let directory, lab, browser, page, doctor, room;
const complaints = [];

function complain(text, url) {
  // The SDK tries features that are not in the specification yet; Synapse rightly answers 404.
  if (!(text.includes("404") && url.includes("/_matrix/client/unstable/"))) complaints.push(`${text} ${url}`);
}

/** An empty home for a browser. */
async function home(name) {
  const path = join(directory, name);
  await mkdir(path);
  return path;
}

/** Fills in the client's form. */
async function logIn(page, user, password) {
  await page.getByLabel("User").fill(user);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Invitations and rooms" }).waitFor();
}

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "care-federation-browser-"));
  lab = await Lab.up(join(directory, "state"), await standInClient(join(directory, "element")));
  doctor = await new Person(lab.network.proxy.client_port, "huisarts").logIn("arts", await lab.user("arts@huisarts"));
  browser = await launch(await home("nothing-installed"));
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => message.type() === "error" && complain(message.text(), message.location().url));
  page.on("pageerror", (error) => complaints.push(String(error)));
});

after(async () => {
  if (process.env.SCREENSHOT && page) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
  await browser?.close();
  await lab?.down();
  await rm(directory, { recursive: true, force: true });
});

test("the client loads, finds its homeserver and is guarded by headers", async () => {
  const { client_port: port } = lab.network.organisations.vvt;
  const response = await page.goto(`http://localhost:${port}/`);
  assert.equal(response.status(), 200);
  const headers = response.headers();
  assert.match(headers["content-security-policy"], /frame-ancestors/);
  assert.equal(headers["x-content-type-options"], "nosniff");
  await page.getByText(`http://vvt.localhost:${lab.network.proxy.client_port}`).waitFor();
});

test("a carer logs in at vvt and opens the room that huisarts invites to", async () => {
  await logIn(page, "zorg", await lab.user("zorg@vvt"));
  room = await doctor.createRoom(ROOM, ["@zorg:vvt"]);
  const invitation = page.getByRole("button", { name: ROOM });
  await invitation.waitFor();
  await invitation.click();
  await page.getByRole("heading", { name: ROOM }).waitFor();
});

test("messages go both ways across federation", async () => {
  await page.getByLabel("Message").fill("Bloeddruk gemeten: 140/90");
  await page.getByRole("button", { name: "Send" }).click();
  assert.equal(await doctor.sees(room, "Bloeddruk gemeten: 140/90"), "@zorg:vvt");
  await doctor.send(room, "Dank, dosering blijft 💊");
  await page.getByText("@arts:huisarts: Dank, dosering blijft 💊").waitFor();
});

test("the browser had nothing to complain about", () => {
  assert.deepEqual(complaints, []);
});

test("who trusts the authority reaches the homeserver as https://vvt:8448", async () => {
  const origin = `https://vvt:${lab.network.proxy.federation_port}`;
  const trusting = await home("trusting");
  await trust(trusting, lab.authority);
  const secure = await launch(trusting, ["vvt"]);
  try {
    const client = await secure.newPage();
    client.setDefaultTimeout(PATIENCE);
    const response = await client.goto(`${origin}/_matrix/client/versions`);
    assert.equal(response.status(), 200);
    assert.equal((await response.securityDetails()).protocol, "TLS 1.3");
    const config = { default_server_config: { "m.homeserver": { base_url: origin, server_name: "vvt" } } };
    await client.route("**/config.json", (route) => route.fulfill({ json: config }));
    await client.goto(`http://localhost:${lab.network.organisations.vvt.client_port}/`);
    await client.getByText(origin).waitFor();
    await logIn(client, "wijk", await lab.user("wijk@vvt"));
  } finally {
    await secure.close();
  }
});

test("who does not trust it is warned", async () => {
  const ignorant = await launch(await home("ignorant"), ["vvt"]);
  try {
    const going = (await ignorant.newPage()).goto(`https://vvt:${lab.network.proxy.federation_port}/`);
    await assert.rejects(going, /ERR_CERT_AUTHORITY_INVALID/);
  } finally {
    await ignorant.close();
  }
});
