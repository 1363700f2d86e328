// A picture of the model: its recorded operations from left to right, each behind those whose results it takes, with
// the numbers that it has learned. Each is a button. Not here: what is shown of the chosen one (studio-part.js).

import { cells, decimal, drawing, element, figure, place } from "./drawing.js";

const COLUMN = 58; // pixels of a column, at least
const ROW = 66; // of a row
const ABOVE = 36; // room above for residuals
const SIDE = 60; // of the largest matrix
const LARGE = 256; // rows or columns: a hashed table has thousands, and is drawn as if it had half as many
const SIGNS = { add: "+", subtract: "−", multiply: "×", rmsnorm: "norm", layer_norm: "norm", relu: "ReLU", cross_entropy: "loss", kneser_ney: "counts" };

/** The picture of run.graph with the numbers of a moment; `onChoose(number)` is told which operation is chosen. */
export function modelPicture({ graph }, moment, chosen, onChoose) {
  const places = placesOf(graph);
  const columns = Math.max(...places.map(({ column }) => column)) + 1;
  const height = ABOVE + ROW * Math.max(...places.map(({ of }) => of));
  const middle = ({ row, of }) => ABOVE + (height - ABOVE) / 2 + ROW * (row - (of - 1) / 2);
  const across = ({ column }) => (100 * (column + 0.5)) / columns;
  const matrices = new Map(moment.matrices.map((matrix) => [matrix.name, matrix]));
  const largest = Math.min(LARGE, Math.max(...moment.matrices.flatMap(({ rows, columns }) => [rows, columns])));

  const button = (node, number) => {
    const parts = node.parameters.map((name) => thumbnail(matrices.get(name), largest));
    if (node.operation === "attention") parts.push(attention(moment.explanation));
    const parameter = (node.parameters[0] ?? "").split(".").at(-1).replace(/^(attn|mlp)_/, "");
    const text = parameter || (SIGNS[node.operation] ?? node.operation);
    const label = element("span", { class: parts.length ? null : "sign" }, text);
    const about = `${node.name}: ${node.formula}`;
    const state = { type: "button", title: about, "aria-label": `${text}, ${about}`, "aria-pressed": String(number === chosen) };
    const made = element("button", state, ...parts, label);
    made.addEventListener("click", () => onChoose(number));
    return place(element("li", {}, made), { left: `${across(places[number])}%`, top: `${middle(places[number])}px` });
  };

  const lines = graph.flatMap(({ inputs }, number) =>
    inputs.map((input) => {
      const [from, to] = [places[input], places[number]];
      const [x, y, toX, toY] = [across(from), middle(from), across(to), middle(to)];
      const isNear = to.column - from.column === 1;
      const d = isNear ? `M${x} ${y}L${toX} ${toY}` : `M${x} ${y}C${x} ${-ABOVE} ${toX} ${-ABOVE} ${toX} ${toY}`;
      return drawing("path", { d });
    }),
  );
  const picture = drawing("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines);
  const list = element("ol", {}, ...layers(graph, places, columns), element("li", { "aria-hidden": "true", class: "lines" }, picture), ...graph.map(button));
  place(list, { height: `${height}px`, "min-width": `${columns * COLUMN}px` });
  return element("div", { class: "tg-model", role: "group", "aria-label": "The model, operation by operation", tabindex: 0 }, list);
}

/** The picture with what there is to say of the operation that is chosen, which `onChoose(number)` is told too. */
export function modelFigure(run, moment, chosen, onChoose) {
  const choose = (number) => {
    [...picture.querySelectorAll("button")].forEach((button, each) => button.setAttribute("aria-pressed", String(each === number)));
    point(operationText(run.graph[number], moment));
    onChoose(number);
  };
  const picture = modelPicture(run, moment, chosen, choose);
  const about = chosen === null ? "a box is an operation, its pattern the numbers that it learned" : operationText(run.graph[chosen], moment);
  const { node, point } = figure("operations", "The model, from the token to the loss", about, picture);
  return node;
}

/** An operation in words: its formula, and how many numbers it has learned. */
export function operationText({ operation, formula, parameters }, { matrices }) {
  const learned = matrices.filter(({ name }) => parameters.includes(name));
  return [`${operation}: ${formula}`, ...learned.map(({ rows, columns }) => `${decimal(rows, 0)} × ${decimal(columns, 0)} numbers`)].join(", ");
}

// The column of each operation is one behind those that it takes; in a column they stand one below the other.
function placesOf(graph) {
  const columns = [];
  for (const { inputs } of graph) columns.push(1 + Math.max(-1, ...inputs.map((input) => columns[input])));
  return columns.map((column, number) => {
    const same = [...columns.keys()].filter((other) => columns[other] === column);
    return { column, row: same.indexOf(number), of: same.length };
  });
}

// What lies behind the operations of a layer, with its name.
function layers(graph, places, columns) {
  const found = new Map();
  graph.forEach(({ name }, number) => {
    const layer = name.match(/^layer(\d+)\./)?.[1];
    if (layer !== undefined) found.set(layer, [...(found.get(layer) ?? []), places[number].column]);
  });
  return [...found].map(([layer, own]) => {
    const [first, last] = [Math.min(...own), Math.max(...own)];
    const style = { left: `${(100 * first) / columns}%`, width: `${(100 * (last + 1 - first)) / columns}%` };
    return place(element("li", { class: "layer", "aria-hidden": "true" }, `layer ${layer}`), style);
  });
}

// A matrix as some of its numbers; a side grows as the square root of how many there are, so that small ones are seen.
function thumbnail({ rows, columns, cells: numbers }, largest) {
  const [height, width] = [rows, columns].map((size) => Math.max(6, Math.round(SIDE * Math.sqrt(size > LARGE ? 0.5 : size / largest))));
  return grid(numbers, width, height, (row, column) => numbers[row][column]);
}

// Where the heads of all layers look, in the mean.
function attention({ inputs, attention: heads }) {
  const all = heads.flat();
  const rows = inputs.map((_, t) => inputs.map((_, s) => all.reduce((sum, head) => sum + (head[t][s] ?? 0), 0) / all.length));
  return grid(rows, SIDE, SIDE, (t, s) => (s <= t ? rows[t][s] : null), "tg-shares");
}

function grid(rows, width, height, level, kind = null) {
  const [down, across] = [rows.length, rows[0].length];
  const size = { class: kind, viewBox: `0 0 ${across} ${down}`, width, height, preserveAspectRatio: "none", "aria-hidden": "true" };
  return drawing("svg", size, drawing("rect", { class: "tg-faint", width: across, height: down }), ...cells(down, across, level));
}
