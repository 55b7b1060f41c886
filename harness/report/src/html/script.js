"use strict";
// Filters and folds. Without scripts everything is there, and folds work by themselves.
(() => {
  const trials = [...document.querySelectorAll(".trial")];
  const find = document.getElementById("find");
  const shown = document.getElementById("shown");
  const off = (name) => new Set([...document.querySelectorAll(`.chip[data-${name}][aria-pressed="false"]`)].map((chip) => chip.dataset[name]));
  const text = new Map();
  const content = (trial) => {
    if (!text.has(trial)) text.set(trial, (trial.id + " " + trial.textContent).toLowerCase());
    return text.get(trial);
  };
  const apply = () => {
    const [outcomes, combinations] = [off("outcome"), off("combination")];
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const trial of trials) {
      const visible = !outcomes.has(trial.dataset.outcome) && !combinations.has(trial.dataset.combination)
        && words.every((word) => content(trial).includes(word));
      trial.hidden = !visible;
      if (visible) count += 1;
    }
    shown.textContent = `${count} of ${trials.length} trials shown`;
  };
  for (const chip of document.querySelectorAll(".chip[aria-pressed]")) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
      apply();
    });
  }
  find.addEventListener("input", apply);
  const fold = (open) => { for (const trial of trials) if (!trial.hidden) trial.open = open; };
  document.getElementById("unfold").addEventListener("click", () => fold(true));
  document.getElementById("fold").addEventListener("click", () => fold(false));
  const visit = () => {
    const trial = document.getElementById(location.hash.slice(1));
    if (!trial || !trial.matches(".trial")) return;
    trial.hidden = false;
    trial.open = true;
    trial.scrollIntoView();
  };
  addEventListener("hashchange", visit);
  visit();
})();
