// An operation on its way from Python to machine code, chosen from a list or from the picture of the model.
// Not here: that picture (studio-model.js).

import { element } from "./drawing.js";
import { get } from "./studio-api.js";
import { asker, find, outdate, show, whenSeen } from "./studio-dom.js";
import { modelPicture, parts } from "./studio-model.js";
import { codeBlock } from "./views.js";

export function codeSection() {
  let run = null;
  let operation = "";
  const asking = asker("code-error", "code-about", "code-view");
  const refresh = whenSeen(find("code"), ask);
  const stage = () => find("stages").querySelector("input:checked");

  function ask() {
    const query = new URLSearchParams({ operation, stage: stage().value });
    asking((signal) => get(`/api/runs/${run.id}/code?${query}`, { signal }), take);
  }

  function take({ operation: name, operations, about, text }) {
    offer(operations);
    find("operation").value = name;
    show("code-about", about);
    show("code-view", codeBlock({ text, label: `${name}, ${stage().parentElement.textContent}` }));
  }

  function choose(name) {
    operation = name;
    draw();
    ask();
  }

  // A list that is open stays so where nothing changes.
  function offer(names) {
    if (names.join() === Array.from(find("operation").options, ({ value }) => value).join()) return;
    show("operation", ...names.map((name) => element("option", {}, name)));
  }

  function draw() {
    const isInside = find("model-view").contains(document.activeElement);
    show("model-view", modelPicture(run, operation, choose));
    if (isInside) find("model-view").querySelector("[aria-pressed=true]").focus();
  }

  find("operation").addEventListener("change", ({ target }) => choose(target.value));
  find("stages").addEventListener("change", ask);

  return {
    take(made) {
      if (run?.model !== made.model) {
        const names = parts(made).map((part) => part.operation);
        operation = names.includes("attention") ? "attention" : names[0];
      }
      run = made;
      outdate("code-view");
      draw();
      refresh();
    },
  };
}
