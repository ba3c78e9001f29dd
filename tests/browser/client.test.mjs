// A browser against a running network: it loads the client on 8003, logs in on vvt, opens the room that a person at
// huisarts invited it to, and sends and receives across federation. What breaks here is CORS, well-known, mixed content.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

import { Lab } from "./lab.mjs";
import { Person } from "./matrix.mjs";
import { standInClient } from "./stand-in.mjs";

const PATIENCE = 60_000; // ms; a federated step takes a second, a busy machine needs more
const ARGUMENTS = [
  "--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const ROOM = "Medicatie";
let directory, lab, browser, page, doctor, room;
const complaints = [];

function complain(text, url) {
  // The SDK tries features that are not in the specification yet; Synapse rightly answers 404.
  if (!(text.includes("404") && url.includes("/_matrix/client/unstable/"))) complaints.push(`${text} ${url}`);
}

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "care-federation-browser-"));
  lab = await Lab.up(join(directory, "state"), await standInClient(join(directory, "element")));
  doctor = await new Person(lab.network.proxy.client_port, "huisarts").logIn("arts", await lab.user("arts@huisarts"));
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  browser = await chromium.launch({ executablePath, args: ARGUMENTS });
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
  const password = await lab.user("zorg@vvt");
  await page.getByLabel("User").fill("zorg");
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Invitations and rooms" }).waitFor();
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
