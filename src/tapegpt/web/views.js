// Pictures of a model: functions from data, as `data.py` makes them, to elements. They fetch nothing and keep nothing.
//
// What users wrote becomes text, never markup; all colours are those of views.css, under the class `tapegpt`.
// Not here: where data come from, and what is around a picture.
import { cells, count, decimal, drawing, drawLevels, element, figure, hiddenTable, levelName, lossScale, nearest, onCell, onPointer, percent, place, plotOf, short, smoothed, table, ticks, visible } from "./drawing.js";

const START = "•"; // how the beginning of a string is shown
const END = "⏎"; // and its end
const SURPRISING = 6; // nats from which a character has the strongest colour
const HEIGHT = 220; // of a curve, in pixels
const MOST_CELLS = 128; // in a row or a column of a heatmap
const VOWELS = new Set("aeiouαεηιουωаеёиоуыэюя");

const inputName = (token) => (token === "" ? START : visible(token));
const shortName = (token) => inputName(token).replace(/^(..)..+/su, "$1…");
const targetName = (token) => (token === "" ? END : visible(token));
const spokenInput = (token) => (token === "" ? "the start" : visible(token));
const spokenTarget = (token) => (token === "" ? "the end" : visible(token));

// --- loss --------------------------------------------------------------------------------------------------------

/**
 * Losses by step, one line a run, beside what simpler models reach.
 *
 * runs: [{name, losses: {steps, mean}, held_out: [{step, loss}], pinned}]; baselines: {name: loss} or null;
 * moment: the step that is marked, or null; onMoment(step): called when a step is chosen with the pointer.
 */
export function lossCurve({ runs, baselines = null, moment = null, onMoment = null }) {
  const shown = runs.filter((run) => run.losses.steps.length).map((run) => ({ ...run, smooth: smoothed(run.losses) }));
  if (!shown.length) {
    return figure("loss", "Loss", "", element("p", { class: "tg-note" }, "Nothing is known of the training.")).node;
  }
  const levels = Object.entries(baselines ?? {}).filter(([, loss]) => Number.isFinite(loss));
  const scale = lossScale(shown, levels);
  const plot = plotOf(HEIGHT);
  const line = (kind, points) => plot.line(kind, points.map(([step, loss]) => [scale.x(step), scale.y(Math.min(loss, scale.high))]));
  plot.node.setAttribute("role", "img");
  plot.node.setAttribute("aria-label", lossSummary(shown, levels));
  plot.names(scale, [...drawLevels(plot, scale, levels, line), ...drawRuns(shown, line)]);
  for (const { at, loss, name } of overtaken(shown, levels)) {
    plot.label("tg-overtaken", { left: `${scale.x(at)}%`, top: `${scale.y(loss)}%` });
    plot.node.lastElementChild.title = `step ${decimal(at, 0)}: better than ${name}`;
  }
  if (moment !== null) plot.label("tg-moment", { left: `${scale.x(moment)}%` });
  const { node, point } = figure("loss", "Loss: nats per token, by step", lossesAt(shown, moment ?? scale.last), plot.node);
  pointAtLosses(plot.node, shown, scale, point, onMoment);
  node.append(hiddenTable("Loss by step", ["step", ...shown.map((run) => run.name)], lossRows(shown, scale)));
  return node;
}

/** Where the run that is not pinned becomes better than each baseline, by what is held out where something is. */
function overtaken(runs, levels) {
  const own = runs.find(({ pinned }) => !pinned);
  const points = own?.held_out.length > 1 ? own.held_out.map(({ step, loss }) => [step, loss]) : (own?.smooth ?? []);
  return levels.flatMap(([name, loss]) => {
    const first = points.findIndex((point) => point[1] < loss);
    return first > 0 ? [{ at: points[first][0], loss, name: levelName(name) }] : [];
  });
}

/** The lines of the runs, those that are pinned below; their labels. */
function drawRuns(runs, line) {
  const labels = [];
  let pins = 0;
  for (const run of [...runs].sort((a, b) => Boolean(b.pinned) - Boolean(a.pinned))) {
    const { losses, smooth } = run;
    const name = runs.length > 1 ? run.name : "training";
    const held = run.held_out.map(({ step, loss }) => [step, loss]);
    if (run.pinned) pins += 1;
    const pin = `tg-pinned tg-pinned-${pins}`;
    const [kind, look] = run.pinned ? [pin, pin] : ["tg-own", "tg-run"];
    if (!run.pinned) line("tg-raw", losses.steps.map((step, index) => [step, losses.mean[index]]));
    line(look, smooth);
    if (held.length) line(`${look} tg-held`, held);
    labels.push({ name, loss: smooth.at(-1)[1], kind });
    if (held.length && !run.pinned) labels.push({ name: "held out", loss: held.at(-1)[1], kind });
  }
  return labels;
}

/** A line and a readout at the pointer, which may choose a step. */
function pointAtLosses(plot, runs, scale, point, onMoment) {
  const cursor = element("span", { class: "tg-cursor", hidden: true });
  plot.append(cursor);
  plot.classList.toggle("tg-choosable", onMoment !== null);
  onPointer(plot, (x, _, event) => {
    const inside = x !== null && x >= 0 && x <= 1;
    cursor.hidden = !inside;
    if (!inside) return point(null);
    const step = Math.round(scale.first + x * (scale.last - scale.first));
    place(cursor, { left: `${100 * x}%` });
    point(lossesAt(runs, step));
    if (onMoment && event.buttons & 1) onMoment(step);
  });
}

/** The loss of a run at a step, that of the point nearest to it. */
const lossAt = ({ smooth }, step) => nearest(smooth, ([at]) => Math.abs(at - step))[1];

function lossesAt(runs, step) {
  const losses = runs.map((run) => `${runs.length > 1 ? `${run.name} ` : ""}${decimal(lossAt(run, step))}`);
  return [`step ${decimal(step, 0)}`, ...losses].join(" · ");
}

function lossSummary(runs, levels) {
  const said = runs.map((run) => {
    const [from, to] = [run.losses.mean[0], run.smooth.at(-1)[1]].map((loss) => decimal(loss));
    return `${run.name}: loss from ${from} to ${to} nats per token in ${decimal(run.losses.steps.at(-1), 0)} steps`;
  });
  const beside = levels.map(([name, loss]) => `${levelName(name)} ${decimal(loss)}`).join(", ");
  return said.join("; ") + (beside ? `. To compare: ${beside}` : "");
}

function lossRows(runs, scale) {
  const steps = ticks(scale.first, scale.last, 8).map(Math.round);
  return [...new Set(steps)].map((step) => [decimal(step, 0), ...runs.map((run) => decimal(lossAt(run, step)))]);
}

// --- strings -----------------------------------------------------------------------------------------------------

/** Strings, those that are in the data marked: [{text, labels, known, nats}]; `onChoose(text)` makes them buttons. */
export function stringList(strings, onChoose = null) {
  const item = ({ text, labels = [], known, nats }) => {
    const said = element("bdi", { class: "tg-string" }, text === "" ? "(empty)" : text);
    if (text === "") said.classList.add("tg-soft");
    const title = Number.isFinite(nats) ? `${decimal(nats)} nats per token${known ? ", in the data" : ""}` : null;
    const mark = known ? element("span", { class: "tg-known" }, "in the data") : null;
    const of = labels.length ? element("small", { class: "tg-soft" }, ` ${labels.join(" · ")}`) : null;
    if (!onChoose) return element("li", { title }, said, of, mark);
    const button = element("button", { type: "button", class: "tg-choose" }, said);
    button.addEventListener("click", () => onChoose(text));
    return element("li", { title }, button, of, mark);
  };
  return element("ul", { class: "tg-strings" }, ...strings.map(item));
}

// --- how a text is read ------------------------------------------------------------------------------------------

/** Where each position of a text looks, one grid for each layer and head. */
export function attentionView(explanation) {
  const { inputs, attention } = explanation;
  if (!attention.length) return element("p", {}, "The model has no attention.");
  const size = inputs.length + 1;
  const isFew = attention.flat().length <= 8;
  const wide = Math.min(260, isFew ? Math.max(120, 13 * size) : Math.max(64, 6 * size)); // pixels of a grid, at least
  const { node, point } = figure("attention", "Attention", "row: the position that reads; column: what it attends to");
  attention.forEach((layer, l) => {
    const said = attention.length > 1 ? `layer ${l}, ` : "";
    if (said) node.append(element("div", { class: "tg-layer" }, `layer ${l}`));
    const heads = layer.map((head, h) => attentionHead(said, `head ${h}`, inputs, head, wide / size >= 9, point));
    node.append(place(element("div", { class: "tg-heads" }, ...heads), { "--tg-wide": `${wide}px` }));
  });
  const names = attention.flatMap((layer, l) => layer.map((_, h) => `layer ${l} head ${h}`));
  const rows = inputs.map((token, t) => [
    `${t}: ${spokenInput(token)}`,
    ...attention.flat().map((head) => {
      const most = head[t].indexOf(Math.max(...head[t]));
      return `${spokenInput(inputs[most])} (${most}) ${decimal(head[t][most])}`;
    }),
  ]);
  node.append(hiddenTable("What each position looks at most", ["position", ...names], rows));
  return node;
}

function attentionHead(layer, name, inputs, head, labelled, point) {
  const size = inputs.length;
  const edge = labelled ? 1 : 0;
  const mark = drawing("rect", { class: "tg-mark", width: 1, height: 1, visibility: "hidden" });
  const stairs = inputs.map((_, t) => `H${t + 1}V${t + 1}`).join("");
  const viewBox = `${-edge} ${-edge} ${size + edge} ${size + edge}`;
  const picture = drawing(
    "svg",
    { viewBox, role: "img", "aria-label": `Attention of ${layer}${name}` },
    drawing("path", { class: "tg-faint", d: `M0 0${stairs}V${size}H0z` }),
    ...cells(size, size, (t, s) => (s <= t ? head[t][s] : null)),
    mark,
  );
  if (labelled) {
    inputs.forEach((token, t) => {
      picture.append(
        drawing("text", { x: -0.5, y: t + 0.5, class: "tg-axis" }, shortName(token)),
        drawing("text", { x: t + 0.5, y: -0.5, class: "tg-axis" }, shortName(token)),
      );
    });
  }
  onCell(picture, size, size, edge, (t, s) => {
    const inside = t !== null && s <= t;
    mark.setAttribute("visibility", inside ? "visible" : "hidden");
    if (!inside) return point(null);
    mark.setAttribute("x", s);
    mark.setAttribute("y", t);
    const other = s === t ? "itself" : spokenInput(inputs[s]);
    point(`${layer}${name}: ${spokenInput(inputs[t])} looks at ${other}: ${decimal(head[t][s])}`);
  });
  const label = element("div", { class: "tg-head-name", "aria-hidden": "true" }, name);
  return element("div", { class: "tg-head" }, picture, label);
}

/**
 * A text with each character in the colour of its surprise; onSelect(t) makes the characters buttons, and arcs show what
 * each head looks at, to expect the one that is selected or pointed at.
 */
export function surpriseText(explanation, { onSelect = null, selected = null } = {}) {
  const marked = explanation.targets.map((token, t) => {
    const nats = explanation.surprises[t];
    return surprising(token, nats, onSelect ? "button" : "span");
  });
  const node = element("div", { class: "tg-surprise", dir: "auto" }, ...marked);
  if (!onSelect) return node;
  const heads = explanation.attention.flat();
  const start = element("span", { class: "tg-surprising", "aria-hidden": "true" }, element("span", { class: "tg-character tg-soft" }, START));
  const picture = drawing("svg", { class: "tg-arcs", "aria-hidden": "true" });
  if (heads.length) {
    node.prepend(start, picture);
    node.classList.add("tg-reaching");
  }
  const select = (t, isNew) => {
    for (const [at, each] of marked.entries()) each.setAttribute("aria-pressed", String(at === t));
    picture.replaceChildren(...arcs([start, ...marked], heads, t));
    if (isNew) onSelect(t);
  };
  for (const [t, character] of marked.entries()) {
    character.type = "button";
    for (const kind of ["click", "pointerenter", "focus"]) {
      character.addEventListener(kind, () => character.getAttribute("aria-pressed") === "true" || select(t, true));
    }
  }
  select(selected, false);
  new ResizeObserver(() => {
    const t = marked.findIndex((each) => each.getAttribute("aria-pressed") === "true");
    picture.replaceChildren(...arcs([start, ...marked], heads, t));
  }).observe(node); // once it has a size, and when that changes
  return node;
}

/** From where a character is expected to what the heads look at there, as thick as they do; the first place is the start. */
function arcs(places, heads, t) {
  if (t === null || t < 0) return [];
  const point = (place) => [place.offsetLeft + place.offsetWidth / 2, place.offsetTop];
  const [x, y] = point(places[t + 1]);
  return heads.flatMap((head, h) =>
    head[t].slice(0, t + 1).map((weight, s) => {
      const [toX, toY] = point(places[s]);
      const height = Math.min(44, 12 + Math.abs(x - toX) / 4) * (0.6 + (0.8 * h) / heads.length);
      const d = `M${x} ${y}Q${(x + toX) / 2} ${Math.min(y, toY) - height} ${toX} ${toY}`;
      return drawing("path", { d, "stroke-width": (5 * weight).toFixed(2) });
    }),
  );
}

function surprising(token, nats, tag = "span") {
  const said = `${spokenTarget(token)}: ${decimal(nats)} nats`;
  const number = element("span", { class: "tg-nats", "data-nats": decimal(nats, 1) });
  const character = element("span", { class: "tg-character" }, targetName(token));
  const spoken = tag === "button" ? said : null;
  const node = element(tag, { class: "tg-surprising", title: said, "aria-label": spoken }, character, number);
  return place(node, { "--tg-level": `${Math.round(100 * Math.min(1, nats / SURPRISING))}%` });
}

/** What the model expected at a position of the text, and what came. */
export function probabilityBars(explanation, t) {
  const { inputs, labels = [], targets, next, target_p: came } = explanation;
  const rows = next[t].map(([token, share]) => ({ token, share, came: token === targets[t] }));
  if (!rows.some((row) => row.came)) rows.push({ token: targets[t], share: came[t], came: true, rare: true });
  const most = rows[0].share;
  const bars = rows.map((row) => {
    const kind = [row.came ? "tg-came" : "", row.rare ? "tg-rare" : ""].join(" ").trim();
    const spoken = row.came ? element("span", { class: "tg-hidden" }, ", came") : null;
    return element(
      "tr",
      { class: kind || null },
      element("th", { scope: "row", class: "tg-string", title: spokenTarget(row.token) }, targetName(row.token)),
      element("td", { "aria-hidden": "true" }, bar(row.share / most)),
      element("td", { class: "tg-number" }, percent(row.share), spoken),
    );
  });
  const before = inputs.slice(1, t + 1).map((token, at) => visible(token) + (at < labels.length ? " " : "")).join("");
  const title = before
    ? element("span", {}, "After ", element("bdi", { class: "tg-string" }, before))
    : "At the start";
  const table = element("table", { class: "tg-table" }, element("tbody", {}, ...bars));
  return figure("bars", title, `${spokenTarget(targets[t])} came`, table).node;
}

function bar(share, kind = "") {
  return place(element("span", { class: `tg-bar ${kind}`.trim() }), { width: `${Math.max(0.5, 100 * share)}%` });
}

/** The gradient on its way from the loss back to the embeddings: its norm at each stage and position. */
export function gradientPath(explanation) {
  const { inputs, gradients } = explanation;
  const most = Math.max(...gradients.flatMap(({ norms }) => norms), Number.MIN_VALUE);
  const cell = (name, norm, t) => {
    const dot = place(element("span", { class: "tg-dot" }), { "--tg-size": `${(100 * Math.sqrt(norm / most)).toFixed(1)}%` });
    const title = `${name} at ${spokenInput(inputs[t])}: ${short(norm)}`;
    return element("td", { title }, dot, element("span", { class: "tg-hidden" }, short(norm)));
  };
  const rows = gradients.map(({ name, norms }) => {
    const head = element("th", { scope: "row" }, ...breakable(name));
    return [head, ...norms.map((norm, t) => cell(name, norm, t)), short(Math.hypot(...norms))];
  });
  const path = table("tg-table tg-path", null, ["d loss / d", ...inputs.map(shortName), "norm"], rows);
  return figure("gradients", "Gradient from the loss back", "area: norm at each position", path).node;
}

/** The gradient of the loss at one position, from the loss back to the embeddings: its norm at each stage. */
export function gradientBars({ inputs, gradients }, t) {
  const most = Math.max(...gradients.map(({ norms }) => norms[t]), Number.MIN_VALUE);
  const row = ({ name, norms }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      element("td", { "aria-hidden": "true" }, bar(norms[t] / most, "tg-back")),
      element("td", { class: "tg-number" }, short(norms[t])),
    );
  const rows = element("table", { class: "tg-table" }, element("tbody", {}, ...gradients.map(row)));
  return figure("bars tg-stages", "Gradient here, from the loss back", `at ${spokenInput(inputs[t])}`, rows).node;
}

/** A name that a line may end in after each dot and underline. */
function breakable(name) {
  return name.split(/(?<=[._])/).flatMap((part) => [part, element("wbr")]);
}

// --- parameters --------------------------------------------------------------------------------------------------

/**
 * Characters where the main two directions of their embeddings put them: [{character, x, y, share}]. One that would lie on
 * another is moved, and a line leads to its point.
 */
export function embeddingMap(points) {
  if (!points.length) return element("p", {}, "The model has no table of embeddings.");
  const most = Math.max(...points.map(({ share }) => share), Number.MIN_VALUE);
  const isVowel = (character) => VOWELS.has(character.normalize("NFD")[0].toLowerCase());
  const dots = [...points].sort((a, b) => b.share - a.share).map(({ character, x, y, share }) => {
    const kind = isVowel(character) ? "tg-point tg-vowel" : "tg-point";
    const title = `${visible(character)}: ${percent(share)} of the characters`;
    const node = element("span", { class: kind, title }, visible(character));
    return { node: place(node, { "--tg-size": Math.sqrt(share / most).toFixed(3) }), x: 0.5 + 0.46 * x, y: 0.5 - 0.46 * y };
  });
  const label = `Map of ${points.length} characters by their embeddings`;
  const lines = drawing("svg", { "aria-hidden": "true" });
  const map = element("div", { class: "tg-map", role: "img", "aria-label": label }, lines, ...dots.map(({ node }) => node));
  new ResizeObserver(() => lines.replaceChildren(...spreadOut(dots, map.clientWidth, map.clientHeight))).observe(map);
  const vowels = points.filter(({ character }) => isVowel(character)).length;
  const about = `their two main directions${vowels && vowels < points.length ? " · vowels in bold" : ""}`;
  const note = element("p", { class: "tg-note" }, "Characters near each other are used alike.");
  const { node } = figure("embeddings", "Embeddings of the characters", about, map, note);
  const rows = points.map(({ character, x, y }) => [visible(character), decimal(x), decimal(y)]);
  node.append(hiddenTable("Points of the characters", ["character", "across", "up"], rows));
  return node;
}

/** Places each at its point, or at the nearest free place around it; the lines from those that are moved to their points. */
function spreadOut(dots, width, height) {
  const taken = [];
  for (const { node } of dots) node.hidden = false;
  const sizes = dots.map(({ node }) => [node.offsetWidth / 2 + 1, node.offsetHeight / 2 + 1]);
  return dots.flatMap(({ node, x, y }, index) => {
    const [home, [across, down]] = [[x * width, y * height], sizes[index]];
    const isFree = ([left, top]) =>
      left >= across && left <= width - across && top >= down && top <= height - down &&
      taken.every(([otherX, otherY, wide, high]) => Math.abs(left - otherX) >= across + wide || Math.abs(top - otherY) >= down + high);
    const at = around(home, width).find(isFree);
    node.hidden = !at;
    if (!at) return [];
    taken.push([...at, across, down]);
    place(node, { left: `${at[0]}px`, top: `${at[1]}px` });
    const isNear = Math.hypot(at[0] - home[0], at[1] - home[1]) < Math.min(across, down);
    return isNear ? [] : [drawing("line", { x1: home[0], y1: home[1], x2: at[0], y2: at[1] })];
  });
}

/** A point, and others around it in wider and wider circles, up to a distance. */
function around([x, y], most) {
  const found = [[x, y]];
  for (let distance = 4; distance < most; distance += 4) {
    for (let turn = 0; turn < 16; turn++) {
      const angle = (turn * Math.PI) / 8;
      found.push([x + distance * Math.cos(angle), y + distance * Math.sin(angle)]);
    }
  }
  return found;
}

/** The numbers of a matrix as colours around zero: {name, rows, columns, values}. */
export function heatmap(matrix) {
  const { name, rows, columns, values } = pooled(matrix);
  const most = Math.max(...values.map(Math.abs), Number.MIN_VALUE);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const picture = drawing(
    "svg",
    {
      viewBox: `0 0 ${columns} ${rows}`,
      role: "img",
      "aria-label": `${name}: ${rows} by ${columns} numbers from ${short(low)} to ${short(high)}`,
    },
    drawing("rect", { class: "tg-faint", width: columns, height: rows }),
    ...cells(rows, columns, (row, column) => values[row * columns + column] / most),
  );
  place(picture, { width: `${columns * Math.min(14, Math.max(2, 320 / rows))}px` });
  const title = `${matrix.name}, ${decimal(matrix.rows, 0)} × ${decimal(matrix.columns, 0)}`;
  const scale = element("div", { class: "tg-scale", "aria-hidden": "true" }, short(-most), element("span"), short(most));
  const { node, point } = figure("heatmap", title, `from ${short(low)} to ${short(high)}`, picture, scale);
  onCell(picture, rows, columns, 0, (row, column) =>
    point(row === null ? null : `row ${row + 1}, column ${column + 1}: ${short(values[row * columns + column])}`),
  );
  return node;
}

/** A matrix of at most `MOST_CELLS` rows and columns: means of neighbours of a larger one. */
function pooled(matrix) {
  const [down, across] = [matrix.rows, matrix.columns].map((size) => Math.ceil(size / MOST_CELLS));
  if (down === 1 && across === 1) return matrix;
  const [rows, columns] = [Math.ceil(matrix.rows / down), Math.ceil(matrix.columns / across)];
  const sums = new Float64Array(rows * columns);
  const counts = new Float64Array(rows * columns);
  matrix.values.forEach((value, index) => {
    const row = Math.floor(Math.floor(index / matrix.columns) / down);
    const at = row * columns + Math.floor((index % matrix.columns) / across);
    sums[at] += value;
    counts[at] += 1;
  });
  return { name: matrix.name, rows, columns, values: Array.from(sums, (sum, index) => sum / counts[index]) };
}

// --- lists -------------------------------------------------------------------------------------------------------

/** How surprising strings are: [{tokens, nats, perplexity, percentile, surprises, unknown}]. */
export function scoreTable(scores) {
  const row = ({ tokens, nats, perplexity, percentile, surprises }) => {
    const said = [...tokens, ""].map((token, t) => surprising(token, surprises[t] ?? 0));
    const string = element("span", { class: "tg-surprise tg-inline", dir: "auto" }, ...said);
    const rank = percentile === null ? "–" : decimal(percentile, percentile > 99 ? 1 : 0);
    return [string, decimal(nats), short(perplexity), rank];
  };
  return table("tg-table tg-scores", null, ["string", "nats per token", "perplexity", "percentile"], scores.map(row));
}

/** Training strings and what they did to a string: [{document, influence, steps}]. */
export function influenceList(influences) {
  const most = Math.max(...influences.map(({ influence }) => Math.abs(influence)), Number.MIN_VALUE);
  const item = ({ document: text, influence, steps }) => {
    const listed = steps.slice(0, 3).map((step) => decimal(step, 0));
    const when = steps.length ? `step ${listed.join(", ")}${steps.length > 3 ? ", …" : ""}` : "never used";
    const string = element("bdi", { class: "tg-string" }, text === "" ? "(empty)" : text);
    const length = bar(Math.abs(influence) / most, influence < 0 ? "tg-against" : "");
    return element(
      "li",
      {},
      element("div", {}, string, element("div", { class: "tg-when" }, when)),
      element("span", { class: "tg-track", "aria-hidden": "true" }, length),
      element("span", { class: "tg-number" }, short(influence)),
    );
  };
  return element("ol", { class: "tg-influences" }, ...influences.map(item));
}

/** Code with numbered lines, which scrolls by itself. */
export function codeBlock({ text, label }) {
  const lines = text.replace(/\n$/, "").split("\n");
  const line = (content, index) => element("span", { class: "tg-line", "data-line": index + 1 }, `${content}\n`);
  const code = element("code", {}, ...lines.map(line));
  const scroller = element("pre", { class: "tg-scroll", tabindex: 0, role: "region", "aria-label": label }, code);
  return figure("code", label, count(lines.length, "line"), scroller).node;
}
