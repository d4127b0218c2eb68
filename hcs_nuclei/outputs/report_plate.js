// The plate map: any column of the well table on a colour scale.

const cells = all(".plate .well");
const cellOf = new Map(cells.map((cell) => [Number(cell.dataset.index), cell]));
const select = byId("column");
const [lowBox, highBox] = [byId("scale-low"), byId("scale-high")];
let shownColumn = data.columns[0];
let limits = [0, 0];

/** Ends of the scale over all time points: percentiles that outliers do not stretch, or all of the range. */
function limitsOf(column, robust) {
  const start = columnNumber.get(column.name) * data.timepoints.length * data.wells.length;
  const values = known(packedValues.subarray(start, start + data.timepoints.length * data.wells.length));
  if (!values.length) return [0, 0];
  const ends = robust && values.length >= data.robust.from ? data.robust.percentiles.map((p) => p / 100) : [0, 1];
  let [low, high] = ends.map((share) => quantile(values, share));
  if (column.amount) low = Math.min(low, 0);
  if (column.centre !== null) {
    const reach = Math.max(Math.abs(low - column.centre), Math.abs(high - column.centre));
    [low, high] = [column.centre - reach, column.centre + reach];
  }
  return [low, high];
}

const paletteOf = (column) => (column.centre === null ? data.palettes.one : data.palettes.two);
function colourOf(value, palette) {
  if (!Number.isFinite(value)) return null;
  const span = limits[1] - limits[0];
  const share = span ? Math.min(Math.max((value - limits[0]) / span, 0), 1) : 0;
  return palette[Math.round(255 * share)];
}

/** Whether dark text reads better on a colour than white (WCAG 2). */
function isLight(colour) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179;
}

const valueWords = (column, value) => (Number.isFinite(value) ? `${column.label}: ${number(value)}${column.unit ? " " + column.unit : ""}` : `${column.label}: no value`);
const wordsOf = (well) => `${data.words[state.time][well]}\n${valueWords(shownColumn, valuesOf(shownColumn.name)[well])}`;

function paint() {
  const values = valuesOf(shownColumn.name);
  const palette = paletteOf(shownColumn);
  cells.forEach((cell) => {
    const well = Number(cell.dataset.index);
    const status = data.states[state.time][well];
    const colour = colourOf(values[well], palette);
    const classes = ["well", status, kindOf(well), colour && isLight(colour) && "dark", !colour && "novalue", cell.classList.contains("pointed") && "pointed"];
    cell.setAttribute("class", classes.filter(Boolean).join(" "));
    cell.setAttribute("aria-label", wordsOf(well));
    cell.querySelector("rect").setAttribute("fill", colour ?? "var(--nothing)");
    const text = cell.querySelector("text");
    if (text) text.textContent = status === "failed" ? "" : compact(values[well]);
  });
  const [label, unit] = byId("map-metric").children;
  label.textContent = shownColumn.label;
  unit.textContent = shownColumn.unit;
  byId("column-meaning").textContent = `${shownColumn.name}: ${shownColumn.meaning}.`;
  const bar = byId("map-scale").getContext("2d");
  palette.forEach((colour, i) => { bar.fillStyle = colour; bar.fillRect(i, 0, 1, 1); });
  const sorted = known(values);
  const five = [0, 1, 2, 3, 4].map((i) => limits[0] + (limits[1] - limits[0]) * i / 4).map(number);
  if (sorted.length && sorted[0] < limits[0]) five[0] = "≤ " + five[0];
  if (sorted.length && sorted.at(-1) > limits[1]) five[4] = "≥ " + five[4];
  byId("map-ticks").replaceChildren(...five.map((tick) => made("span", {}, tick)));
}

function setLimits(pair) {
  limits = pair;
  [lowBox.value, highBox.value] = pair.map((v) => Number(v.toPrecision(4)));
  paint();
}
function showColumn(name) {
  shownColumn = data.columns[columnNumber.get(name)];
  setLimits(limitsOf(shownColumn, true));
}
byId("scale-robust").addEventListener("click", () => setLimits(limitsOf(shownColumn, true)));
byId("scale-full").addEventListener("click", () => setLimits(limitsOf(shownColumn, false)));
[lowBox, highBox].forEach((box) => box.addEventListener("change", () => {
  const typed = [lowBox, highBox].map((b) => Number(b.value.replace(",", ".")));
  if (typed.every(Number.isFinite) && typed[0] < typed[1]) { limits = typed; paint(); } else setLimits(limits);
}));

/** The columns whose name or label has every word, in their groups. */
function listColumns(search) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map();
  for (const column of data.columns) {
    const text = `${column.label} ${column.name} ${column.group}`.toLowerCase();
    if (!words.every((word) => text.includes(word))) continue;
    if (!groups.has(column.group)) groups.set(column.group, made("optgroup", { label: column.group }));
    groups.get(column.group).append(made("option", { value: column.name, title: column.meaning }, column.label));
  }
  select.replaceChildren(...groups.values());
  select.disabled = !groups.size;
  if (!groups.size) return;
  select.value = shownColumn.name;
  if (select.value !== shownColumn.name) { select.selectedIndex = 0; showColumn(select.value); }
}
select.addEventListener("change", () => showColumn(select.value));
byId("column-search").addEventListener("input", (event) => listColumns(event.target.value));
byId("timepoint")?.addEventListener("change", (event) => {
  state.time = Number(event.target.value);
  paint();
  document.dispatchEvent(new Event("time"));
});

// One stop of the tabulator, and arrows from well to well
const byPlace = new Map(data.places.map(([row, column], well) => [`${row},${column}`, well]));
const [mostRows, mostColumns] = [0, 1].map((i) => Math.max(...data.places.map((place) => place[i])));
const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
cells.forEach((cell, i) => cell.setAttribute("tabindex", i ? "-1" : "0"));
function neighbour(well, [down, right]) {
  let [row, column] = data.places[well];
  for (row += down, column += right; row > 0 && column > 0 && row <= mostRows && column <= mostColumns; row += down, column += right) {
    if (byPlace.has(`${row},${column}`)) return byPlace.get(`${row},${column}`);
  }
  return null;
}
const plate = document.querySelector(".plate");
plate.addEventListener("keydown", (event) => {
  const cell = event.target.closest(".well");
  const step = steps[event.key];
  if (!cell || !step) return;
  event.preventDefault();
  const next = neighbour(Number(cell.dataset.index), step);
  if (next === null) return;
  cellOf.get(next).focus();
});
plate.addEventListener("pointermove", (event) => {
  const cell = event.target.closest(".well");
  point(cell && wordsOf(Number(cell.dataset.index)), event.clientX, event.clientY);
});
plate.addEventListener("pointerleave", () => point(null));
plate.addEventListener("focusin", (event) => {
  const cell = event.target.closest(".well");
  cells.forEach((other) => other.setAttribute("tabindex", other === cell ? "0" : "-1"));
  const box = cell.getBoundingClientRect();
  if (cell.matches(":focus-visible")) point(wordsOf(Number(cell.dataset.index)), box.left, box.bottom);
});
plate.addEventListener("focusout", () => point(null));

listColumns("");
showColumn(data.columns[0].name);
