// Pictures: the gallery, and the viewer of a well. A well's pictures are read when it is first looked at.

const readPictures = new Map();
function picturesOf(well) {
  if (!readPictures.has(well)) readPictures.set(well, JSON.parse(byId(`pictures-${well}`)?.textContent ?? "[]"));
  return readPictures.get(well);
}

/** A picture with its outlines over it; `bar` adds the scale bar. */
function stack(picture, words, bar = false) {
  const images = [["base", "webp", picture.image, words], ["outline", "png", picture.outlines, ""]].map(([name, kind, content, alt]) =>
    made("img", { class: name, src: `data:image/${kind};base64,${content}`, width: picture.width, height: picture.height, alt, decoding: "async" }));
  const holder = made("span", { class: "stack" }, images);
  if (bar && picture.bar) {
    const foot = picture.height - 14;
    holder.append(drawn("svg", { class: "bar", viewBox: `0 0 ${picture.width} ${picture.height}`, "aria-hidden": "true" }, [
      drawn("path", { d: `M12 ${foot}h${picture.bar[0].toFixed(1)}` }),
      drawn("text", { x: 12, y: foot - 7 }, picture.bar[1]),
    ]));
  }
  return holder;
}

function tile(well, field, words) {
  const index = wellNumber.get(well);
  const status = data.states[0][index];
  const exposure = picturesOf(well).find((e) => field === null || e.shot === field);
  const shown = exposure ? stack(exposure.small, `Well ${well}, field ${exposure.shot}`) : made("span", { class: `stack absent ${status}` }, made("span", {}, status === "failed" ? "not measured" : "no picture"));
  const button = made("button", { type: "button", "data-open": well, "data-field": exposure?.shot ?? "", "aria-label": `Enlarge well ${well}`, title: well }, shown);
  const named = field === null ? well : `${well} field ${field}`;
  const caption = made("figcaption", {}, [made("b", {}, named), " ", made("span", {}, words)]);
  return made("figure", { class: `tile ${status} ${kindOf(index)}`, "data-well": well }, [button, caption]);
}

const tiles = byId("tiles");
const choiceButtons = all("[data-choice]");
function choose(button) {
  press(choiceButtons, button);
  const choice = data.choices[button.dataset.choice];
  byId("gallery-why").textContent = choice ? choice.why : "The first picture of every well, in its place.";
  tiles.className = choice ? "scripted" : "scripted as-plate";
  tiles.style.gridTemplateColumns = "";
  if (choice) {
    tiles.replaceChildren(...choice.shots.map(([well, field, words]) => tile(well, field, words)));
    return;
  }
  const [rows, columns] = [0, 1].map((i) => data.places.map((place) => place[i]));
  const [top, left] = [Math.min(...rows), Math.min(...columns)];
  const across = Math.max(...columns) - left + 1;
  tiles.classList.toggle("narrow", across > 14);
  tiles.classList.toggle("tiny", across > 24);
  // So wide that nuclei are seen; what does not fit is scrolled to.
  tiles.style.gridTemplateColumns = `repeat(${across}, minmax(36px, 232px))`;
  const density = valuesOf(data.columns[0].name, 0);
  tiles.replaceChildren(...data.wells.map((well, i) => {
    const place = tile(well, null, data.states[0][i] === "failed" ? "failed" : compact(density[i]));
    place.style.gridArea = `${rows[i] - top + 1} / ${columns[i] - left + 1}`;
    return place;
  }));
}
choiceButtons.forEach((button) => button.addEventListener("click", () => choose(button)));
if (choiceButtons.length) choose(choiceButtons[0]);

// Single nuclei: a sheet's pictures are read when it is first shown.
const sheets = all(".sheet");
const sheetButtons = all("[data-sheet]");
function showSheet(number) {
  press(sheetButtons, sheetButtons[number]);
  sheets.forEach((sheet, i) => { sheet.hidden = i !== number; });
  if (sheets[number].dataset.drawn) return;
  sheets[number].dataset.drawn = "1";
  const kinds = JSON.parse(all(".portraits-of")[number].textContent);
  all(".portraits", sheets[number]).forEach((row, i) => row.replaceChildren(...kinds[i].map(([well, field, words, picture]) => {
    const button = made("button", { type: "button", "data-open": well, "data-field": field, "aria-label": words }, stack(picture, ""));
    button.addEventListener("pointermove", (event) => point(words, event.clientX, event.clientY));
    button.addEventListener("pointerleave", () => point(null));
    return button;
  })));
}
sheetButtons.forEach((button, number) => button.addEventListener("click", () => showSheet(number)));
if (sheets.length) showSheet(0);

const outlineBoxes = all(".outlines");
function showOutlines(shown) {
  state.outlines = shown;
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
const viewed = { well: 0, field: null };
function show(well, field = null) {
  viewed.well = (well + data.wells.length) % data.wells.length;
  const name = data.wells[viewed.well];
  const exposures = picturesOf(name);
  const exposure = exposures.find((e) => e.shot === field) ?? exposures[0];
  viewed.field = exposure?.shot ?? null;
  const picture = exposure && (exposure.large ?? exposure.small);
  const status = data.states[state.time][viewed.well];
  byId("viewer-picture").replaceChildren(picture ? stack(picture, `Well ${name}, field ${exposure.shot}, enlarged`, true) : made("span", { class: `stack absent ${status}` }, made("span", {}, status === "failed" ? "not measured" : "no picture")));
  byId("viewer-title").textContent = `Well ${name}`;
  byId("viewer-words").textContent = data.words[state.time][viewed.well];
  const main = data.columns.filter((column) => column.group === data.columns[0].group || column === shownColumn);
  byId("viewer-values").tBodies[0].replaceChildren(...main.map((column) => made("tr", {}, [
    made("td", {}, column.label),
    made("td", { class: "figure" }, `${number(valuesOf(column.name)[viewed.well])} ${column.unit}`),
  ])));
  byId("viewer-view").textContent = picture ? `Field ${exposure.shot}${data.timepoints.length > 1 ? ` at time point ${exposure.time}` : ""}: a window of ${picture.width * picture.reduction} × ${picture.height * picture.reduction} camera pixels${picture.reduction > 1 ? `, reduced ${picture.reduction}-fold` : ""}${exposure.large ? "" : "; small, for the report's size"}. ${data.pictured}`.trim() : "";
  byId("viewer-fields").replaceChildren(...(exposures.length > 1 ? exposures : []).map((e) => {
    const button = made("button", { type: "button", "aria-label": `Field ${e.shot}`, "aria-pressed": String(e === exposure) }, [stack(e.small, ""), String(e.shot)]);
    button.addEventListener("click", () => show(viewed.well, e.shot));
    return button;
  }));
  cells.forEach((cell) => cell.classList.toggle("pointed", cell.dataset.open === name));
  if (!viewer.open) viewer.showModal();
}
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (!opener) return;
  event.preventDefault();
  point(null);
  show(wellNumber.get(opener.dataset.open), opener.dataset.field ? Number(opener.dataset.field) : null);
});
byId("viewer-close").addEventListener("click", () => viewer.close());
byId("viewer-previous").addEventListener("click", () => show(viewed.well - 1));
byId("viewer-next").addEventListener("click", () => show(viewed.well + 1));
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("close", () => cells.forEach((cell) => cell.classList.remove("pointed")));
viewer.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=range]")) return;
  if (event.key === "ArrowRight") show(viewed.well + 1);
  else if (event.key === "ArrowLeft") show(viewed.well - 1);
  else if (event.key.toLowerCase() === "o") showOutlines(!state.outlines);
});
