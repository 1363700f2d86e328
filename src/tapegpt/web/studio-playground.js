// Strings that fulfil wishes, anew at every change of one. Not here: how the model keeps to them (sampling.py).

import { newest, post } from "./studio-api.js";
import { complain, count, duration, find, outdate, show, whenSeen } from "./studio-dom.js";
import { stringList } from "./views.js";

const TEXTS = ["prefix", "suffix", "pattern"];
const NUMBERS = ["min_length", "max_length", "top_k", "top_p", "n"];
const CHECKS = ["novel", "unique"];

export function playgroundSection({ temperature }) {
  const form = find("wishes");
  const asking = newest();
  let run = null;
  const refresh = whenSeen(find("playground"), ask);

  function wishes() {
    const { elements } = form;
    const filled = (names, read) =>
      names.filter((name) => elements[name].value !== "").map((name) => [name, read(elements[name])]);
    return Object.fromEntries([
      ...filled(TEXTS, ({ value }) => value),
      ...filled(NUMBERS, ({ valueAsNumber }) => valueAsNumber),
      ...CHECKS.map((name) => [name, elements[name].checked]),
      ["temperature", temperature()],
    ]);
  }

  async function ask() {
    if (!run) return;
    const wrong = [...form.elements].find((element) => !element.checkValidity());
    if (wrong) {
      fail(new Error(`${wrong.labels[0].textContent.trim()}: ${wrong.validationMessage}`));
      return;
    }
    outdate("playground-view", "playground-timing");
    try {
      const answer = await asking((signal) => post(`/api/runs/${run.id}/generate`, wishes(), { signal }));
      if (!answer) return;
      complain("playground-error");
      show("playground-view", stringList(answer.strings));
      const found = `${count(answer.strings.length, "string")} in ${duration(answer.seconds)}`;
      show("playground-timing", [found, ...answer.notes].join(" · "));
    } catch (error) {
      fail(error);
    }
  }

  function fail(error) {
    complain("playground-error", error, "playground-view");
    show("playground-timing");
  }

  form.addEventListener("input", ask);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });

  return {
    refresh,
    take(made) {
      run = made;
      outdate("playground-view");
      refresh();
    },
  };
}
