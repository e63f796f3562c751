"use strict";
(() => {
  const stages = [...document.querySelectorAll(".stage")].map((el) => ({
    el,
    code: el.querySelector(".code"),
    count: el.querySelector(".count"),
    title: el.querySelector(".toggle").textContent,
    names: new Map(),
    found: [],
    next: 0,
  }));
  const marks = document.querySelectorAll("[data-n]");
  const charts = document.querySelectorAll(".chart");
  const query = document.getElementById("query");
  const only = document.getElementById("only");
  const status = document.getElementById("status");
  const suggestions = document.getElementById("suggestions");
  const all = new Set();

  for (const s of stages) {
    for (const b of s.code.getElementsByTagName("b")) {
      const name = b.textContent;
      all.add(name);
      const list = s.names.get(name);
      if (list) list.push(b);
      else s.names.set(name, [b]);
    }
  }
  const sorted = [...all].sort();

  // Names by what is typed: a name itself, or else all names that contain it.
  const matching = (text) => {
    if (all.has(text)) return [text];
    const low = text.toLowerCase();
    return low === "" ? [] : sorted.filter((n) => n.toLowerCase().includes(low));
  };

  const clear = () => {
    for (const s of stages) {
      for (const b of s.found) {
        b.classList.remove("on", "hit", "at");
        b.parentElement.classList.remove("match");
      }
      s.found = [];
      s.next = 0;
      s.count.textContent = "";
    }
    for (const m of marks) m.classList.remove("on");
    for (const c of charts) c.classList.remove("picked");
  };

  const centre = (s, b) => {
    for (const o of s.found) o.classList.remove("at");
    b.classList.add("at");
    if (s.el.classList.contains("collapsed")) return;
    const box = s.code.getBoundingClientRect(), at = b.getBoundingClientRect();
    s.code.scrollTop += at.top - box.top - box.height / 3;
  };

  // show highlights names everywhere; the columns but `from` scroll to their first occurrence.
  const show = (names, from) => {
    clear();
    const picked = names.length === 1;
    const set = new Set(names);
    const counts = [];
    for (const s of stages) {
      for (const n of names) s.found.push(...(s.names.get(n) || []));
      if (!picked) s.found.sort((a, b) => (a.compareDocumentPosition(b) & 4 ? -1 : 1));
      for (const b of s.found) {
        b.classList.add(picked ? "on" : "hit");
        b.parentElement.classList.add("match");
      }
      if (names.length) s.count.textContent = s.found.length ? s.found.length + "×" : "not here";
      if (s.found.length) counts.push(s.title + " " + s.found.length);
    }
    for (const m of marks) m.classList.toggle("on", picked && set.has(m.dataset.n));
    for (const c of charts) c.classList.toggle("picked", c.querySelector("g.on") !== null);
    for (const s of stages) if (s !== from && s.found.length) centre(s, s.found[0]);
    if (picked) status.textContent = names[0] + ": " + (counts.join(", ") || "in no stage");
    else if (names.length) status.textContent = names.length + " names contain “" + query.value + "”: " + counts.join(", ");
    else status.textContent = query.value ? "No name contains “" + query.value + "”." : "Click a name to follow it through all stages.";
  };

  const pick = (name, from) => {
    query.value = name;
    history.replaceState(null, "", "#" + encodeURIComponent(name));
    show([name], from);
  };

  const step = (by) => {
    for (const s of stages) {
      if (!s.found.length) continue;
      s.next = (s.next + by + s.found.length) % s.found.length;
      centre(s, s.found[s.next]);
    }
  };

  const fold = (s, folded) => {
    s.el.classList.toggle("collapsed", folded);
    s.el.querySelector(".toggle").setAttribute("aria-expanded", String(!folded));
    if (!folded && s.found.length) centre(s, s.found[s.next]);
  };
  const foldAll = (f) => { for (const s of stages) fold(s, f(s)); };

  for (const s of stages) {
    s.el.querySelector(".toggle").addEventListener("click", () => fold(s, !s.el.classList.contains("collapsed")));
    s.code.addEventListener("click", (e) => { if (e.target.tagName === "B") pick(e.target.textContent, s); });
  }
  for (const m of marks) m.addEventListener("click", () => pick(m.dataset.n, null));
  document.getElementById("expand").addEventListener("click", () => foldAll(() => false));
  document.getElementById("collapse").addEventListener("click", () => foldAll(() => true));
  document.getElementById("changed").addEventListener("click", () => foldAll((s) => s.el.classList.contains("same")));
  only.addEventListener("change", () => {
    document.body.classList.toggle("only", only.checked);
    step(0);
  });

  let timer = 0;
  query.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const names = matching(query.value);
      suggestions.replaceChildren(...names.slice(0, 20).map((n) => new Option(n)));
      show(names, null);
    }, 120);
  });
  document.getElementById("search").addEventListener("submit", (e) => { e.preventDefault(); step(1); });
  document.addEventListener("keydown", (e) => {
    const typing = e.target instanceof HTMLInputElement;
    if (e.key === "/" && !typing) { e.preventDefault(); query.focus(); query.select(); }
    else if (e.key === "Escape") { query.value = ""; show([], null); }
    else if (e.key === "Enter" && e.shiftKey && e.target === query) { e.preventDefault(); step(-1); }
  });

  let hash = "";
  try { hash = decodeURIComponent(location.hash.slice(1)); } catch (_) { hash = ""; }
  if (all.has(hash)) pick(hash, null);
})();
