// How the model reads a string: what surprised it, what it expected, where it looks, how the gradient goes back, which
// training strings taught it, its weights. Not here: asking for a moment, of which most of this is a part.

import { get, newest, post } from "./studio-api.js";
import { complain, duration, find, make, outdate, show, whenSeen } from "./studio-dom.js";
import { attentionView, gradientPath, heatmap, influenceList, probabilityBars, surpriseText } from "./views.js";

export function readingSection({ onText }) {
  let run = null;
  let moment = null;
  let place = null; // that was chosen; null for the most surprising one
  const scoring = newest();
  const asking = newest();
  const weighing = newest();
  const rescore = whenSeen(find("reading"), score);

  function draw(ofRun, ofMoment) {
    const { explanation } = ofMoment;
    if (run !== ofRun) drawMatrices(ofMoment.matrices);
    if (run !== ofRun || moment.explanation.text !== explanation.text) {
      place = null;
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
    place = at;
    drawBars();
  }

  // The place whose expectation is shown.
  function shown() {
    const { surprises } = moment.explanation;
    return place ?? surprises.indexOf(Math.max(...surprises));
  }

  function drawBars() {
    show("bars-view", probabilityBars(moment.explanation, shown()));
  }

  // Of the model as it came out, not of its earlier moments: how usual the string is beside the training strings.
  async function score() {
    const { text } = moment.explanation;
    outdate("score-view");
    try {
      const answer = await scoring((signal) => post(`/api/runs/${run.id}/score`, { strings: [text] }, { signal }));
      if (!answer) return;
      const { nats, perplexity, percentile } = answer.scores[0];
      const loss = `After the training ${nats.toFixed(2)} nats per token, as if it chose among ${perplexity.toFixed(1)}`;
      const rank = `at least as surprising as ${Math.round(percentile)} % of the training strings`;
      show("score-view", percentile === null ? loss : `${loss} · ${rank}`);
    } catch (error) {
      complain("probe-error", error, "score-view");
    }
  }

  async function why() {
    complain("why-error");
    show("why-view", make("p", { className: "quiet" }, "Weighing every training string …"));
    const { id } = run;
    const { text } = moment.explanation;
    try {
      const answer = await asking((signal) => post(`/api/runs/${id}/why`, { text, top: 10 }, { signal }));
      if (!answer || run.id !== id || moment.explanation.text !== text) return;
      show("why-view", influences("Taught it", answer.taught), influences("Pushed against it", answer.hindered));
      show("why-timing", `found in ${duration(answer.seconds)}`);
    } catch (error) {
      show("why-view");
      complain("why-error", error);
    }
  }

  function influences(title, list) {
    const content = list.length ? influenceList(list) : make("p", { className: "quiet" }, "None.");
    return make("div", {}, make("h4", {}, title), content);
  }

  function drawMatrices(matrices) {
    const chosen = find("matrix").value;
    const option = ({ name, rows, columns }) => make("option", { value: name }, `${name}  ${rows} × ${columns}`);
    show("matrix", ...matrices.map(option));
    if (matrices.some(({ name }) => name === chosen)) find("matrix").value = chosen;
  }

  async function drawWeights() {
    if (!find("weights").open || !run) return;
    outdate("weights-view");
    const address = `/api/runs/${run.id}/moments/${moment.step}/matrices/${encodeURIComponent(find("matrix").value)}`;
    try {
      const matrix = await weighing((signal) => get(address, { signal }));
      if (matrix) show("weights-view", heatmap(matrix));
      complain("weights-error");
    } catch (error) {
      complain("weights-error", error, "weights-view");
    }
  }

  find("probe").addEventListener("input", ({ target }) => onText(target.value));
  find("why").addEventListener("click", why);
  find("matrix").addEventListener("change", drawWeights);
  find("weights").addEventListener("toggle", drawWeights);

  return { draw, setText: (text) => (find("probe").value = text) };
}
