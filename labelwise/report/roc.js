// ROC and precision-recall: the curve in focus.
(() => {
  const chooser = document.getElementById("curve-choice");
  const focus = () => {
    for (const curve of document.querySelectorAll("g.curve")) {
      const chosen = curve.dataset.curve === chooser.value;
      curve.classList.toggle("focus", chosen);
      if (chosen) curve.parentNode.append(curve); // above the others
    }
  };
  if (!chooser) return;
  chooser.addEventListener("change", focus);
  focus(); // a browser may keep the choice over a reload
})();
