// A run as a picture to send around: what was trained, on what, how fast, ten strings and the losses. Drawn here, sent
// nowhere. Not here: links (studio-state.js).

import { scaleOf, smoothed } from "./drawing.js";

const [WIDTH, HEIGHT, EDGE] = [1200, 630, 64];
const STRINGS = 10;

/** A PNG of a run under a headline, in the colours of the page; `name` says what the data are. */
export async function card(run, headline, name) {
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  const to = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const look = document.createElement("span");
  document.body.append(look);
  const colour = (part) => {
    look.style.color = `var(--tg-${part})`; // what light-dark() makes of it here
    return getComputedStyle(look).color;
  };
  const [ground, ink, soft, line, accent] = ["ground", "ink", "soft", "line", "accent"].map(colour);
  look.remove();
  const write = (text, x, y, size, font, fill, width = WIDTH - x - EDGE) => {
    to.font = `${font === "mono" ? 500 : 600} ${size}px ${style.getPropertyValue(`--tg-${font}`)}`;
    to.fillStyle = fill;
    to.fillText(text, x, y, width);
  };
  to.fillStyle = ground;
  to.fillRect(0, 0, WIDTH, HEIGHT);
  write(headline, EDGE, 110, 36, "text", ink);
  write(name, EDGE, 156, 26, "text", soft);
  run.moment.strings.slice(0, STRINGS).forEach(({ text }, index) => {
    write(text, EDGE + 280 * Math.floor(index / 5), 250 + 64 * (index % 5), 38, "mono", ink, 260);
  });
  drawLosses(to, run, { line, soft, accent });
  write("tapegpt", EDGE, HEIGHT - 44, 24, "mono", accent);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return URL.createObjectURL(blob);
}

function drawLosses(to, { losses, baselines }, { line, soft, accent }) {
  const [left, top, width, height] = [680, 215, WIDTH - 680 - EDGE, 330];
  const levels = Object.values(baselines ?? {});
  const most = Math.max(losses.mean[0], ...levels);
  const shown = smoothed(losses).map(([, loss]) => Math.min(loss, most));
  const scale = scaleOf([losses.steps[0], losses.steps.at(-1)], [...shown, ...levels]);
  const draw = (points, colour, thick) => {
    to.beginPath();
    for (const [step, loss] of points) to.lineTo(left + (scale.x(step) * width) / 100, top + (scale.y(loss) * height) / 100);
    Object.assign(to, { strokeStyle: colour, lineWidth: thick, lineJoin: "round" }).stroke();
  };
  for (const level of levels) draw([[scale.first, level], [scale.last, level]], line, 2);
  draw(losses.steps.map((step, index) => [step, shown[index]]), accent, 3);
  to.font = "500 20px sans-serif";
  to.fillStyle = soft;
  to.fillText("loss by step; grey: simpler models", left, top + height + 30, width);
}
