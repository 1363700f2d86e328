// A picture of the model: its matrices in the order in which numbers go through them, each as large as its shape says.
// Each part is a button. Not here: what a part's code is (studio-code.js).

import { drawing, element } from "./drawing.js";

const GAP = 4; // between matrices, in pixels
const HEIGHT = 54;

// Each part's operation, name, note, and the shapes of its matrices (rows, columns).
export function parts(run) {
  return run.model === "gpt" ? gptParts(run) : run.moment.matrices.map(matrixPart);
}

function matrixPart({ name, rows, columns }) {
  return { operation: name, name, note: `${rows} × ${columns}`, shapes: [[rows, columns]] };
}

function gptParts({ settings: { n_embd: wide, n_head: heads, block_size: positions }, vocabulary }) {
  const tokens = vocabulary.length + 1;
  const squares = Array(4).fill([wide, wide]);
  const both = [[4 * wide, wide], [wide, 4 * wide]];
  const tables = [[tokens, wide], [positions, wide]];
  return [
    { operation: "embedding", name: "Embedding", note: `${tokens} tokens, ${positions} positions`, shapes: tables },
    { operation: "rmsnorm", name: "Norm", note: `${wide} wide`, shapes: [] },
    { operation: "attention", name: "Attention", note: `${heads} × ${wide / heads}`, shapes: squares, layer: true },
    { operation: "relu", name: "MLP", note: `${wide} → ${4 * wide} → ${wide}`, shapes: both, layer: true },
    { operation: "linear", name: "Logits", note: `${wide} → ${tokens}`, shapes: [[tokens, wide]] },
    { operation: "cross_entropy", name: "Loss", note: `of ${tokens} chances`, shapes: [] },
  ];
}

export function modelPicture(run, chosen, onChoose) {
  const all = parts(run);
  const largest = Math.max(...all.flatMap(({ shapes }) => shapes.flat()));
  const item = ({ operation, name, note, shapes }) => {
    const caption = [element("b", {}, name), element("span", {}, note)];
    const state = { type: "button", "aria-pressed": String(operation === chosen) };
    const button = element("button", state, rectangles(shapes, largest), ...caption);
    button.addEventListener("click", () => onChoose(operation));
    return element("li", {}, button);
  };
  const repeated = all.filter(({ layer }) => layer).map(item);
  const layers = element("span", {}, `layer × ${run.settings.n_layer}`);
  const items = all.filter(({ layer }) => !layer).map(item);
  if (repeated.length) items.splice(2, 0, element("li", { class: "layer" }, layers, element("ol", {}, ...repeated)));
  return element("ol", { class: "model", "aria-label": "The model, part by part" }, ...items);
}

// Matrices in a row, a line where there are none; a side grows as the square root of its numbers, so that small
// ones are seen.
function rectangles(shapes, largest) {
  const side = (numbers) => Math.max(4, Math.round((HEIGHT - 2) * Math.sqrt(numbers / largest)));
  let x = 0.5;
  const drawn = (shapes.length ? shapes : [[largest, 0]]).map(([rows, columns]) => {
    const width = columns && side(columns);
    const at = { x, y: (HEIGHT - side(rows)) / 2 };
    x += width + GAP;
    return drawing("rect", { ...at, width: width || 0.01, height: side(rows) });
  });
  const size = { viewBox: `0 0 ${x} ${HEIGHT}`, width: x, height: HEIGHT };
  return drawing("svg", { ...size, "aria-hidden": "true" }, ...drawn);
}
