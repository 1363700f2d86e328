// What pictures are made of: numbers as they are shown, elements of HTML and SVG, figures that can be read aloud.
// Not here: what is drawn (`views.js`).

const SVG = "http://www.w3.org/2000/svg";

// --- numbers and characters --------------------------------------------------------------------------------------

/** 1234.5 as "1,234.50"; a true minus sign. */
export function decimal(number, digits = 2) {
  return number
    .toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    .replace(/^-/, "−");
}

/** A number of any size in three digits or so. */
export function short(number) {
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return number.toExponential(1).replace("e+", "e").replaceAll("-", "−");
  return decimal(number, size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

/** 0.314 as "31%", 0.0042 as "0.42%". */
export function percent(share) {
  if (share > 0 && share < 1e-4) return "< 0.01%";
  const digits = share >= 0.0995 || share === 0 ? 0 : share >= 0.00995 ? 1 : 2;
  return `${decimal(100 * share, digits)}%`;
}

/** A character as it can be seen: "␣" for a space, U+200B for what has no look of its own. */
export function visible(character) {
  if (character === " ") return "␣";
  if (/^\p{M}/u.test(character)) return `◌${character}`;
  const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return /^[\p{C}\p{Z}]/u.test(character) ? `U+${code}` : character;
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

/** The same as a table, for those who do not see the picture. */
export function hiddenTable(caption, heads, rows) {
  const cells = (row) => row.map((cell, place) => element(place ? "td" : "th", place ? {} : { scope: "row" }, cell));
  return element(
    "div",
    { class: "tg-hidden" },
    element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row)))),
    ),
  );
}

export function place(node, style) {
  for (const [name, value] of Object.entries(style)) node.style.setProperty(name, value);
  return node;
}

/** Calls back with where the pointer is, from 0 to 1 across and down, and with null when it leaves. */
export function onPointer(node, callback) {
  const where = (event) => {
    const box = node.getBoundingClientRect();
    callback((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, event);
  };
  node.addEventListener("pointermove", where);
  node.addEventListener("pointerdown", where);
  node.addEventListener("pointerleave", () => callback(null, null, null));
}
