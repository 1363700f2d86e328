// Copy buttons give what can be pasted: of a block with prompts its commands, without prompts and output. They are no
// landmarks, of which a page would have dozens.

/** The commands of a block, after `$ `, `>>> ` and `... ` and on lines that a backslash continues; else all of it. */
function commands(text) {
  const found = [];
  let continued = false;
  for (const line of text.split("\n")) {
    const [, prompt, command] = line.match(/^(\$|>>>|\.\.\.)(?: (.*))?$/) ?? [];
    const isCommand = prompt && !(prompt === "..." && !found.length);
    if (continued || isCommand) found.push(continued ? line : command ?? "");
    continued = (continued || prompt === "$") && line.endsWith("\\");
  }
  return found.length ? `${found.join("\n").trimEnd()}\n` : text;
}

document.addEventListener(
  "click",
  ({ target }) => {
    const button = target.closest?.("[data-clipboard-target]");
    const code = button && document.querySelector(button.dataset.clipboardTarget);
    if (code) button.dataset.clipboardText = commands(code.textContent);
  },
  true, // before the theme reads the button
);

addEventListener("load", () => document.querySelectorAll(".md-code__nav").forEach((nav) => (nav.role = "presentation")));
