// The map of the model, and what is shown of the operation that is chosen in it: a picture of its numbers, or its code at
// a stage from Python to machine code. Not here: how the map is drawn (studio-model.js).

import { element } from "./drawing.js";
import { get } from "./studio-api.js";
import { asker, find, outdate, show, whenSeen } from "./studio-dom.js";
import { modelPicture, operationText } from "./studio-model.js";
import { attentionView, codeBlock, embeddingMap, gradientPath, heatmap } from "./views.js";

export function partSection() {
  let run = null;
  let moment = null;
  let chosen = null; // its number among the operations, if one is
  const asking = asker("part-error", "part-about", "part-view");
  const refresh = whenSeen(find("model"), draw);
  const stage = () => find("stages").querySelector("input:checked");

  function draw() {
    const focused = [...find("model-view").querySelectorAll("button")].indexOf(document.activeElement);
    const before = find("model-view").firstElementChild?.scrollLeft;
    show("model-view", modelPicture(run, moment, chosen, choose));
    if (before) find("model-view").firstElementChild.scrollLeft = before;
    if (focused >= 0) find("model-view").querySelectorAll("button")[focused]?.focus({ preventScroll: true });
    find("part").hidden = chosen === null;
    if (chosen === null) return;
    find("part-name").textContent = run.graph[chosen].name;
    if (stage().value === "picture") drawPicture();
    else askCode();
  }

  function choose(number) {
    chosen = chosen === number ? null : number;
    draw();
  }

  function drawPicture() {
    const { operation, parameters } = run.graph[chosen];
    const { explanation, embeddings } = moment;
    const told = operationText(run.graph[chosen], moment);
    const isTable = chosen === run.graph.findIndex((each) => each.operation === "embedding");
    const drawn = { attention: () => attentionView(explanation), cross_entropy: () => gradientPath(explanation) }[operation];
    show("part-about", told);
    const ask = (name) => (signal) =>
      get(`/api/runs/${run.id}/moments/${moment.step}/matrices/${encodeURIComponent(name)}`, { signal });
    if (parameters.length) {
      asking(ask(parameters[0]), (matrix) => {
        const pictures = [heatmap(matrix), ...(isTable ? [embeddingMap(embeddings)] : [])];
        show("part-about", told);
        show("part-view", element("div", { class: "halves" }, ...pictures));
      });
    } else show("part-view", drawn ? drawn() : element("p", { class: "quiet" }, "This operation has no numbers of its own."));
  }

  function askCode() {
    const query = new URLSearchParams({ operation: run.graph[chosen].name, stage: stage().value });
    asking(
      (signal) => get(`/api/runs/${run.id}/code?${query}`, { signal }),
      ({ operation, about, text }) => {
        show("part-about", about);
        show("part-view", codeBlock({ text, label: `${operation}, ${stage().parentElement.textContent}` }));
      },
    );
  }

  find("stages").addEventListener("change", () => run && draw());

  return {
    // The model at a moment of its training.
    take(ofRun, ofMoment) {
      if (run && run.graph.length !== ofRun.graph.length) chosen = null;
      run = ofRun;
      moment = ofMoment;
      outdate("part-view");
      refresh();
    },
  };
}
