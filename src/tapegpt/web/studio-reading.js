// How the model reads a string: what surprised it, what it expected, where it looks, how the gradient goes back, which
// training strings taught it, its weights. Not here: asking for a moment, of which most of this is a part.

import { decimal, element } from "./drawing.js";
import { get, post } from "./studio-api.js";
import { asker, complain, duration, find, show, whenSeen } from "./studio-dom.js";
import { attentionView, gradientPath, heatmap, influenceList, probabilityBars, surpriseText } from "./views.js";

export function readingSection({ onText }) {
  let run = null;
  let moment = null;
  let position = null; // that was chosen; null for the most surprising one
  const scoring = asker("score-error", "score-view");
  const tracing = asker("why-error", "why-view");
  const weighing = asker("weights-error", "weights-view");
  const rescore = whenSeen(find("reading"), score);

  function draw(ofRun, ofMoment) {
    const { explanation } = ofMoment;
    if (run !== ofRun) drawMatrices(ofMoment.matrices);
    if (run !== ofRun || moment.explanation.text !== explanation.text) {
      position = null;
      show("why-view");
      show("why-timing");
      complain("why-error");
    }
    run = ofRun;
    moment = ofMoment;
    find("why").disabled = false;
    show("surprise-view", surpriseText(explanation, { onSelect: select, selected: shown() }));
    show("gradient-view", gradientPath(explanation));
    show("attention-view", attentionView(explanation));
    drawBars();
    drawWeights();
    rescore();
  }

  function select(at) {
    position = at;
    drawBars();
  }

  // The position whose expectation is shown.
  function shown() {
    const { surprises } = moment.explanation;
    return position ?? surprises.indexOf(Math.max(...surprises));
  }

  function drawBars() {
    show("bars-view", probabilityBars(moment.explanation, shown()));
  }

  // Of the model as it came out, not of its earlier moments: how usual the string is beside the training strings.
  function score() {
    const strings = [moment.explanation.text];
    scoring((signal) => post(`/api/runs/${run.id}/score`, { strings }, { signal }), ({ scores: [score] }) => {
      const { nats, perplexity, percentile } = score;
      const loss = `After the training ${decimal(nats)} nats per token, as if it chose among ${decimal(perplexity, 1)}`;
      const rank = `at least as surprising as ${decimal(percentile ?? 0, 0)} % of the training strings`;
      show("score-view", percentile === null ? loss : `${loss} · ${rank}`);
    });
  }

  async function why() {
    const { id } = run;
    const { text } = moment.explanation;
    const ask = (signal) => post(`/api/runs/${id}/why`, { text, top: 10 }, { signal });
    const asked = tracing(ask, ({ taught, hindered, seconds }) => {
      if (run.id !== id || moment.explanation.text !== text) return;
      show("why-view", influences("Taught it", taught), influences("Pushed against it", hindered));
      show("why-timing", `found in ${duration(seconds)}`);
    });
    show("why-view", element("p", { class: "quiet" }, "Weighing every training string …"));
    if (!(await asked)) show("why-view");
  }

  function influences(title, list) {
    const content = list.length ? influenceList(list) : element("p", { class: "quiet" }, "None.");
    return element("div", {}, element("h4", {}, title), content);
  }

  function drawMatrices(matrices) {
    const chosen = find("matrix").value;
    const option = ({ name, rows, columns }) => element("option", { value: name }, `${name}  ${rows} × ${columns}`);
    show("matrix", ...matrices.map(option));
    if (matrices.some(({ name }) => name === chosen)) find("matrix").value = chosen;
  }

  function drawWeights() {
    if (!find("weights").open || !run) return;
    const address = `/api/runs/${run.id}/moments/${moment.step}/matrices/${encodeURIComponent(find("matrix").value)}`;
    weighing((signal) => get(address, { signal }), (matrix) => show("weights-view", heatmap(matrix)));
  }

  find("probe").addEventListener("input", ({ target }) => onText(target.value));
  find("why").addEventListener("click", why);
  find("matrix").addEventListener("change", drawWeights);
  find("weights").addEventListener("toggle", drawWeights);

  return { draw, setText: (text) => (find("probe").value = text) };
}
