// Sphinx marks references with a role that ARIA has dropped; screen readers expect items of a list.
document.addEventListener("DOMContentLoaded", () => {
  for (const entry of document.querySelectorAll(".citation-list > .citation")) {
    entry.setAttribute("role", "listitem");
  }
  // What scrolls in its own box on a narrow screen is reached with the keyboard, too.
  for (const box of document.querySelectorAll(".cell_output")) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "Output that scrolls");
    }
  }
});
