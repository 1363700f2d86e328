// The pictures of a report, in the slots that `report.py` left for them, from the data beside them.
// Not here: how they are drawn (`views.js`).
import { decimal, element, nearest } from "./drawing.js";
import { modelFigure } from "./studio-model.js";
import { attentionView, embeddingMap, gradientPath, lossCurve, probabilityBars, scoreTable, stringList, surpriseText } from "./views.js";

const { run, baselines, moments, chosen, scores } = JSON.parse(document.getElementById("data").textContent);
const slots = new Map([...document.querySelectorAll("[data-view]")].map((slot) => [slot.dataset.view, slot]));
let shownPosition = null; // of the text; null for the most surprising one
let shownOperation = null;

function fill(view, ...children) {
  slots.get(view)?.replaceChildren(...children);
}

/** Everything that changes from moment to moment. */
function showMoment(number) {
  const moment = moments[number];
  const { step, strings, embeddings, explanation } = moment;
  const choose = (wanted) => {
    scrubber.value = nearest([...moments.keys()], (each) => Math.abs(moments[each].step - wanted));
    showMoment(Number(scrubber.value));
  };
  scrubber.setAttribute("aria-valuetext", `step ${step}`);
  stepName.textContent = `step ${decimal(step, 0)}`;
  const runs = [{ ...run, name: "training", pinned: false }];
  fill("loss", lossCurve({ runs, baselines, moment: step, onMoment: choose }));
  fill("strings", stringList(strings));
  fill("embeddings", embeddingMap(embeddings));
  fill("model", modelFigure(run, moment, shownOperation, (operation) => (shownOperation = operation)));
  showReading(explanation);
}

function showReading(explanation) {
  const { surprises } = explanation;
  const at = shownPosition ?? surprises.indexOf(Math.max(...surprises));
  const bars = element("div", {}, probabilityBars(explanation, at));
  const onSelect = (position) => {
    shownPosition = position;
    bars.replaceChildren(probabilityBars(explanation, position));
  };
  const text = surpriseText(explanation, { onSelect, selected: at });
  const pair = element("div", { class: "pair" }, bars, attentionView(explanation));
  fill("reading", text, pair, gradientPath(explanation));
}

const scrubber = element("input", { type: "range", min: 0, max: moments.length - 1, value: chosen, id: "step" });
const stepName = element("output");
scrubber.addEventListener("input", () => showMoment(Number(scrubber.value)));
if (moments.length > 1) fill("film", element("label", { for: "step" }, "After ", stepName), scrubber);
if (scores.length) fill("scores", scoreTable(scores));
showMoment(chosen);
