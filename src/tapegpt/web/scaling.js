// The pictures of a scaling law: the law with its band, what was measured, one's own setting, from the data beside it.
// Not here: what the page says in words (`scaling.py`).
import { decimal, figure, given, hiddenTable, nearest, onPointer, plotOf, scaleOf, ticks } from "./drawing.js";

const TALL = { time: 280, axes: 200 }; // pixels

const { pictures } = JSON.parse(document.getElementById("data").textContent);

/** The scale of a picture: x is a logarithm. */
function lawScale({ law, points }) {
  const amounts = [...law, ...points].map(([x]) => Math.log(x));
  const scale = scaleOf([Math.min(...amounts), Math.max(...amounts)], [...law, ...points].map(([, loss]) => loss));
  return { ...scale, x: (amount) => scale.x(Math.log(amount)), y: (loss) => Math.max(0, Math.min(100, scale.y(loss))) };
}

/** Powers of ten within a range of logarithms, with 2 and 5 times each where these are few. */
function powers(first, last) {
  const all = [1, 2, 5].flatMap((factor) => Array.from({ length: 19 }, (_, index) => factor * 10 ** (index - 9)));
  const inside = all.filter((tick) => Math.log(tick) >= first && Math.log(tick) <= last);
  const tens = inside.filter((tick) => Number.isInteger(Math.log10(tick)));
  return tens.length > 2 ? tens : inside;
}

/** Loss by an amount: {title, unit, law: [[x, loss, lowest, highest]], points: [[x, loss]], own: as of the law}. */
function lawPlot(data, height) {
  const { title, unit, law, points, own } = data;
  const scale = lawScale(data);
  const plot = plotOf(height);
  const line = (kind, pairs, end) => plot.line(kind, pairs.map(([x, loss]) => [scale.x(x), scale.y(loss)]), end);
  const amounts = powers(scale.first, scale.last).map((tick) => [tick, given(tick)]);
  plot.axes(scale, amounts, ticks(scale.low, scale.high, 4).map((tick) => [tick, decimal(tick)]));
  const [lowest, highest] = [law.map(([x, , low]) => [x, low]), law.map(([x, , , high]) => [x, high])];
  line("tg-band", [...highest, ...lowest.toReversed()], "Z");
  const reach = Math.max(...points.map(([x]) => x), law[0][0]);
  line("tg-run", law.filter(([x]) => x <= reach));
  line("tg-beyond", law.filter(([x], index) => x > reach || (law[index + 1]?.[0] ?? 0) > reach));
  const dot = (kind, [x, loss]) => plot.label(kind, { left: `${scale.x(x)}%`, top: `${scale.y(loss)}%` });
  for (const measured of points) dot("tg-measured", measured);
  dot("tg-yours", own);
  const [from, to] = [law[0], law.at(-1)];
  plot.node.setAttribute("role", "img");
  plot.node.setAttribute("aria-label", `${title}: ${said(from, unit)}; yours ${said(own, unit)}; ${said(to, unit)}`);
  const { node, point } = figure("law", title, `yours: ${said(own, unit)}`, plot.node);
  onPointer(plot.node, (x) => {
    const inside = x !== null && x >= 0 && x <= 1;
    const at = scale.first + x * (scale.last - scale.first);
    point(inside ? said(nearest(law, ([amount]) => Math.abs(Math.log(amount) - at)), unit) : null);
  });
  const rows = law.filter((_, index) => index % 8 === 0).map(([x, ...losses]) => [given(x), ...losses.map((l) => decimal(l, 3))]);
  node.append(hiddenTable(title, [unit, "loss, nats per token", "lowest", "highest"], rows));
  return node;
}

function said([x, loss, low, high], unit) {
  return `${given(x)} ${unit}, ${decimal(loss, 3)} (${decimal(low, 3)} to ${decimal(high, 3)})`;
}

const [time, ...axes] = pictures;
document.querySelector('[data-view="time"]').append(lawPlot(time, TALL.time));
document.querySelector('[data-view="axes"]').append(...axes.map((each) => lawPlot(each, TALL.axes)));
