"use strict";
// Everything here is an addition: the pages work without it, apart from the live log.
(() => {
  const MAX_LINES = 10000;
  const MAX_STREAMS = 4; // a browser has six connections for all of a page
  const REFRESH_MS = 4000;
  const ANSI = /\u001b\[[0-9;?]*[ -/]*[@-~]/g;

  function offerCopying() {
    for (const block of document.querySelectorAll(".command:not([data-copy])")) {
      block.dataset.copy = "";
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.setAttribute("aria-label", "Copy to the clipboard");
      button.addEventListener("click", async () => {
        const code = block.querySelector("code");
        try {
          await navigator.clipboard.writeText(code.textContent);
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(code);
          button.textContent = "Press Ctrl+C";
        }
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
      block.append(button);
    }
  }

  function lineElement(line) {
    const row = document.createElement("div");
    row.className = "line " + (line.stream === "status" ? "status-line" : line.stream === "stderr" ? "stderr" : "stdout");
    const time = document.createElement("time");
    time.textContent = line.time.slice(11, 19);
    time.dateTime = line.time + "Z";
    if (line.replica) time.title = line.replica;
    const text = document.createElement("span");
    text.textContent = line.message.replace(ANSI, "").replace(/\r/g, "");
    row.append(time, text);
    return row;
  }

  function follow(log) {
    const state = log.closest("section").querySelector(".log-state");
    const says = log.querySelector(".says");
    const source = new EventSource(log.dataset.stream);
    let pending = [];
    log.scrollTop = log.scrollHeight;
    const show = () => {
      if (!pending.length) return;
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
      const lines = document.createDocumentFragment();
      for (const line of pending.slice(-MAX_LINES)) lines.append(lineElement(line));
      pending = [];
      says?.remove();
      log.append(lines);
      while (log.childElementCount > MAX_LINES) log.firstElementChild.remove();
      if (atEnd) log.scrollTop = log.scrollHeight;
    };
    source.addEventListener("open", () => { state.textContent = "live"; });
    source.addEventListener("lines", (event) => {
      if (!pending.length) requestAnimationFrame(show);
      pending.push(...JSON.parse(event.data));
    });
    source.addEventListener("end", () => {
      source.close();
      show();
      state.textContent = "complete";
      if (says?.isConnected) says.textContent = "This execution printed nothing.";
    });
    source.addEventListener("error", () => {
      state.textContent = source.readyState === EventSource.CLOSED ? "not available now; reload the page" : "connecting again …";
    });
  }

  // Parts marked data-refresh are fetched again while something is going on, and swapped where they changed.
  async function refresh() {
    if (document.visibilityState === "visible") {
      try {
        const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
        if (!answer.ok) throw new Error(String(answer.status));
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of document.querySelectorAll("[data-refresh]")) {
          const newer = fresh.getElementById(part.id);
          if (newer && newer.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) {
            part.replaceWith(document.importNode(newer, true));
          }
        }
        offerCopying();
        if (!fresh.querySelector("[data-unfinished]")) return;
      } catch { /* The server is away for a moment: the next round tries again. */ }
    }
    setTimeout(refresh, REFRESH_MS);
  }

  offerCopying();
  for (const log of [...document.querySelectorAll("[data-stream]")].slice(0, MAX_STREAMS)) follow(log);
  if (document.querySelector("[data-unfinished]")) setTimeout(refresh, REFRESH_MS);
  for (const form of document.querySelectorAll("form[data-submit-on-change]")) {
    form.addEventListener("change", () => form.requestSubmit());
  }
})();
