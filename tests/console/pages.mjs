// Opens every page of a console in Chromium. Prints a line for each check that passed; a fault ends
// the process.
//
//     pages.mjs NODE_MODULES CHROMIUM CONSOLE TITLE [SCREENSHOTS]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, chromium, base, title, screenshots] = process.argv.slice(2);
const require = createRequire(join(modules, "package.json"));
const playwright = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const WINDOWS = {
  phone: { width: 390, height: 844 },
  desk: { width: 1280, height: 900 },
};
const PAGES = {
  jobs: "/",
  search: "/?q=tower&state=completed",
  quick: "/jobs/quick",
  portfolio: "/jobs/portfolio",
  waiting: "/jobs/waiting",
  agents: "/agents",
  store: "/store",
};

const browser = await playwright.chromium.launch({
  executablePath: chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

/** A page that records what its browser complains about. */
const open = async (context) => {
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  // A reload or a download aborts what the page was asking for.
  page.on("requestfailed", (request) => {
    const error = request.failure()?.errorText;
    if (error !== "net::ERR_ABORTED") faults.push(`${request.url()}: ${error}`);
  });
  page.on("request", (request) => request.url().startsWith(base) || faults.push(`asks for ${request.url()}`));
  page.on("dialog", (dialog) => faults.push(`dialog: ${dialog.message()}`));
  return { page, faults };
};

const checkPage = async (page, name) => {
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(overflow <= 0, `${name} is ${overflow} px wider than its window`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
  assert.deepEqual(found, [], `axe on ${name}`);
};

const context = await browser.newContext({ viewport: WINDOWS.desk });
// First of all, because the job does not run for ever.
{
  const { page, faults } = await open(context);
  await page.goto(`${base}/jobs/long`);
  await page.evaluate(() => (window.isSamePage = true));
  const share = () => page.locator("progress.bar").evaluate((bar) => bar.value);
  const first = await share();
  await page.waitForFunction((first) => document.querySelector("progress.bar")?.value > first, first, { timeout: 60_000 });
  assert.ok(await page.evaluate(() => window.isSamePage), "progress arrives without a reload");
  if (screenshots) await page.screenshot({ path: join(screenshots, "long-desk-light.png"), fullPage: true });
  await page.getByRole("heading", { name: "Figures" }).waitFor({ timeout: 300_000 });
  assert.equal(await page.locator("[data-refresh-seconds]").count(), 0, "a page of an ended job asks for nothing more");
  assert.deepEqual(faults, []);
  console.log("progress is shown live, and the result once the job has completed");
}

for (const [window, viewport] of Object.entries(WINDOWS)) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: window === "phone" ? 2 : 1 });
    for (const [name, path] of Object.entries(PAGES)) {
      const { page, faults } = await open(context);
      await page.goto(base + path);
      await checkPage(page, `${name} on a ${window}, ${colorScheme}`);
      if (screenshots) {
        await page.screenshot({ path: join(screenshots, `${name}-${window}-${colorScheme}.png`), fullPage: true });
      }
      assert.deepEqual(faults, [], `${name} on a ${window}, ${colorScheme}`);
      await page.close();
    }
    await context.close();
    console.log(`pages fit a ${window}, ${colorScheme}, without errors and findings of axe`);
  }
}

{
  const { page, faults } = await open(context);
  await page.goto(base);
  await page.getByRole("link", { name: title }).click();
  assert.equal(await page.getByRole("heading", { level: 1 }).textContent(), title);
  await page.goto(base);
  await page.getByRole("searchbox").fill("TOWER");
  await page.getByRole("searchbox").press("Enter");
  await page.waitForURL(/q=TOWER/);
  assert.equal(await page.locator("tbody tr").count(), 1);
  assert.deepEqual(faults, []);
  console.log("a job is found by its title, which is shown as text");
}
{
  const { page, faults } = await open(context);
  await page.goto(`${base}/jobs/quick`);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download ept.csv" }).click(),
  ]);
  const text = readFileSync(await download.path(), "utf8");
  assert.ok(download.suggestedFilename() === "ept.csv" && text.startsWith("SummaryId,"), text.slice(0, 80));
  await page.getByRole("link", { name: "report.html", exact: true }).click();
  await page.waitForLoadState();
  assert.equal(await page.getByRole("heading", { level: 1 }).textContent(), title);
  assert.equal(await page.evaluate(() => self.origin), "null", "the report has an origin of its own");
  assert.deepEqual(faults, []);
  console.log("artifacts are downloaded, and the report is shown in a sandbox");
}
{
  const { page } = await open(context);
  await page.goto(`${base}/agents`);
  await page.route("**/live/agents", (route) => route.fulfill({ status: 503, body: "try again" }));
  await page.getByText("not updated since").waitFor({ timeout: 60_000 });
  const shown = await page.locator("[data-refresh-seconds]").textContent();
  assert.ok(shown.includes("verifier") && !shown.includes("try again"), shown);
  await page.unroute("**/live/agents");
  await page.locator("[data-freshness]", { hasText: "live" }).waitFor({ timeout: 60_000 });
  console.log("a page keeps what it shows while it cannot be updated, and says so");
}
await browser.close();
