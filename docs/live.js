// The live figures of how-a-gpt-works.md. `make_figures.py` puts the views, their `look` and the `film` before this file.

const figures = new Map(); // each figure's element, and the function that draws it
const grounds = [];
const scrubbers = [];
const fields = []; // for the word
let moment = film.moments.length - 1;
let letter = 1;

const wordOf = ({ moments }) => moments[0].explanation.text;
let drawn = subject(wordOf(film));

const views = {
  loss: () =>
    lossCurve({
      runs: [{ name: "training", losses: film.losses, held_out: [], pinned: false }],
      baselines: film.baselines,
      moment: film.moments[moment].step,
      onMoment: (step) => go(film.moments.findLastIndex((each) => each.step <= step)),
    }),
  strings: () => stringList(film.moments[moment].strings),
  embeddings: () => embeddingMap(film.moments[moment].embeddings),
  attention: () => attentionView(film.moments[moment].explanation),
  gradients: () => gradientPath(film.moments[moment].explanation),
  surprise: () => {
    const { explanation } = film.moments[moment];
    const bars = element("div", { class: "expected" }, probabilityBars(explanation, letter));
    const onSelect = (t) => {
      letter = t;
      bars.replaceChildren(probabilityBars(explanation, t));
    };
    return element("div", {}, surpriseText(explanation, { onSelect, selected: letter }), bars);
  },
};

/** A slider over the moments; all on the page move together. */
function scrubber() {
  const last = film.moments.length - 1;
  const input = element("input", { type: "range", min: 0, max: last, value: last, "aria-label": "Moment of the training" });
  const output = element("output", { class: "tg-soft" });
  input.addEventListener("input", () => go(Number(input.value)));
  scrubbers.push({ input, output });
  return element("div", { class: "scrubber" }, input, output);
}

/** Light or dark, as the site is. */
function light() {
  for (const ground of grounds) ground.style.colorScheme = document.body.dataset.mdColorScheme === "slate" ? "dark" : "light";
}

/** What figures are of: the training as the page has it, and a word. */
function subject(word) {
  return `${blocks[0]?.text}\n${word}`;
}

/** A field for another word, where blocks can run. */
function wordField() {
  const input = element("input", { value: wordOf(film), size: 12, "aria-label": "Word", autocapitalize: "off", spellcheck: "false" });
  const button = element("button", {}, "Read");
  const note = element("span", { class: "tg-soft" });
  const form = element("form", { class: "word" }, "Word", input, button, note);
  form.addEventListener("submit", (event) => event.preventDefault());
  starter(button, note, async (say) => {
    if (blocks[0].ran !== blocks[0].text) await blocks[0].start(say);
    await redraw(say, input.value);
  });
  fields.push(input);
  return form;
}

/** Draw the training that the page has now, and how it reads a word. */
async function redraw(say, word = wordOf(film)) {
  if (subject(word) === drawn) return;
  const { film: made, problem } = await ask("film", [word], "Drawing the figures …", say);
  if (problem) throw new Error(problem);
  film = made;
  drawn = subject(word);
  const last = film.moments.length - 1;
  letter = Math.min(letter, film.moments[last].explanation.targets.length - 1);
  for (const input of fields) input.value = word;
  for (const { input } of scrubbers) input.max = last;
  go(last);
}

function go(index) {
  moment = Math.max(0, index);
  const { step } = film.moments[moment];
  for (const { input, output } of scrubbers) {
    input.value = String(moment);
    output.textContent = step ? `after ${decimal(step, 0)} step${step > 1 ? "s" : ""}` : "before the first step";
    input.setAttribute("aria-valuetext", output.textContent);
  }
  for (const [figure, draw] of figures) figure.replaceChildren(draw());
}

for (const host of document.querySelectorAll("[data-figure]")) {
  const picture = element("div", {});
  const ground = element("div", { class: "tapegpt" }, picture, scrubber());
  if (blocks.length && host.hasAttribute("data-word")) ground.append(wordField());
  figures.set(picture, views[host.dataset.figure]);
  grounds.push(ground);
  host.attachShadow({ mode: "open" }).append(element("style", {}, look), ground); // the site's styles stay outside
}
new MutationObserver(light).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
afterRun = redraw;
light();
go(moment);
