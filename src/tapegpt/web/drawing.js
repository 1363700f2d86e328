// What pictures are made of: numbers as they are shown, elements of HTML and SVG, figures that can be read aloud.
// Not here: what is drawn (`views.js`).

const SVG = "http://www.w3.org/2000/svg";
const LEVELS = 12; // shades of a cell
const LABEL = 16; // pixels of a name beside a plot
const SQUASHED = 1.25; // times the loss of guessing, above which no loss is told from others
const LEVEL_NAMES = { uniform: "guessing", unigram: "letter counts", bigram: "letter pairs", "5-gram": "runs of five" };

// --- numbers and characters --------------------------------------------------------------------------------------

/** 1234.5 as "1,234.50"; a true minus sign. */
export function decimal(number, digits = 2) {
  return number
    .toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    .replace(/^-/, "−");
}

/** 1234 of something as "1,234 strings". */
export function count(number, noun) {
  return `${decimal(number, 0)} ${noun}${number === 1 ? "" : "s"}`;
}

/** A number of any size in three digits or so. */
export function short(number) {
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return number.toExponential(1).replace("e+", "e").replaceAll("-", "−");
  return decimal(number, size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

/** A number that was chosen or counted: whole ones with all digits, 0.0063 with its first three. */
export function given(number) {
  const size = Math.abs(number);
  if (Number.isInteger(number) && size < 1e6) return decimal(number, 0);
  return size >= 1e-3 && size < 0.1 ? number.toLocaleString("en", { maximumSignificantDigits: 3 }) : short(number);
}

/** 0.314 as "31%", 0.0042 as "0.42%". */
export function percent(share) {
  if (share > 0 && share < 1e-4) return "< 0.01%";
  const digits = share >= 0.0995 || share === 0 ? 0 : share >= 0.00995 ? 1 : 2;
  return `${decimal(100 * share, digits)}%`;
}

/** A token as it can be seen: "␣" for a space, U+200B for a character that has no look of its own. */
export function visible(token) {
  const shown = token.replaceAll(" ", "␣").replace(/^\p{M}/u, "◌$&");
  const code = token.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return /^[\p{C}\p{Z}]$/u.test(shown) ? `U+${code}` : shown;
}

/** The one of them with the smallest distance. */
export function nearest(all, distance) {
  return all.reduce((best, each) => (distance(each) < distance(best) ? each : best));
}

/** Where numbers lie in a plot, in percent: between ends across, and from losses, with some room around, down. */
export function scaleOf([first, last], losses) {
  const ends = [Math.min(...losses), Math.max(...losses)];
  const room = 0.06 * (ends[1] - ends[0] || 1);
  const [low, high] = [ends[0] - room, ends[1] + room];
  const x = (amount) => (100 * (amount - first)) / (last - first);
  const y = (loss) => (100 * (high - loss)) / (high - low);
  return { first, last, low, high, x, y };
}

/** The scale of the losses of runs and of simpler models, [[name, loss]]; losses far worse than guessing end at its top. */
export function lossScale(runs, levels) {
  const known = levels.map(([, loss]) => loss);
  const most = known.length ? SQUASHED * Math.max(...known) : Infinity;
  const losses = [...known];
  let [first, last] = [Infinity, -Infinity];
  for (const { losses: { steps, mean }, held_out: held } of runs) {
    losses.push(...mean, ...held.map(({ loss }) => loss));
    const apart = (steps.at(-1) - steps[0]) / Math.max(1, steps.length - 1) || 1;
    first = Math.min(first, Math.max(0, Math.floor(steps[0] - apart)));
    last = Math.max(last, steps.at(-1));
  }
  return scaleOf([first, last], losses.map((loss) => Math.min(loss, most)));
}

/** The axes of losses by step, and what simpler models lose, drawn by line(kind, points); the labels of these. */
export function drawLevels(plot, scale, levels, line) {
  const steps = ticks(scale.first, scale.last, Math.min(4, scale.last - scale.first)).map((tick) => [tick, decimal(tick, 0)]);
  plot.axes(scale, steps, ticks(scale.low, scale.high, 4).map((tick) => [tick, short(tick)]));
  return levels.map(([name, loss]) => {
    line("tg-baseline", [[scale.first, loss], [scale.last, loss]]);
    return { name: levelName(name), loss, kind: "tg-soft" };
  });
}

/** A simpler model by its name in the data. */
export const levelName = (name) => LEVEL_NAMES[name] ?? name;

/** Steps with means over the losses around each; over fewer near the beginning, where losses fall. */
export function smoothed({ steps, mean }) {
  return steps.map((step, index) => {
    const reach = Math.min(index, Math.floor(steps.length / 25));
    const near = mean.slice(index - reach, index + reach + 1);
    return [step, near.reduce((sum, loss) => sum + loss, 0) / near.length];
  });
}

/** Round numbers within a range, about so many. */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step); tick * step <= high; tick++) found.push(tick * step);
  return found;
}

// --- elements ----------------------------------------------------------------------------------------------------

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawing(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A figure with its caption: what is shown, and beside it what is pointed at. */
export function figure(kind, title, about, ...children) {
  const readout = element("span", { class: "tg-readout" }, about);
  const heading = element("span", { class: "tg-title" }, title);
  const caption = element("figcaption", { class: "tg-caption" }, heading, readout);
  const node = element("figure", { class: `tg-figure tg-${kind}` }, caption, ...children);
  return { node, readout, point: (text) => (readout.textContent = text ?? about) };
}

/** A table of contents or whole cells; the first cell of a row is its head. */
export function table(kind, caption, heads, rows) {
  const cell = (tag, scope) => (content, index) => {
    if (content instanceof HTMLTableCellElement) return content;
    return element(index ? tag : "th", { class: index ? "tg-number" : null, scope: index && tag === "td" ? null : scope }, content);
  };
  return element(
    "table",
    { class: kind },
    caption && element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads.map(cell("th", "col")))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td", "row"))))),
  );
}

/** The same as a table, for those who do not see the picture. */
export function hiddenTable(caption, heads, rows) {
  return element("div", { class: "tg-hidden" }, table(null, caption, heads, rows));
}

/**
 * A plot, so many pixels high, whose lines go from 0 to 100 across and down; labels lie where their style says.
 *
 * axes(scale, across, down): ticks with their texts; names(scale, [{name, loss, kind}]): beside the plot, none on another.
 */
export function plotOf(height, kind = "") {
  const picture = drawing("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const node = place(element("div", { class: `tg-plot ${kind}`.trim() }, picture), { height: `${height}px` });
  const line = (look, points, end = "") => {
    const d = points.map(([x, y], index) => `${index ? "L" : "M"}${x} ${y}`).join("") + end;
    const path = drawing("path", { class: look, d });
    picture.append(path);
    return path;
  };
  const label = (look, style, ...children) => node.append(place(element("span", { class: look }, ...children), style));
  const axes = (scale, across, down) => {
    for (const [tick, text] of down) {
      line("tg-rule", [[0, scale.y(tick)], [100, scale.y(tick)]]);
      label("tg-tick-y", { top: `${scale.y(tick)}%` }, text);
    }
    for (const [tick, text] of across) label("tg-tick-x", { left: `${scale.x(tick)}%` }, text);
  };
  const names = (scale, named) => {
    const placed = named.map((each) => ({ ...each, at: (scale.y(each.loss) * height) / 100 })).sort((a, b) => a.at - b.at);
    let free = -LABEL;
    for (const each of placed) free = (each.at = Math.max(each.at, free)) + LABEL;
    free = height - LABEL / 2; // above the steps
    for (const each of placed.toReversed()) free = (each.at = Math.min(each.at, free)) - LABEL;
    for (const { at, name, loss, kind } of placed) {
      const text = element("span", { title: name }, `${decimal(loss)} ${name}`);
      label(`tg-label ${kind}`, { top: `${at}px` }, text);
    }
  };
  return { node, picture, line, label, axes, names };
}

export function place(node, style) {
  for (const [name, value] of Object.entries(style)) node.style.setProperty(name, value);
  return node;
}

/** Cells of a grid as few paths, one a shade and sign: `level(row, column)` is from -1 to 1, null for no cell. */
export function cells(rows, columns, level) {
  const paths = new Map();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = level(row, column);
      const shade = value === null ? 0 : Math.round(value * LEVELS);
      if (!shade) continue;
      paths.set(shade, `${paths.get(shade) ?? ""}M${column} ${row}h1v1h-1z`);
    }
  }
  return [...paths].map(([shade, d]) =>
    drawing("path", { class: shade < 0 ? "tg-minus" : "tg-plus", "fill-opacity": Math.abs(shade) / LEVELS, d }),
  );
}

/** Calls back with the row and the column of a grid that the pointer is at, counted from -edge, and with null elsewhere. */
export function onCell(node, rows, columns, edge, callback) {
  onPointer(node, (x, y) => {
    const [row, column] = [y * (rows + edge), x * (columns + edge)].map((at) => Math.floor(at) - edge);
    const inside = x !== null && row >= 0 && row < rows && column >= 0 && column < columns;
    callback(inside ? row : null, inside ? column : null);
  });
}

/** Calls back with where the pointer is or clicks, from 0 to 1 across and down, and with null when it leaves. */
export function onPointer(node, callback) {
  const where = (event) => {
    const box = node.getBoundingClientRect();
    callback((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, event);
  };
  for (const kind of ["pointermove", "pointerdown", "click"]) node.addEventListener(kind, where);
  node.addEventListener("pointerleave", () => callback(null, null, null));
}
