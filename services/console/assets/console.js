// Replaces the part of a page that changes by what the server renders for it now. Text of jobs and
// agents is escaped by the server.
"use strict";

const MAX_BACKOFF_SECONDS = 30;

const live = document.querySelector("[data-refresh-seconds]");
const freshness = document.querySelector("[data-freshness]");

if (live) {
  const period = Number(live.dataset.refreshSeconds);
  let failures = 0;
  let shown = live.innerHTML;
  let lastAnswer = new Date();

  const replace = (text) => {
    if (text === shown) return;
    shown = text;
    const focused = live.contains(document.activeElement) && document.activeElement.getAttribute("href");
    live.innerHTML = text;
    // The element that had the focus is gone: its successor leads to the same address.
    if (focused) live.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    // A page in the background asks for nothing, and is renewed once it is seen again.
    if (document.hidden) return schedule();
    try {
      const response = await fetch(live.dataset.source, { cache: "no-store" });
      // The page keeps what it shows: the text of another answer need not be a part of it.
      if (!response.ok) throw new Error(`status ${response.status}`);
      replace(await response.text());
      if (live.querySelector("[data-ended]")) return location.reload();
      failures = 0;
      lastAnswer = new Date();
      freshness.textContent = "live";
    } catch {
      failures += 1;
      freshness.textContent = `not updated since ${lastAnswer.toLocaleTimeString()}`;
    }
    schedule();
  };

  const schedule = () =>
    setTimeout(refresh, 1000 * Math.min(period * 2 ** failures, Math.max(period, MAX_BACKOFF_SECONDS)));

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) freshness.textContent = "live";
  });
  schedule();
}
