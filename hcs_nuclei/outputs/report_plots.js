// Controls as a strip of wells, and curves of dose and response, of the readout that is chosen.

const readoutBoxes = all(".readout");
const MORE = 24;
let curvesShown = MORE;
const columnOf = (name) => data.columns[columnNumber.get(name)];
// Layouts have no Greek: uM is µM.
const unitOf = (curve) => (curve.Metadata_Concentration_unit ?? "").replace(/^u(?=[MLg])/, "µ");
const timeOf = () => data.timepoints[state.time];

/** A point that says its well when it is pointed at, and opens it. */
function dot(well, x, y, kind, words) {
  const circle = drawn("circle", { class: `dot ${kind}`, cx: x.toFixed(1), cy: y.toFixed(1), r: 3.2, "data-open": data.wells[well] });
  circle.addEventListener("pointermove", (event) => point(words, event.clientX, event.clientY));
  circle.addEventListener("pointerleave", () => point(null));
  return circle;
}

/** Room for a y axis: ticks, their lines and labels between two ends of a value. */
function yAxis(low, high, place, left, right, count = 5) {
  return ticks(low, high, count).flatMap((tick) => [
    drawn("path", { class: "grid", d: `M${left} ${place(tick).toFixed(1)}H${right}` }),
    drawn("text", { class: "end", x: left - 6, y: (place(tick) + 4).toFixed(1) }, compact(tick)),
  ]);
}

// Shakes points apart, the same way each time.
const shaken = (well) => ((well * 0.618034) % 1) - 0.5;

function drawStrip(name) {
  const figure = byId("strip");
  if (!figure) return;
  const column = columnOf(name);
  // A median of two nuclei is in the map, and in no statistics.
  const few = column.ofNuclei ? valuesOf("Metadata_QC_FewNuclei") : null;
  const values = valuesOf(name).map((value, well) => (few?.[well] === 1 ? NaN : value));
  const out = few ? [...few].filter((flag) => flag === 1).length : 0;
  const kinds = [...new Set(data.controls.filter((kind) => /^(neg|pos)con/.test(kind)))].sort();
  const groups = kinds.map((kind) => [kind, data.wells.flatMap((_, well) => (data.controls[well] === kind ? [well] : []))]);
  groups.push(["other wells", data.wells.flatMap((_, well) => (kindOf(well) === "others" ? [well] : []))]);
  const there = groups.map(([kind, wells]) => [kind, wells.filter((well) => Number.isFinite(values[well]))]).filter(([, wells]) => wells.length);
  const sorted = known(values);
  if (!sorted.length) { figure.replaceChildren(made("p", { class: "quiet" }, "No well has a value of this readout.")); return; }
  const [width, height, left, top] = [460, 260, 58, 12];
  const room = (sorted.at(-1) - sorted[0] || Math.abs(sorted[0]) || 1) * 0.05;
  const [low, high] = [column.amount ? Math.min(0, sorted[0]) : sorted[0] - room, sorted.at(-1) + room];
  const y = (value) => top + (height - top) * (1 - (value - low) / (high - low));
  const step = (width - left) / there.length;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height + 42}`, role: "img", "aria-label": `${column.label} of the wells of each kind` }, yAxis(low, high, y, left, width));
  there.forEach(([kind, wells], i) => {
    const middle = left + step * (i + 0.5);
    const spread = Math.min(step * 0.5, 90);
    wells.forEach((well) => svg.append(dot(well, middle + spread * shaken(well), y(values[well]), kindOf(well), wordsAt(well, column, values[well]))));
    const centre = y(median(wells.map((well) => values[well])));
    svg.append(
      drawn("path", { class: "centre", d: `M${middle - spread * 0.6} ${centre.toFixed(1)}h${spread * 1.2}` }),
      drawn("text", { x: middle, y: height + 18 }, kind),
      drawn("text", { class: "small", x: middle, y: height + 34 }, `${wells.length} wells`),
    );
  });
  figure.replaceChildren(made("figcaption", {}, [made("b", {}, column.label), " ", made("span", {}, `${column.unit}; line: median${out ? `; ${out} ${out > 1 ? "wells" : "well"} with few nuclei left out` : ""}`)]), svg);
}
const wordsAt = (well, column, value) => `${data.words[state.time][well].split("\n")[0]}\n${data.controls[well]}\n${valueWords(column, value)}`.replace("\n\n", "\n");

function showSeparation(name) {
  all("#separation tbody tr").forEach((row) => { row.hidden = row.dataset.readout !== name || Number(row.dataset.time) !== timeOf(); });
}

/** The IC50 as it may be said, and its interval. */
function potency(curve) {
  const unit = unitOf(curve);
  const relation = curve.RelativeIC50_Relation;
  if (!relation) return [curve.Outcome === "fitted" ? "no IC50" : curve.Outcome, curve.RelativeIC50_Reason || curve.Reason];
  const value = `IC50 ${relation} ${number(curve.RelativeIC50)} ${unit}`;
  const ends = [curve.RelativeIC50_Low, curve.RelativeIC50_High];
  if (ends.every((end) => end !== null)) return [value, `95 %: ${ends.map(number).join(" to ")} ${unit}`];
  if (ends.some((end) => end !== null)) return [value, ends[0] === null ? `95 %: below ${number(ends[1])} ${unit}` : `95 %: above ${number(ends[0])} ${unit}`];
  return [value, curve.RelativeIC50_Reason || "no interval"];
}

const wellsOfCompound = new Map();
data.wells.forEach((_, well) => {
  const [compound, dose] = [data.reagents[well], data.treatments.Metadata_Concentration?.[well]];
  if (!(dose > 0) || kindOf(well) === "negcon") return;
  if (!wellsOfCompound.has(compound)) wellsOfCompound.set(compound, []);
  wellsOfCompound.get(compound).push(well);
});
const doseOf = (well) => data.treatments.Metadata_Concentration[well];

/** Counts of nuclei in per cent of the negative control's median. */
function counts() {
  const density = ["Metadata_Density_per_mm2", "Metadata_Object_Count_PerField"].map((name) => valuesOf(name)).find((v) => v && known(v).length);
  if (!density) return data.wells.map(() => NaN);
  const control = median(data.wells.map((_, well) => (kindOf(well) === "negcon" ? density[well] : NaN)));
  return [...density].map((value) => 100 * value / control);
}

/** Where the curve passes 50 %, of curves that do: it may be told where the plateau, and with it the IC50, is not. */
function passing(curve) {
  if (curve.AbsoluteIC50_Relation !== "=") return "";
  const ends = [curve.AbsoluteIC50_Low, curve.AbsoluteIC50_High];
  const interval = ends.every((end) => end !== null) ? ` (95 %: ${ends.map(number).join(" to ")})` : "";
  const what = curve.Scale === "percent_inhibition" ? "50 % inhibition" : "50 % of control";
  return `${what} at ${number(curve.AbsoluteIC50)} ${unitOf(curve)}${interval}`;
}

function curveFigure(curve, count) {
  const inhibition = curve.Scale === "percent_inhibition";
  const values = valuesOf(`${inhibition ? "PercentInhibition" : "PercentOfControl"}_${curve.Metadata_Readout.replace("Metadata_", "")}`);
  const wells = wellsOfCompound.get(curve.Metadata_Compound) ?? [];
  const [width, left, right, top, bottom, countTop, countBottom] = [330, 40, 322, 8, 150, 168, 212];
  const logs = wells.map((well) => Math.log10(doseOf(well)));
  const [first, last] = [Math.min(...logs) - 0.15, Math.max(...logs) + 0.15];
  const x = (log) => left + (right - left) * (log - first) / (last - first);
  const points = wells.filter((well) => values && Number.isFinite(values[well]));
  const fitted = curve.Start !== null && curve.Log10Middle !== null;
  const ends = [...points.map((well) => values[well]), 0, 100, ...(fitted ? [curve.Start, curve.End].filter((v) => Math.abs(v) < 400) : [])];
  const [low, high] = [Math.min(...ends) - 4, Math.max(...ends) + 4];
  const y = (value) => top + (bottom - top) * (1 - (value - low) / (high - low));
  const most = Math.max(100, ...wells.map((well) => count[well]).filter(Number.isFinite));
  const c = (value) => countTop + (countBottom - countTop) * (1 - value / most);
  const svg = drawn("svg", { viewBox: `0 0 ${width} 248`, role: "img", "aria-label": `${curve.Metadata_Compound ?? "Wells"}: ${potency(curve).join(", ")}` });
  if (curve.RelativeIC50_Relation === "=" && curve.RelativeIC50_Low !== null && curve.RelativeIC50_High !== null) {
    const [from, to] = [curve.RelativeIC50_Low, curve.RelativeIC50_High].map((dose) => Math.min(Math.max(x(Math.log10(dose)), left), right));
    svg.append(drawn("rect", { class: "interval", x: from.toFixed(1), y: top, width: Math.max(to - from, 1).toFixed(1), height: bottom - top }));
  }
  svg.append(...yAxis(low, high, y, left, right), ...yAxis(0, most, c, left, right, 2));
  for (let power = Math.ceil(first); power <= Math.floor(last); power++) {
    svg.append(drawn("path", { class: "grid", d: `M${x(power).toFixed(1)} ${top}V${bottom}M${x(power).toFixed(1)} ${countTop}V${countBottom}` }),
      drawn("text", { x: x(power).toFixed(1), y: countBottom + 16 }, Math.abs(power) > 3 ? `1e${power}` : String(Number((10 ** power).toPrecision(1)))));
  }
  if (fitted) {
    const path = Array.from({ length: 81 }, (_, i) => first + (last - first) * i / 80).map((log) =>
      `${x(log).toFixed(1)} ${y(curve.Start + (curve.End - curve.Start) / (1 + 10 ** (curve.HillSlope * (curve.Log10Middle - log)))).toFixed(1)}`);
    svg.append(drawn("path", { class: "fit", d: `M${path.join("L")}` }));
  }
  if (curve.RelativeIC50_Relation === "=") svg.append(drawn("path", { class: "potency", d: `M${x(Math.log10(curve.RelativeIC50)).toFixed(1)} ${top}V${bottom}` }));
  const column = { label: inhibition ? "Inhibition" : "Of control", unit: "%" };
  const doseWords = (well) => `${data.wells[well]}: ${number(doseOf(well))} ${unitOf(curve)}`;
  points.forEach((well) => svg.append(dot(well, x(Math.log10(doseOf(well))), y(values[well]), "others", `${doseWords(well)}\n${valueWords(column, values[well])}`)));
  wells.filter((well) => Number.isFinite(count[well])).forEach((well) =>
    svg.append(dot(well, x(Math.log10(doseOf(well))), c(count[well]), "count", `${doseWords(well)}\nNuclei: ${number(count[well])} % of control`)));
  svg.append(drawn("text", { class: "small", x: (left + right) / 2, y: 244 }, unitOf(curve) || "dose"));
  const [said, interval] = potency(curve);
  return made("figure", { class: "curve", "data-compound": curve.Metadata_Compound ?? "" }, [
    made("figcaption", {}, [made("b", {}, curve.Metadata_Compound ?? "Wells without a compound"), made("span", {}, said), made("small", {}, interval), made("small", {}, passing(curve))]),
    svg,
  ]);
}

function drawCurves(name) {
  const holder = byId("curves");
  if (!holder) return;
  const search = byId("compound-search").value.trim().toLowerCase();
  const found = data.curves.filter((curve) => curve.Metadata_Readout === name && curve.Metadata_Timepoint === timeOf() && String(curve.Metadata_Compound ?? "").toLowerCase().includes(search));
  // The strongest first; then those without a number, by name.
  const strength = (curve) => (curve.RelativeIC50_Relation === "=" ? curve.RelativeIC50 : curve.RelativeIC50_Relation === "<" ? 0 : Infinity);
  found.sort((a, b) => (strength(a) === strength(b) ? 0 : strength(a) - strength(b)));
  const count = counts();
  holder.replaceChildren(...found.slice(0, curvesShown).map((curve) => curveFigure(curve, count)));
  if (!found.length) holder.append(made("p", { class: "quiet" }, "No compound of that name has a curve of this readout."));
  const more = byId("more-curves");
  more.hidden = found.length <= curvesShown;
  more.textContent = `Show all ${found.length} compounds`;
}

function showReadout(name) {
  readoutBoxes.forEach((box) => { box.value = name; });
  drawStrip(name);
  showSeparation(name);
  drawCurves(name);
}
if (readoutBoxes.length && data.readouts.length) {
  readoutBoxes.forEach((box) => box.addEventListener("change", () => showReadout(box.value)));
  byId("compound-search")?.addEventListener("input", () => drawCurves(readoutBoxes[0].value));
  byId("more-curves")?.addEventListener("click", () => { curvesShown = Infinity; drawCurves(readoutBoxes[0].value); });
  document.addEventListener("time", () => showReadout(readoutBoxes[0].value));
  showReadout(data.readouts[0]);
}
root.classList.add("js");
performance.mark("drawn");
