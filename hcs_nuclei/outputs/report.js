// What all parts of the page use: the run's data, the values of its wells, and the ways in which they are shown.

const root = document.documentElement;
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const press = (buttons, chosen) => buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === chosen)));
const state = { time: 0, outlines: true };

/** [column][time point][well] as one array: deflated float32 whose bytes of equal weight stand together. */
async function unpacked(text) {
  const letters = atob(text);
  const packed = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 4;
  const bits = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    bits[i] = (planes[i] | planes[count + i] << 8 | planes[2 * count + i] << 16 | planes[3 * count + i] << 24) >>> 0;
  }
  return new Float32Array(bits.buffer);
}
const packedValues = await unpacked(byId("values").textContent);
const columnNumber = new Map(data.columns.map((column, number) => [column.name, number]));
const wellNumber = new Map(data.wells.map((well, number) => [well, number]));

/** A column's values of every well at a time point; NaN where a well has none, null where the column is not there. */
function valuesOf(name, time = state.time) {
  const number = columnNumber.get(name);
  if (number === undefined) return null;
  const start = (number * data.timepoints.length + time) * data.wells.length;
  return packedValues.subarray(start, start + data.wells.length);
}

/** A value for people, three digits or more: 0.25, 31.4, 1,284. */
function number(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  if (value === 0 || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  const short = Number(value.toPrecision(3));
  return Math.abs(short) < 1e-4 ? short.toExponential() : String(short);
}

/** A value in at most five characters. */
function compact(value) {
  if (!Number.isFinite(value)) return "–";
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size * (letter === "k" ? 10 : 1)) {
      return value < 100 * size ? `${Number((value / size).toPrecision(3))}${letter}` : `${Math.round(value / size)}${letter}`;
    }
  }
  if (value === Math.round(value) || Math.abs(value) >= 100) return String(Math.round(value));
  return String(Number(value.toPrecision(Math.abs(value) < 0.01 ? 2 : 3)));
}

/** The value at a share of sorted values, with straight lines between them. */
function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  return sorted[below] + (sorted[Math.min(below + 1, sorted.length - 1)] - sorted[below]) * (place - below);
}
const known = (values) => [...values].filter(Number.isFinite).sort((a, b) => a - b);
const median = (values) => { const k = known(values); return k.length ? quantile(k, 0.5) : NaN; };
const kindOf = (well) => ["negcon", "poscon"].find((kind) => data.controls[well].startsWith(kind)) ?? "others";

/** An element of a drawing. */
function drawn(name, attributes = {}, inside = []) {
  const element = document.createElementNS(document.querySelector("svg").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...[inside].flat());
  return element;
}
function made(name, attributes = {}, inside = []) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...[inside].flat());
  return element;
}

/** About `count` round numbers between two ends. */
function ticks(low, high, count) {
  const raw = (high - low) / count;
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

// What is pointed at
const tip = byId("tip");
function point(words, x, y) {
  tip.hidden = !words;
  if (!words) return;
  tip.textContent = words;
  tip.style.left = Math.max(4, Math.min(x + 16, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = (y + 18 + tip.offsetHeight > innerHeight ? Math.max(4, y - tip.offsetHeight - 12) : y + 18) + "px";
}
