// How the model reads a string: what surprised it, where it looks, what it expected, which training strings taught it.
// Not here: asking for a moment, of which most of this is a part.

import { decimal, element, percent } from "./drawing.js";
import { post } from "./studio-api.js";
import { asker, complain, duration, find, show, whenSeen } from "./studio-dom.js";
import { gradientBars, influenceList, probabilityBars, surpriseText } from "./views.js";

export function readingSection({ onText }) {
  let run = null;
  let moment = null;
  let position = null; // that was chosen; null for the most surprising one
  const scoring = asker("score-error", "score-view");
  const tracing = asker("why-error", "why-view");
  const rescore = whenSeen(find("reading"), score);

  function draw(ofRun, ofMoment) {
    const { explanation } = ofMoment;
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
    drawBars();
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
    show("gradient-view", gradientBars(moment.explanation, shown()));
  }

  // Of the model as it came out, not of its earlier moments: how usual the string is beside the training strings.
  function score() {
    const { text, labels: label } = moment.explanation;
    const asked = { strings: [text], label };
    scoring((signal) => post(`/api/runs/${run.id}/score`, asked, { signal }), ({ scores: [score] }) => {
      const { nats, perplexity, percentile, classes } = score;
      const loss = `Loss ${decimal(nats)} nats per token: perplexity ${decimal(perplexity, 1)}`;
      const rank = `more surprising than ${decimal(percentile ?? 0, 0)} % of the training strings`;
      const said = [loss, ...(percentile === null ? [] : [rank])];
      const shares = classes.slice(0, 3).map(([name, share]) => `${name} ${percent(share)}`);
      if (shares.length) said.push(`${run.labels.map(({ name }) => name).join(", ")}: ${shares.join(", ")}`);
      show("score-view", said.join(" · "));
    });
  }

  async function why() {
    const { id } = run;
    const { text, labels: label } = moment.explanation;
    const ask = (signal) => post(`/api/runs/${id}/why`, { text, label, top: 10 }, { signal });
    const asked = tracing(ask, ({ taught, hindered, seconds }) => {
      if (run.id !== id || moment.explanation.text !== text) return;
      show("why-view", influences("Made it more probable", taught), influences("Made it less probable", hindered));
      show("why-timing", `found in ${duration(seconds)}`);
    });
    show("why-view", element("p", { class: "quiet" }, "Computing the influence of every training string …"));
    if (!(await asked)) show("why-view");
  }

  function influences(title, list) {
    const content = list.length ? influenceList(list) : element("p", { class: "quiet" }, "None.");
    return element("div", {}, element("h4", {}, title), content);
  }

  find("probe").addEventListener("input", ({ target }) => onText(target.value));
  find("why").addEventListener("click", why);

  const setText = (text) => (find("probe").value = text);
  const read = (text) => {
    setText(text);
    onText(text);
    find("reading").scrollIntoView({ block: "nearest" });
  };
  return { draw, setText, read };
}
