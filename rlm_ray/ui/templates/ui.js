"use strict";
// Follows a live run: asks for the part that changes, again and again, until the run has an answer.
const place = document.getElementById("live");
if (place) {
  let seen = "";
  const open = () => new Map([...place.querySelectorAll("details[data-key]")].map((item) => [item.dataset.key, item.open]));
  const draw = (text) => {
    const before = open(), first = place.querySelector("details[data-key]")?.dataset.key;
    const parsed = new DOMParser().parseFromString(text, "text/html");
    place.replaceChildren(...parsed.body.childNodes);
    for (const item of place.querySelectorAll("details[data-key]")) {
      // a turn that is newer than those seen opens by itself; the one that was newest closes, the others stay as they were
      if (before.has(item.dataset.key)) item.open = before.get(item.dataset.key) && (item.dataset.key !== first || item === place.querySelector("details[data-key]"));
    }
  };
  const state = () => place.querySelector("[data-state]")?.dataset.state;
  const follow = async () => {
    const begun = performance.now();
    try {
      const reply = await fetch(place.dataset.source);
      const text = await reply.text();
      if (reply.ok && text !== seen) { seen = text; draw(text); }
    } catch { /* the server ended or sleeps: the next try may do */ }
    if (state() === "answered") { location.reload(); return; }
    const took = performance.now() - begun;
    setTimeout(follow, Math.max(state() === "running" ? 2000 : 10000, 5 * took));
  };
  setTimeout(follow, 1000);
}
