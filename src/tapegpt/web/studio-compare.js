// Runs that are pinned, beside the present one: their curves, their strings, the settings in which they differ.
// Not here: the curves' picture (views.js).

import { complain, duration, find, make, show } from "./studio-dom.js";
import { stringList } from "./views.js";

const MOST = 3;
const SHOWN = 8; // strings of each

export function compareSection({ onChange }) {
  let pinned = [];
  let run = null;

  function pin() {
    if (pinned.includes(run)) return;
    if (pinned.length === MOST) {
      complain("train-error", new Error(`${MOST} runs are pinned already: let go of one first.`));
      return;
    }
    pinned.push(run);
    update();
  }

  function letGo(gone) {
    pinned = pinned.filter((each) => each !== gone);
    find("pin").focus();
    update();
  }

  function update() {
    complain("train-error");
    draw();
    onChange();
  }

  function draw() {
    const isPinned = pinned.includes(run);
    find("pin").textContent = isPinned ? "Pinned" : "Pin this run";
    if (!pinned.length) {
      const hint = "Pin a run, then move a slider: both curves and both sets of strings stay side by side.";
      show("compare-view", make("p", { className: "quiet" }, hint));
      return;
    }
    const runs = pinned.map((each, place) => [each, `pinned ${place + 1}`]);
    if (!isPinned) runs.push([run, "this run"]);
    show("compare-view", make("div", { className: "runs" }, ...runs.map(([each, name]) => column(each, name, runs))));
  }

  function column(each, name, runs) {
    const title = make("div", { className: "title" }, make("h3", {}, name));
    if (pinned.includes(each)) {
      const button = make("button", { type: "button", className: "link" }, "Let go");
      button.setAttribute("aria-label", `Let go of ${name}`);
      button.addEventListener("click", () => letGo(each));
      title.append(button);
    }
    const list = facts(each, runs).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))]);
    return make("section", {}, title, make("dl", {}, ...list), stringList(each.moment.strings.slice(0, SHOWN)));
  }

  // What came out, and the settings in which not all runs are the same.
  function facts(each, runs) {
    const differs = (name) => new Set(runs.map(([other]) => other.settings[name])).size > 1;
    const names = Object.keys(each.settings).filter(differs);
    const number = (loss) => loss?.toFixed(3) ?? "–";
    const isHeldOut = runs.some(([other]) => other.held_out.length);
    return [
      ["loss", number(each.moment.loss)],
      ...(isHeldOut ? [["held out", number(each.held_out.at(-1)?.loss)]] : []),
      ["trained in", duration(each.seconds.train)],
      ...names.map((name) => [name, each.settings[name]]),
    ];
  }

  return {
    pin,
    take(made) {
      run = made;
      draw();
    },
    // Of the pinned runs, for the picture of the losses; the present run's is not among them.
    curves: () =>
      pinned
        .map(({ id, losses, held_out }, place) => ({ id, name: `pinned ${place + 1}`, losses, held_out, pinned: true }))
        .filter(({ id }) => id !== run.id),
  };
}
