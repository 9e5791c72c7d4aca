// Everything works without this script. It refreshes parts of a page, selects all rows, counts them, goes on with a
// bulk repair, and copies commands.
"use strict";

const busy = (region) => {
  const focused = document.activeElement;
  const inside = focused && focused !== region && region.contains(focused) && focused.matches("input, button, select, textarea, pre, a");
  const selection = window.getSelection();
  const reading = selection && !selection.isCollapsed && region.contains(selection.anchorNode);
  return inside || reading || region.querySelector("input[type=checkbox]:checked") !== null;
};

const refresh = async (region) => {
  const answer = await fetch(window.location.href, { headers: { accept: "text/html" }, redirect: "error" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.querySelector("[data-live]");
  // The answer may have taken a while: somebody may read or select by now.
  if (fresh === null || busy(region)) return;
  region.replaceChildren(...fresh.childNodes);
  document.title = page.title;
  const [old, now] = [document, page].map((each) => each.querySelector("footer p")?.firstChild);
  if (old && now) old.textContent = now.textContent;
};

const keepLive = (region) => {
  const control = document.querySelector("[data-live-switch]");
  if (control === null) return;
  control.closest("label").hidden = false;
  let running = false;
  window.setInterval(async () => {
    if (running || !control.checked || document.visibilityState === "hidden" || busy(region)) return;
    running = true;
    try {
      await refresh(region);
    } catch {
      // The server may restart: the next round tries again, and the page says when it was read.
    } finally {
      running = false;
    }
  }, Number(region.dataset.live) * 1000);
};

const selectRows = (all) => {
  const form = all.form;
  const rows = [...form.querySelectorAll("input[name=pick]")];
  const told = form.querySelector("[data-selected]");
  const count = () => {
    const chosen = rows.filter((row) => row.checked).length;
    all.checked = chosen === rows.length;
    all.indeterminate = chosen > 0 && chosen < rows.length;
    if (told) told.textContent = chosen ? `${chosen} selected` : "";
  };
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const row of rows) row.checked = all.checked;
    count();
  });
  for (const row of rows) row.addEventListener("change", count);
  // A page that comes back from the history must not keep a selection that nobody remembers.
  window.addEventListener("pageshow", () => {
    for (const row of rows) row.checked = false;
    count();
  });
};

const goOn = (form) => {
  const stop = form.querySelector("[data-stop]");
  const timer = window.setTimeout(() => form.requestSubmit(), Number(form.dataset.continue) * 1000);
  stop.hidden = false;
  stop.addEventListener("click", () => {
    window.clearTimeout(timer);
    stop.hidden = true;
  });
};

const offerCopy = (block) => {
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = "Copied";
  });
  block.after(button);
};

const once = (form) => {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
  // After "back", the form may be sent again.
  window.addEventListener("pageshow", () => delete form.dataset.sent);
};

document.querySelectorAll("[data-live]").forEach(keepLive);
document.querySelectorAll("[data-select-all]").forEach(selectRows);
document.querySelectorAll("[data-continue]").forEach(goOn);
document.querySelectorAll("pre.copy").forEach(offerCopy);
document.querySelectorAll("form[method=post]").forEach(once);
