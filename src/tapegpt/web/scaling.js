// The pictures of a scaling law: the law with its band, what was measured, one's own setting, from the data beside it.
// Not here: what the page says in words (`scaling_page.py`).
import { decimal, drawing, element, figure, hiddenTable, onPointer, place, short, ticks } from "./drawing.js";

const TALL = { time: 280, axes: 200 }; // pixels
const ROOM = 0.06; // above and below, a share of the height
const TICKS = 4;

const { pictures } = JSON.parse(document.getElementById("data").textContent);

/** The scale of a picture: x is a logarithm. */
function lawScale({ law, points }) {
  const amounts = [...law, ...points].map(([x]) => Math.log(x));
  const losses = [...law.map(([, loss]) => loss), ...points.map(([, loss]) => loss)];
  const [first, last] = [Math.min(...amounts), Math.max(...amounts)];
  const ends = [Math.min(...losses), Math.max(...losses)];
  const room = ROOM * (ends[1] - ends[0] || 1);
  const [low, high] = [ends[0] - room, ends[1] + room];
  const x = (amount) => (100 * (Math.log(amount) - first)) / (last - first);
  const y = (loss) => Math.max(0, Math.min(100, (100 * (high - loss)) / (high - low)));
  return { first, last, low, high, x, y };
}

/** Powers of ten within a range, or of two where these are few. */
function powers(first, last) {
  for (const base of [10, 4, 2]) {
    const [from, to] = [Math.ceil(first / Math.log(base)), Math.floor(last / Math.log(base))];
    if (to - from >= 2 || base === 2) return Array.from({ length: to - from + 1 }, (_, index) => base ** (from + index));
  }
}

/** Loss by an amount: {title, unit, law: [[x, loss, lowest, highest]], points: [[x, loss]], own: as of the law}. */
function lawPlot(data, height) {
  const { title, unit, law, points, own } = data;
  const scale = lawScale(data);
  const picture = drawing("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const plot = place(element("div", { class: "tg-plot", role: "img" }, picture), { height: `${height}px` });
  const path = (pairs) => pairs.map(([x, loss], index) => `${index ? "L" : "M"}${scale.x(x)} ${scale.y(loss)}`).join("");
  const line = (kind, pairs, end = "") => picture.append(drawing("path", { class: kind, d: path(pairs) + end }));
  for (const tick of ticks(scale.low, scale.high, TICKS)) {
    line("tg-rule", [[law[0][0], tick], [law.at(-1)[0], tick]]);
    plot.append(place(element("span", { class: "tg-tick-y" }, decimal(tick)), { top: `${scale.y(tick)}%` }));
  }
  for (const tick of powers(scale.first, scale.last)) {
    plot.append(place(element("span", { class: "tg-tick-x" }, short(tick)), { left: `${scale.x(tick)}%` }));
  }
  const [lowest, highest] = [law.map(([x, , low]) => [x, low]), law.map(([x, , , high]) => [x, high])];
  line("tg-band", [...highest, ...lowest.toReversed()], "Z");
  const reach = Math.max(...points.map(([x]) => x), law[0][0]);
  line("tg-run", law.filter(([x]) => x <= reach));
  line("tg-beyond", law.filter(([x], index) => x > reach || (law[index + 1]?.[0] ?? 0) > reach));
  for (const [x, loss] of points) {
    plot.append(place(element("span", { class: "tg-measured" }), { left: `${scale.x(x)}%`, top: `${scale.y(loss)}%` }));
  }
  plot.append(place(element("span", { class: "tg-own" }), { left: `${scale.x(own[0])}%`, top: `${scale.y(own[1])}%` }));
  const [from, to] = [law[0], law.at(-1)];
  plot.setAttribute("aria-label", `${title}: ${said(from, unit)}; yours ${said(own, unit)}; ${said(to, unit)}`);
  const { node, point } = figure("law", title, `yours: ${said(own, unit)}`, plot);
  onPointer(plot, (x) => {
    const inside = x !== null && x >= 0 && x <= 1;
    point(inside ? said(nearestOf(law, Math.exp(scale.first + x * (scale.last - scale.first))), unit) : null);
  });
  const rows = law.filter((_, index) => index % 8 === 0).map(([x, ...losses]) => [short(x), ...losses.map((l) => decimal(l, 3))]);
  node.append(hiddenTable(title, [unit, "loss", "lowest", "highest"], rows));
  return node;
}

function nearestOf(law, amount) {
  const apart = ([x]) => Math.abs(Math.log(x / amount));
  return law.reduce((best, each) => (apart(each) < apart(best) ? each : best));
}

function said([x, loss, low, high], unit) {
  return `${short(x)} ${unit}, ${decimal(loss, 3)} (${decimal(low, 3)} to ${decimal(high, 3)})`;
}

const [time, ...axes] = pictures;
document.querySelector('[data-view="time"]').append(lawPlot(time, TALL.time));
document.querySelector('[data-view="axes"]').append(...axes.map((each) => lawPlot(each, TALL.axes)));
