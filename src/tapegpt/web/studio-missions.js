// Missions: things to achieve on the page, each with a link of its own for a teacher to give. What has been solved is
// noticed as runs come and go, and remembered in this browser. Not here: runs (studio.js).

import { element } from "./drawing.js";
import { find, show } from "./studio-dom.js";
import { kept, remember } from "./studio-state.js";

const heldOut = ({ run }) => run?.held_out.at(-1)?.loss;
const final = ({ run }) => run?.moment.loss;
const SMALL = 1000; // numbers
const GAP = 0.3; // nats per token, by which what is held out is worse than what was trained on
const KNOWN = 10; // of 20 strings

// What is to be achieved, and whether a run, or a training that broke off, does; `baselines` are of its data.
const MISSIONS = {
  "few-numbers": {
    text: "Beat letter pairs with fewer than 1,000 numbers.",
    hint: "Make the model narrow, and give it more steps.",
    solved: (found) => found.run?.parameters < SMALL && heldOut(found) < found.baselines?.bigram,
  },
  memorise: {
    text: "Make it memorise: half of its strings are already in the data.",
    hint: "Take few strings, a wide model, many steps and a low temperature.",
    solved: ({ run }) => run?.moment.strings.filter(({ known }) => known).length >= KNOWN,
  },
  overfit: {
    text: "Make it overfit: much better on the strings that it trains on than on those held out.",
    hint: "Watch the two loss curves part.",
    solved: (found) => heldOut(found) - final(found) > GAP,
  },
  break: { text: "Break it with the learning rate.", hint: "Too large a step makes the loss grow.", solved: ({ broke }) => broke },
  "runs-of-five": {
    text: "Beat runs of five, the counts of five letters in a row.",
    hint: "Take a wider model, more steps and the engine fast.",
    solved: (found) => heldOut(found) < found.baselines?.["5-gram"],
  },
};

export function missionSection() {
  const solved = new Set(kept("missions") ?? []);
  let given = ""; // the mission of the link that was followed

  function draw() {
    const items = Object.entries(MISSIONS).map(([id, { text, hint }]) => {
      const [kind, mark, about] = solved.has(id) ? ["solved", "✓", "Solved."] : ["open", "○", hint];
      const link = element("a", { href: `#mission=${id}` }, text);
      const sign = element("span", { "aria-hidden": "true" }, mark);
      return element("li", { class: kind }, sign, " ", link, " ", element("span", { class: "quiet" }, about));
    });
    show("missions-view", element("ul", {}, ...items));
    const now = MISSIONS[given];
    find("mission").hidden = !now;
    if (now) find("mission").textContent = solved.has(given) ? `Solved: ${now.text}` : `Your mission: ${now.text}`;
    find("mission").classList.toggle("solved", solved.has(given));
  }

  function follow() {
    given = location.hash.match(/^#mission=([\w-]+)$/)?.[1] ?? given;
    draw();
  }

  window.addEventListener("hashchange", follow);
  follow();
  return {
    // A run with the losses of simpler models on its data, or that a training broke off.
    notice(found) {
      for (const [id, { solved: isSolved }] of Object.entries(MISSIONS)) if (isSolved(found)) solved.add(id);
      remember("missions", [...solved]);
      draw();
    },
  };
}
