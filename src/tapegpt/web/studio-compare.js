// Runs that are pinned, beside the present one: their curves, their strings, the settings in which they differ, and which
// is better by the strings that are held out, as far as these can tell.
// Not here: the curves' picture (views.js).

import { count, decimal, element } from "./drawing.js";
import { get, query } from "./studio-api.js";
import { asker, complain, duration, find, show } from "./studio-dom.js";
import { stringList } from "./views.js";

const MOST = 3;
const SHOWN = 8; // strings of each
const NOISE = 0.01; // nats per token: standard deviation of runs that differ in their seed alone, 0.005 to 0.016 on names
const FEWEST = 20; // strings held out that can tell runs apart

const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;

// The standard deviation.
function spread(numbers) {
  const middle = mean(numbers);
  return Math.sqrt(mean(numbers.map((number) => (number - middle) ** 2)));
}

// `drawing(run)` is how strings of it are drawn: their temperature and label.
export function compareSection({ drawing, onChange }) {
  let pinned = []; // runs with their strings and how these were drawn
  let present = null;
  const asking = asker("compare-error", "compare-view");
  const judging = asker("compare-error", "compare-view");

  function pin() {
    if (pinned.includes(present)) return;
    if (pinned.length === MOST) {
      complain("pin-error", new Error(`${MOST} runs are pinned already: unpin one first.`));
      return;
    }
    pinned.push(present);
    update();
  }

  function unpin(gone) {
    pinned = pinned.filter((each) => each !== gone);
    find("pin").focus();
    update();
  }

  function update() {
    complain("pin-error");
    draw();
    refresh();
    judge();
    onChange();
  }

  // Asks for the losses of the strings that are held out, of the runs of which they are not known.
  async function judge() {
    const all = compared().filter(([each]) => !each.judged).map(([each]) => each);
    if (!pinned.length || !all.length) return;
    const ask = (signal) => Promise.all(all.map(({ run }) => get(`/api/runs/${run.id}/held-out`, { signal })));
    await judging(ask, (found) => all.forEach((each, index) => (each.judged = found[index])));
    draw();
  }

  // What the strings that both runs have held out, or each has, say of their difference.
  function verdict([one, name], [other, otherName]) {
    const [own, others] = [one, other].map(({ judged }) => new Map(judged?.documents.map((text, at) => [text, judged.nats[at]])));
    const both = [...own.keys()].filter((text) => others.has(text));
    const isPaired = both.length > own.size / 2;
    const samples = isPaired ? [both.map((text) => own.get(text) - others.get(text))] : [[...own.values()], [...others.values()]];
    if (samples.some((sample) => sample.length < FEWEST)) return "";
    const [first, second = [0]] = samples;
    const difference = mean(first) - mean(second);
    const error = Math.hypot(NOISE, NOISE, ...samples.map((sample) => spread(sample) / Math.sqrt(sample.length)));
    const told = `${decimal(Math.abs(difference), 3)} ± ${decimal(2 * error, 3)} nats per token on ${count(first.length, "string")}`;
    if (Math.abs(difference) < 2 * error) return `${name} and ${otherName}: no clear difference (${told})`;
    return difference < 0 ? `${name} is better than ${otherName} (by ${told})` : `${otherName} is better than ${name} (by ${told})`;
  }

  // The runs that are compared, with their names.
  function compared() {
    const named = pinned.map((each, index) => [each, `pinned ${index + 1}`]);
    return !named.length || pinned.includes(present) ? named : [...named, [present, "you"]];
  }

  function draw() {
    find("pin").textContent = pinned.includes(present) ? "Pinned" : "Pin this run";
    const all = compared();
    if (!all.length) {
      const hint = "Pin a run, then move a slider: both curves and both sets of strings stay in view.";
      show("compare-view", element("p", { class: "quiet" }, hint));
      return;
    }
    const pairs = all.flatMap((each, index) => all.slice(index + 1).map((other) => verdict(each, other)));
    const verdicts = pairs.filter(Boolean).map((said) => element("li", {}, said));
    const columns = all.map(([each, name]) => column(each, name, all));
    show("compare-view", element("ul", { class: "verdicts" }, ...verdicts), element("div", { class: "runs" }, ...columns));
  }

  const wanted = (run) => query(drawing(run)).toString();

  // Has strings that were drawn otherwise drawn anew, from the same random numbers.
  function refresh() {
    const old = compared().map(([each]) => each).filter((each) => each.drawn !== wanted(each.run));
    if (!old.length) return;
    const asked = old.map(({ run }) => wanted(run));
    const ask = (signal) => ({ run: { id, moment } }, index) =>
      get(`/api/runs/${id}/moments/${moment.step}?${asked[index]}`, { signal });
    asking((signal) => Promise.all(old.map(ask(signal))), (moments) => {
      old.forEach((each, index) => Object.assign(each, { strings: moments[index].strings, drawn: asked[index] }));
      draw();
    });
  }

  function column(each, name, all) {
    const title = element("div", { class: "title" }, element("h3", {}, name));
    if (pinned.includes(each)) {
      const button = element("button", { type: "button", class: "link", "aria-label": `Unpin ${name}` }, "Unpin");
      button.addEventListener("click", () => unpin(each));
      title.append(button);
    }
    const list = facts(each, all).flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, String(value))]);
    return element("section", {}, title, element("dl", {}, ...list), stringList(each.strings.slice(0, SHOWN)));
  }

  // What came out, and the settings in which not all runs are the same.
  function facts({ run }, all) {
    const differs = (name) => new Set(all.map(([other]) => other.run.settings[name])).size > 1;
    const names = Object.keys(run.settings).filter(differs);
    const number = (loss) => (Number.isFinite(loss) ? decimal(loss, 3) : "–");
    const isHeldOut = all.some(([other]) => other.run.held_out.length);
    return [
      ["loss", number(run.moment.loss)],
      ...(isHeldOut ? [["held out", number(run.held_out.at(-1)?.loss)]] : []),
      ["trained in", duration(run.seconds.train)],
      ...names.map((name) => [name, run.settings[name]]),
    ];
  }

  return {
    pin,
    refresh,
    // A run, and how the strings of its moment were drawn.
    take(run, { temperature, label }) {
      present = { run, strings: run.moment.strings, drawn: query({ temperature, label }).toString() };
      draw();
      refresh();
      judge();
    },
    // Of the pinned runs, for the picture of the losses; the present run's is not among them.
    curves: () =>
      compared()
        .filter(([each]) => each !== present)
        .map(([{ run: { losses, held_out } }, name]) => ({ name, losses, held_out, pinned: true })),
  };
}
