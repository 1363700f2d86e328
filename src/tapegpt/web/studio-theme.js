// Light or dark: as the system says, or as was chosen here. No module, so that it is known before the page is painted.

(() => {
  const names = ["auto", "light", "dark"];
  const apply = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
  };
  const read = () => {
    try {
      return names.includes(localStorage.theme) ? localStorage.theme : "auto";
    } catch {
      return "auto";
    }
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = (name) => {
      button.textContent = { auto: "◐", light: "○", dark: "●" }[name];
      button.title = `Theme: ${name}`;
      button.setAttribute("aria-label", button.title);
    };
    let name = read();
    label(name);
    button.addEventListener("click", () => {
      name = names[(names.indexOf(name) + 1) % names.length];
      apply(name);
      label(name);
      try {
        localStorage.theme = name;
      } catch {
        // it stays for as long as the page
      }
    });
  });
})();
