// Blocks of code that the reader can change and run: what they print comes in place of what the page shows. Python runs
// in a worker, which the first run loads; a page from the disk has none, and stays as it is. Not here: what a block does
// (blocks.py). Figures (live.js) share the worker.

const workerAddress = new URL("blocks-worker.js", document.currentScript.src);
const blocks = [];
const controls = []; // buttons: while one's job runs, the others wait
let afterRun = async () => {}; // what the figures do then
let worker = null;
let halt = null; // ends the job that runs

/** What a method of blocks.py returns; `say` takes how far it is, `show` each command and what it printed. */
function ask(method, given, doing, say, show) {
  return new Promise((resolve, reject) => {
    worker ??= new Worker(workerAddress, { type: "module" });
    halt = (reason) => {
      worker.terminate();
      worker = null;
      for (const block of blocks) block.ran = null;
      reject(new Error(reason));
    };
    worker.onerror = () => halt("Python does not load");
    worker.onmessage = ({ data: { progress, problem, shown, result } }) => {
      if (progress) say(progress);
      else if (problem) halt(problem);
      else if (shown) show(...shown);
      else resolve(result);
    };
    worker.postMessage({ method, given, doing });
  });
}

/** Let a button do a job, and stop it; the note says how far that is, then what has come of it. */
function starter(button, note, job) {
  controls.push(button);
  button.addEventListener("click", async () => {
    if (halt) return halt("stopped");
    const label = button.textContent;
    const start = performance.now();
    const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`;
    const said = make("span", { role: "status" });
    const clock = make("span", { ariaHidden: "true" }); // it would be read aloud again and again
    const timer = setInterval(() => clock.replaceChildren(` · ${seconds()}`), 100);
    note.replaceChildren(said, clock);
    for (const each of controls) each.disabled = each !== button;
    button.textContent = "Stop";
    try {
      await job((text) => said.replaceChildren(text));
      said.replaceChildren(`done in ${seconds()}`);
    } catch ({ message }) {
      said.replaceChildren(message);
    }
    clearInterval(timer);
    clock.remove();
    for (const each of controls) each.disabled = false;
    button.textContent = label;
    halt = null;
  });
}

class Block {
  ran = null; // the text that it ran with, unless a block above has run since

  constructor(code) {
    this.code = code;
    this.page = code.innerHTML;
    const looks = this.page.split("\n");
    this.looks = new Map(code.textContent.split("\n").map((line, number) => [line, looks[number]]));
    this.text = this.original = commands(code.textContent).trimEnd();
    this.isPython = code.textContent.startsWith(">");
    this.number = blocks.push(this) - 1;
    const name = `block ${blocks.length}`;
    this.run = make("button", { textContent: "Run" });
    this.edit = make("button", { textContent: "Edit", onclick: () => this.open() });
    this.reset = make("button", { textContent: "Reset", hidden: true, onclick: () => this.restore() });
    this.mark = make("span", { textContent: "changed", className: "mark", hidden: true });
    this.editor = make("textarea", { hidden: true, ariaLabel: `Code of ${name}`, spellcheck: false, autocapitalize: "off" });
    this.editor.oninput = () => this.change(this.editor.value);
    this.editor.onkeydown = (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault(); // in Firefox the key would press the button too that has the focus now, and stop the run
      this.run.focus();
      this.run.click();
    };
    this.note = make("span", { className: "note" });
    const bar = make("div", { className: "run", role: "group", ariaLabel: name });
    bar.append(this.run, this.edit, this.reset, this.mark, this.note);
    code.parentElement.after(this.editor, bar);
    controls.push(this.edit, this.reset);
    starter(this.run, this.note, async (say) => {
      await this.start(say);
      await afterRun(say);
    });
  }

  /** Run the blocks above it that have not run as they are, and it. */
  async start(say) {
    for (const block of blocks.slice(0, this.number)) {
      if (block.ran !== block.text) await block.execute("Running the blocks above …", say);
    }
    await this.execute("Running …", say);
  }

  async execute(doing, say) {
    const { text, number } = this;
    const lines = [];
    const add = (shown, isCommand) => lines.push(...shown.split("\n").map((line) => this.line(line, isCommand)));
    await ask("run", [number, text, this.isPython], doing, say, (command, printed) => {
      add(command, true);
      if (printed) add(printed.replace(/\n$/, ""), false);
    });
    for (const block of blocks.slice(number)) block.ran = null;
    this.ran = text;
    this.code.replaceChildren(...lines);
    this.reset.hidden = false;
    if (this.text === text) this.close();
  }

  /** A line as it looks on the page, if it is there. */
  line(text, isCommand) {
    const line = make("span", { innerHTML: this.looks.get(text) ?? "" });
    if (!this.looks.has(text)) {
      const prompt = isCommand ? text.match(/^(\$|>>>|\.{3})? ?/)[0] : text;
      line.append(make("span", { className: isCommand ? "gp" : "go", textContent: prompt }), text.slice(prompt.length));
    }
    line.append("\n");
    return line;
  }

  change(text) {
    this.text = text;
    this.mark.hidden = text === this.original;
    this.code.closest(".highlight").classList.toggle("changed", !this.mark.hidden);
  }

  open() {
    this.code.parentElement.hidden = this.edit.hidden = true;
    this.editor.hidden = this.reset.hidden = false;
    this.editor.value = this.text;
    this.editor.focus();
    this.note.replaceChildren("Ctrl+Enter runs");
  }

  close() {
    this.code.parentElement.hidden = this.edit.hidden = false;
    this.editor.hidden = true;
  }

  restore() {
    this.change(this.original);
    this.code.innerHTML = this.page;
    this.close();
    this.edit.focus();
    this.reset.hidden = true;
    this.note.replaceChildren();
  }
}

function make(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

if (location.protocol !== "file:") {
  for (const code of document.querySelectorAll(".highlight code")) {
    if (/^(\$|>>>) /.test(code.textContent)) new Block(code);
  }
  document.querySelector(".needs").remove();
}
