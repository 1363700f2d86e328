// The pictures of a leaderboard, and its table that can be sorted: a training that is pointed at in one shows in all.
// Not here: what stands in the table (`leaderboard.py`).
import { decimal, drawLevels, element, figure, given, lossScale, onPointer, place, plotOf } from "./drawing.js";

const { columns, axes, curves, baselines } = JSON.parse(document.getElementById("data").textContent);
const FEW = 6; // values that are all named on an axis
const NEAR = 14; // pixels
const TALL = 280; // pixels of a picture
const rows = columns[0].values.map((_, row) => row);
const losses = columns.find(({ name }) => name === "held-out").values;
const order = rows.filter((row) => losses[row] !== null).sort((a, b) => losses[a] - losses[b]);
const isOut = rows.map(() => false); // of what is filtered
const marks = rows.map(() => []); // the elements of each training
const tops = []; // called with the training that is shown
let chosenRow = 0;

function said(value) {
  if (value === null) return "none";
  return typeof value === "number" ? given(value) : String(value);
}

/** What there is to say of a training, in a line. */
function told(row) {
  const loss = losses[row] === null ? "diverged" : `${decimal(losses[row], 4)} nats`;
  const fields = axes.slice(0, -1).map((axis) => `${columns[axis].name} ${said(columns[axis].values[row])}`);
  return [`rank ${row + 1}`, loss, ...fields].join(" · ");
}

/** Show one training, for a moment, or the chosen one again. */
function point(row) {
  const shown = row ?? chosenRow;
  marks.forEach((nodes, each) => nodes.forEach((node) => node.classList.toggle("shown", each === shown)));
  tops.forEach((top) => top(shown));
}

function choose(row) {
  chosenRow = row;
  point(null);
}

/** A figure whose caption says what is shown. */
function framed(kind, title, ...children) {
  const { node, readout } = figure(kind, title, "", ...children);
  tops.push((row) => (readout.textContent = told(row)));
  return node;
}

/** The lines of all trainings, the better ones on top, each in the colour of its rank by loss. */
function drawLines({ picture, line }, shape) {
  const ranked = [...rows.filter((row) => losses[row] === null), ...order.toReversed()];
  for (const row of ranked) {
    const rank = order.indexOf(row);
    const path = line(rank < 0 ? "line diverged" : "line", shape(row));
    const level = 1 - rank / Math.max(order.length - 1, 1);
    if (rank >= 0) place(path, { "--level": `${(100 * level).toFixed(1)}%` });
    marks[row].push(path);
  }
  tops.push((row) => picture.append(marks[row].find((node) => node.parentNode === picture)));
}

/** The training whose line is nearest to the pointer: `height(row, x)` is from 0 at the bottom to 1, or null. */
function pointAtLines(node, height) {
  onPointer(node, (x, y, event) => {
    let [best, least] = [null, NEAR / TALL];
    for (const row of x === null ? [] : rows) {
      const at = isOut[row] ? null : height(row, Math.min(1, Math.max(0, x)));
      const far = at === null ? Infinity : Math.abs(at - (1 - y));
      if (far <= least) [best, least] = [row, far];
    }
    if (event?.type === "click") choose(best ?? chosenRow);
    else point(best);
  });
}

// --- what was searched -------------------------------------------------------------------------------------------

/**
 * The different values of a column, rising, and which of them each training has. Their heights, from 0 to 1, are even:
 * one bad training would push all others together.
 */
function axisOf({ name, values }) {
  const known = values.filter((value) => value !== null);
  const isNumeric = known.every((value) => typeof value === "number");
  const distinct = [...new Set(known)].sort((a, b) => (isNumeric ? a - b : String(a).localeCompare(String(b))));
  const names = distinct.map(said);
  if (known.length < values.length) names.push(values === losses ? "diverged" : "none");
  const ofRow = values.map((value) => (value === null ? names.length - 1 : distinct.indexOf(value)));
  const height = (index) => (names.length > 1 ? index / (names.length - 1) : 0.5);
  return { name, names, height, ofRow, range: [0, names.length - 1] };
}

function parallel() {
  const scales = axes.map((axis) => axisOf(columns[axis]));
  const across = (index) => (scales.length > 1 ? index / (scales.length - 1) : 0.5);
  const height = (row, index) => scales[index].height(scales[index].ofRow[row]);
  const plot = plotOf(TALL, "lb-plot");
  drawLines(plot, (row) => scales.map((_, index) => [100 * across(index), 100 * (1 - height(row, index))]));
  const count = element("output", { class: "tg-note", "aria-live": "polite" });
  const filter = () => {
    for (const row of rows) {
      isOut[row] = scales.some(({ ofRow, range }) => ofRow[row] < range[0] || ofRow[row] > range[1]);
      for (const node of marks[row]) node.classList.toggle("out", isOut[row]);
    }
    const inside = isOut.filter((each) => !each).length;
    count.textContent = inside < rows.length ? `${inside} of ${rows.length} within` : "";
  };
  pointAtLines(plot.node, (row, x) => {
    const at = x * (scales.length - 1);
    const index = Math.min(Math.floor(at), scales.length - 2);
    if (index < 0) return height(row, 0);
    return height(row, index) + (at - index) * (height(row, index + 1) - height(row, index));
  });
  scales.forEach((scale, index) => plot.node.append(axisNode(scale, across(index), filter)));
  const inner = place(element("div", {}, plot.node), { "min-width": `${7 * scales.length}rem` });
  const scroller = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Axes of what was searched" }, inner);
  const about = element("p", { class: "tg-note" }, "A line is a training, the bluer the lower its held-out loss, in nats per token. Values are evenly spaced. Move the ends of an axis, also by keys, to see some. ", count);
  return framed("parallel", "Trainings by what they were given", scroller, about);
}

/** An axis: its name, some of its values, and the two ends of what is let through. */
function axisNode(scale, left, filter) {
  const kept = element("span", { class: "lb-kept" });
  const node = element("div", { class: "tg-cursor" }, element("span", { class: "lb-name" }, scale.name), kept);
  place(node, { left: `${100 * left}%` });
  const last = scale.names.length - 1;
  const named = last < FEW ? scale.names.map((_, index) => index) : [0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * last));
  for (const index of named) {
    const label = element("span", { class: "lb-value" }, scale.names[index]);
    node.append(place(label, { bottom: `${100 * scale.height(index)}%` }));
  }
  const handles = ["from", "to"].map((end, side) => {
    const input = element("input", { type: "range", class: `lb-handle ${end}`, min: 0, max: last, "aria-label": `${scale.name} ${end}` });
    input.addEventListener("input", () => {
      const [low, high] = side ? [scale.range[0], last] : [0, scale.range[1]];
      scale.range[side] = Math.min(high, Math.max(low, input.valueAsNumber));
      update();
    });
    input.addEventListener("click", (event) => event.stopPropagation());
    return input;
  });
  const update = () => {
    handles.forEach((input, side) => {
      input.value = scale.range[side];
      input.setAttribute("aria-valuetext", scale.names[scale.range[side]]);
    });
    const [low, high] = scale.range.map(scale.height);
    place(kept, { bottom: `${100 * low}%`, height: `${100 * (high - low)}%` });
    filter();
  };
  node.append(...handles);
  update();
  return node;
}

// --- how they learned --------------------------------------------------------------------------------------------

function learning() {
  const runs = curves.filter(({ steps }) => steps.length).map((losses) => ({ losses, held_out: [] }));
  if (!runs.length) return element("p", {}, "None of them took a step whose loss is a number.");
  const levels = Object.entries(baselines);
  const scale = lossScale(runs, levels);
  const plot = plotOf(TALL, "lb-plot lb-curves"); // which cuts off what diverges
  const points = (pairs) => pairs.map(([step, loss]) => [scale.x(step), scale.y(loss)]);
  plot.names(scale, drawLevels(plot, scale, levels, (kind, pairs) => plot.line(kind, points(pairs))));
  drawLines(plot, (row) => points(curves[row].steps.map((step, index) => [step, curves[row].mean[index]])));
  pointAtLines(plot.node, (row, x) => {
    const index = curves[row].steps.findIndex((step) => step >= scale.first + x * (scale.last - scale.first));
    return index < 0 ? null : 1 - scale.y(curves[row].mean[index]) / 100;
  });
  return framed("learning", "Loss: nats per token of the training strings, by step", plot.node);
}

// --- the table ---------------------------------------------------------------------------------------------------

/** Heads become buttons that sort; rows are gone through with the arrow keys. */
function upgrade(table) {
  const body = table.tBodies[0];
  const lines = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  lines.forEach((line, row) => {
    marks[row].push(line);
    line.addEventListener("pointerenter", () => point(row));
    line.addEventListener("pointerleave", () => point(null));
    line.addEventListener("click", () => line.focus());
    line.addEventListener("focus", () => choose(row));
  });
  tops.push(() => lines.forEach((line, row) => (line.tabIndex = row === chosenRow ? 0 : -1)));
  body.addEventListener("keydown", (event) => {
    const seen = [...body.rows].filter((line) => !line.classList.contains("out"));
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    seen[seen.indexOf(document.activeElement) + step]?.focus();
  });
  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const { values } = columns[column];
      const compare = (a, b) => (typeof values[a] === "number" && typeof values[b] === "number" ? values[a] - values[b] : said(values[a]).localeCompare(said(values[b])));
      const known = rows.filter((row) => values[row] !== null).sort((a, b) => (falls ? compare(b, a) : compare(a, b)));
      body.append(...[...known, ...rows.filter((row) => values[row] === null)].map((row) => lines[row]));
    });
    head.replaceChildren(button);
  });
  heads[0].setAttribute("aria-sort", "ascending");
}

upgrade(document.querySelector("table"));
document.querySelector("[data-view=curves]").append(learning());
document.querySelector("[data-view=parallel]").append(parallel());
point(null);
