// A browser on the bridge's web page: with JavaScript it keeps itself up to date, without it everything can still be
// read and parked work put back; nothing comes from elsewhere, and keyboard and screen reader find their way.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

import { Bridge, TOKEN } from "./bridge.mjs";

const PATIENCE = 60_000; // ms
const ARGUMENTS = [
  "--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
let directory, bridge, guarded, browser;
const complaints = [], strangers = [];

/** A page in a context of its own, of which every complaint and every request elsewhere is kept. */
async function open({ attacks = false, ...options } = {}) {
  const context = await browser.newContext({ locale: "nl-NL", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => message.type() === "error" && !attacks && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (![bridge, guarded].some((own) => url.startsWith(`${own.page}/`))) strangers.push(url);
  });
  return page;
}

async function introduce(to) {
  const subject = { reference: "Patient/p" };
  await to.put({ resourceType: "Patient", id: "p", name: [{ family: "Kanarie" }] });
  await to.put({ resourceType: "Practitioner", id: "Anna", name: [{ text: "Anna de Arts" }] });
  const participant = [{ member: { reference: "Practitioner/Anna" } }];
  await to.put({ resourceType: "CareTeam", id: "Team-1", status: "active", subject, participant });
  await to.put({
    resourceType: "CommunicationRequest", id: "t1", status: "active", subject,
    requester: { reference: "Practitioner/Anna" }, recipient: [{ reference: "CareTeam/Team-1" }],
    payload: [{ contentString: "Hoe gaat het?" }],
  });
  await to.put({
    resourceType: "Communication", id: "m1", status: "completed", sent: "2026-11-22T18:30:00Z",
    partOf: [{ reference: "CommunicationRequest/t1" }], sender: { reference: "Practitioner/Anna" },
    payload: [{ contentString: "<script>document.title = 'kwaad'</script>" }],
  });
}

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "care-federation-page-"));
  [bridge, guarded] = await Promise.all([
    Bridge.up(join(directory, "open")), Bridge.up(join(directory, "guarded"), { viewers: true }),
  ]);
  await Promise.all([introduce(bridge), introduce(guarded)]);
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  browser = await chromium.launch({ executablePath, args: ARGUMENTS });
});

after(async () => {
  await browser?.close();
  await Promise.all([bridge?.down(), guarded?.down()]);
  await rm(directory, { recursive: true, force: true });
});

test("the overview says what is wrong, and changes by itself", async () => {
  const page = await open();
  await page.goto(bridge.page);
  assert.equal(await page.locator("html").getAttribute("lang"), "nl");
  await page.getByText("Deze pagina werkt zichzelf bij.").waitFor();
  await page.locator(".health .problem", { hasText: "Homeserver" }).waitFor();
  const parked = page.locator("dl.numbers div", { hasText: "geparkeerd" }).locator("dd");
  assert.equal(await parked.textContent(), "0");
  await page.evaluate(() => { window.sameDocument = true; });
  await bridge.park(1);
  await parked.getByText("1", { exact: true }).waitFor();
  assert(await page.evaluate(() => window.sameDocument), "the page was not loaded anew");
  if (process.env.PAGE_SCREENSHOT) await page.screenshot({ path: process.env.PAGE_SCREENSHOT, fullPage: true });
});

test("without JavaScript everything is read, and parked work put back", async () => {
  const page = await open({ javaScriptEnabled: false, locale: "en-GB" });
  await page.goto(`${bridge.page}/queue`);
  await page.getByText("Reload the page to see what has changed.").waitFor();
  const rows = page.locator("tr.problem");
  assert.equal(await rows.count(), 1);
  await page.getByRole("button", { name: /^Retry work/ }).click();
  await page.waitForURL(`${bridge.page}/queue`);
  assert.equal(await page.getByRole("heading", { level: 1 }).textContent(), "Work");
  await page.getByRole("link", { name: "Care teams", exact: true }).click();
  await page.getByRole("link", { name: "CareTeam/Team-1" }).click();
  await page.getByRole("link", { name: "CommunicationRequest/t1" }).click();
  await page.getByText("Communication/m1").waitFor();
  assert.equal(await page.getByText("kwaad").count(), 0);
});

test("without JavaScript one conversation is compared, with it everything", async () => {
  const plain = await open({ javaScriptEnabled: false, locale: "en-GB" });
  await plain.goto(`${bridge.page}/threads/t1`);
  await plain.getByRole("button", { name: "Compare and repair this conversation" }).click();
  await plain.waitForURL(/\/comparisons\/\d+$/);
  assert.equal(await plain.locator("#progress").textContent(), "done");
  await plain.getByRole("heading", { name: "Differences: 1" }).waitFor();
  const row = plain.locator("tbody tr");
  assert.match(await row.textContent(), /no room.*CommunicationRequest\/t1.*put to work/);

  const page = await open();
  await page.goto(bridge.page);
  await page.getByRole("button", { name: "Vergelijk en herstel alles" }).click();
  await page.waitForURL(/\/comparisons\/\d+$/);
  // Team and conversation have no room while there is no homeserver; the page follows by itself.
  await page.getByRole("heading", { name: "Verschillen: 2" }).waitFor();
  await page.locator("#progress", { hasText: "klaar" }).waitFor();
  if (process.env.PAGE_SCREENSHOT) {
    await page.screenshot({ path: process.env.PAGE_SCREENSHOT.replace(".png", "-compared.png"), fullPage: true });
  }
  await page.getByRole("link", { name: "Overzicht" }).click();
  await page.getByRole("link", { name: "klaar" }).click();
  await page.getByRole("heading", { name: "Verschillen: 2" }).waitFor();
});

test("whoever signs in sees texts, as texts", async () => {
  const page = await open();
  await page.goto(`${guarded.page}/threads/t1`);
  await page.getByText("Communication/m1").waitFor();
  assert.equal(await page.getByText("kwaad").count(), 0);
  await page.getByRole("link", { name: "Aanmelden" }).click();
  await page.getByLabel("Token").fill(TOKEN);
  await page.getByRole("main").getByRole("button", { name: "Aanmelden" }).click();
  await page.getByText("Aangemeld als zuster").waitFor();
  await page.goto(`${guarded.page}/threads/t1`);
  await page.getByText("<script>document.title = 'kwaad'</script>").waitFor();
  assert.match(await page.title(), /^Gesprek/);
  if (process.env.PAGE_SCREENSHOT) {
    await page.screenshot({ path: process.env.PAGE_SCREENSHOT.replace(".png", "-thread.png"), fullPage: true });
  }
  await page.getByRole("button", { name: "Afmelden" }).click();
  await page.getByRole("link", { name: "Aanmelden" }).waitFor();
});

test("a page of another site cannot put work back", async () => {
  await guarded.park(1);
  const page = await open({ attacks: true });
  // The attacker's page is one of the other bridge's origin: another port is another origin.
  await page.goto(`${bridge.page}/style.css`);
  const status = await page.evaluate(async (target) => {
    const answer = await fetch(`${target}/queue/retry`, {
      method: "POST", mode: "no-cors", body: new URLSearchParams({ mark: "x" }),
    });
    return answer.type;
  }, guarded.page);
  assert.equal(status, "opaque");
  const work = await open({ javaScriptEnabled: false });
  await work.goto(`${guarded.page}/queue`);
  assert.equal(await work.locator("tr.problem").count(), 1);
});

test("keyboard and narrow screens find their way", async () => {
  const page = await open({ viewport: { width: 360, height: 640 } });
  for (const path of ["/", "/organisations", "/teams", "/threads", "/threads/t1", "/queue", "/comparisons/1"]) {
    await page.goto(`${bridge.page}${path}`);
    assert.equal(await page.locator("h1").count(), 1, path);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert(wide <= 0, `${path} is ${wide} px too wide`);
    const unnamed = await page.evaluate(() =>
      [...document.querySelectorAll("a, button, input:not([type=hidden])")]
        .filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length)).length);
    assert.equal(unnamed, 0, path);
  }
  await page.goto(bridge.page);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "content");
});

test("nothing came from elsewhere, and the browser had nothing to complain about", () => {
  assert.deepEqual(strangers, []);
  assert.deepEqual(complaints, []);
});
