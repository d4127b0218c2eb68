
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const press = (buttons, chosen) => buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === chosen)));

  // The plate map
  const cells = all(".plate .well");
  let metric = 0;
  let time = 0;

  function paint() {
    const shown = data.metrics[metric];
    for (const cell of cells) {
      const index = Number(cell.dataset.index);
      const colour = shown.colours[time][index];
      const state = data.states[time][index];
      cell.setAttribute("class", ["well", state, colour >= data.inkFrom && "dark", colour < 0 && "novalue"].filter(Boolean).join(" "));
      cell.setAttribute("aria-label", data.words[time][index]);
      cell.querySelector("rect").setAttribute("fill", colour < 0 ? "#d8dce2" : data.palette[colour]);
      const text = cell.querySelector("text");
      if (text) text.textContent = state === "failed" ? "" : shown.texts[time][index];
    }
    const [label, unit] = byId("map-metric").children;
    label.textContent = shown.label;
    unit.textContent = shown.unit;
    all("span", byId("map-ticks")).forEach((tick, i) => { tick.textContent = shown.ticks[i]; });
  }

  const metricButtons = all("[data-metric]");
  metricButtons.forEach((button) => button.addEventListener("click", () => {
    metric = Number(button.dataset.metric);
    press(metricButtons, button);
    paint();
  }));
  byId("timepoint")?.addEventListener("change", (event) => {
    time = Number(event.target.value);
    paint();
  });

  // What is pointed at
  const tip = byId("tip");
  function point(target, x, y) {
    tip.hidden = !target;
    if (!target) return;
    tip.textContent = data.words[time][Number(target.dataset.index)];
    tip.style.left = Math.max(4, Math.min(x + 16, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = (y + 18 + tip.offsetHeight > innerHeight ? Math.max(4, y - tip.offsetHeight - 12) : y + 18) + "px";
  }
  for (const cell of cells) {
    cell.addEventListener("pointermove", (event) => point(cell, event.clientX, event.clientY));
    cell.addEventListener("pointerleave", () => point(null));
    cell.addEventListener("focus", () => {
      const box = cell.getBoundingClientRect();
      if (cell.matches(":focus-visible")) point(cell, box.left, box.bottom);
    });
    cell.addEventListener("blur", () => point(null));
  }

  // The gallery
  const gallery = document.querySelector(".gallery");
  const tiles = all(".tile", gallery);
  const placeOf = (tile) => Number(/place-(\d+)/.exec(tile.className)[1]);
  const places = Math.max(...tiles.map(placeOf));
  const layoutButtons = all("[data-layout]");
  function lay(asPlate) {
    press(layoutButtons, layoutButtons.find((button) => (button.dataset.layout === "plate") === asPlate));
    gallery.classList.toggle("as-plate", asPlate);
    gallery.classList.toggle("narrow", places > 14);
    all(".tiles", gallery).forEach((row) => { row.style.gridTemplateColumns = asPlate ? `repeat(${places}, minmax(0, 232px))` : ""; });
    tiles.forEach((tile) => { tile.style.gridColumn = asPlate ? String(placeOf(tile)) : ""; });
  }
  layoutButtons.forEach((button) => button.addEventListener("click", () => lay(button.dataset.layout === "plate")));
  // The plate's own places, where that leaves tiles large enough to see nuclei in.
  lay(gallery.clientWidth / places >= 100);

  const outlineBoxes = all(".outlines");
  function showOutlines(shown) {
    outlineBoxes.forEach((box) => { box.checked = shown; });
    root.classList.toggle("no-outlines", !shown);
  }
  outlineBoxes.forEach((box) => box.addEventListener("change", () => showOutlines(box.checked)));
  const sliders = all(".brightness");
  sliders.forEach((slider) => slider.addEventListener("input", () => {
    sliders.forEach((other) => { other.value = slider.value; });
    root.style.setProperty("--brightness", 2 ** Number(slider.value));
  }));

  // The viewer
  const viewer = byId("viewer");
  let open = 0;
  function show(index) {
    open = (index + tiles.length) % tiles.length;
    const tile = tiles[open];
    const template = tile.querySelector("template");
    const picture = template ? template.content.cloneNode(true) : tile.querySelector(".stack").cloneNode(true);
    byId("viewer-picture").replaceChildren(picture);
    byId("viewer-title").textContent = `Well ${tile.dataset.well}`;
    byId("viewer-words").textContent = data.words[time][Number(tile.dataset.index)];
    byId("viewer-view").textContent = tile.querySelector(".view")?.textContent ?? "";
    cells.forEach((cell) => cell.classList.toggle("pointed", cell.dataset.open === tile.dataset.well));
    if (!viewer.open) viewer.showModal();
  }
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (!opener) return;
    event.preventDefault();
    point(null);
    show(tiles.findIndex((tile) => tile.dataset.well === opener.dataset.open));
  });
  byId("viewer-close").addEventListener("click", () => viewer.close());
  byId("viewer-previous").addEventListener("click", () => show(open - 1));
  byId("viewer-next").addEventListener("click", () => show(open + 1));
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => cells.forEach((cell) => cell.classList.remove("pointed")));
  viewer.addEventListener("keydown", (event) => {
    if (event.target.matches("input[type=range]")) return;
    if (event.key === "ArrowRight") show(open + 1);
    else if (event.key === "ArrowLeft") show(open - 1);
    else if (event.key.toLowerCase() === "o") showOutlines(root.classList.contains("no-outlines"));
  });
})();
