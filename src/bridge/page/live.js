// Fetches the page anew when the bridge says that something changed. Everything works without it.
"use strict";
(() => {
  const line = document.getElementById("live");
  if (!line || !window.EventSource) return;
  const say = (text) => { if (line.textContent !== text) line.textContent = text; };
  let busy = false, again = false;

  async function renew() {
    // Whoever fills in a form, or looks elsewhere, is left alone; the next change comes.
    if (document.hidden || document.activeElement?.closest("input")) return;
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      say(line.dataset.off);
    } finally {
      busy = false;
      if (again) { again = false; renew(); }
    }
  }

  function show(fresh) {
    const [old, made] = [document.getElementById("content"), fresh.getElementById("content")];
    if (!made || old.innerHTML === made.innerHTML) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    old.replaceChildren(...made.childNodes);
    if (focused) document.getElementById(focused)?.focus();
  }

  const stream = new EventSource("/live");
  stream.onopen = () => { say(line.dataset.on); renew(); };
  stream.onerror = () => say(line.dataset.off);
  stream.onmessage = renew;
  document.addEventListener("visibilitychange", renew);
})();
