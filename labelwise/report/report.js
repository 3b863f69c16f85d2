(() => {
  const panel = document.getElementById("panel");

  // Names are data: elements are made here, texts only ever set as text.
  const make = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const fill = (image, id) => {
    const source = data.images[id];
    if (!source) {
      image.replaceWith(make("span", "gone", "no small copy"));
      return;
    }
    if (source.startsWith("data:image/png")) image.classList.add("pixels");
    image.src = source;
  };

  for (const image of document.querySelectorAll("img[data-id]")) fill(image, image.dataset.id);

  // The images behind a cell of the confusion matrix.
  const shot = (id, given, predicted, probability) => {
    const figure = make("figure", "shot");
    const image = make("img");
    image.alt = image.title = data.paths[id];
    figure.append(image);
    fill(image, id);
    const caption = make("figcaption");
    const line = (word, text, className) => {
      const span = make("span", className, word);
      span.append(make("bdi", "", text));
      caption.append(span);
    };
    line("given ", given);
    line("predicted ", predicted, given === predicted ? "" : "bad");
    line("", (100 * Math.min(probability, probability < 1 ? 0.999 : 1)).toFixed(1) + " %", "dim");
    line("", data.paths[id], "path");
    figure.append(caption);
    return figure;
  };

  const open = (key) => {
    const cell = Object.hasOwn(data.cells, key) ? data.cells[key] : null;
    if (!cell) return false;
    const [given, predicted] = key.split("-").map((label) => data.classes[label]);
    const title = document.getElementById("panel-title");
    title.replaceChildren("given ", make("bdi", "", given), ", predicted ", make("bdi", "", predicted));
    document.getElementById("panel-note").textContent =
      cell.count === cell.images.length
        ? `${cell.count} held-out prediction${cell.count === 1 ? "" : "s"}, most confident first.`
        : `${cell.count} held-out predictions; the ${cell.images.length} most confident images.`;
    document
      .getElementById("panel-shots")
      .replaceChildren(...cell.images.map(([id, p]) => shot(id, given, predicted, p)));
    if (!panel.open) panel.showModal();
    return true;
  };

  const openFromAddress = () => {
    const found = /^#cell-(\d+-\d+)$/.exec(location.hash);
    if (found) open(found[1]);
  };
  window.addEventListener("hashchange", openFromAddress);
  panel.addEventListener("close", () => {
    if (location.hash.startsWith("#cell-")) history.replaceState(null, "", "#confusion");
  });
  panel.addEventListener("click", (event) => {
    if (event.target === panel) panel.close(); // a click beside the panel
  });
  for (const link of document.querySelectorAll('a[href^="#cell-"]')) {
    link.addEventListener("click", (event) => {
      if (open(link.hash.slice("#cell-".length))) event.preventDefault();
    });
  }

  // What a cell says, in both matrices.
  for (const cell of document.querySelectorAll(".matrix td[data-cell], .matrix td[data-at]")) {
    const [row, column] = (cell.dataset.cell ?? cell.dataset.at).split("-").map((label) => data.classes[label]);
    cell.title = `given ${row}, predicted ${column}: ${cell.textContent}`;
    cell.setAttribute("aria-label", cell.title);
  }

  // The matrix is one stop of the Tab key; arrow keys move between its filled cells.
  const matrix = document.querySelector("table.matrix");
  if (matrix) {
    const filled = [...matrix.querySelectorAll("td[data-cell]")];
    const place = (cell) => cell.dataset.cell.split("-").map(Number);
    const focus = (cell) => {
      for (const other of filled) other.tabIndex = -1;
      cell.tabIndex = 0;
      cell.focus();
    };
    if (filled.length) filled[0].tabIndex = 0;
    matrix.addEventListener("click", (event) => {
      const cell = event.target.closest("td[data-cell]");
      if (cell) open(cell.dataset.cell);
    });
    matrix.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td[data-cell]");
      if (!cell) return;
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        open(cell.dataset.cell);
      } else if (step) {
        event.preventDefault();
        const [row, column] = place(cell);
        const ahead = filled
          .map((other) => [other, ...place(other)])
          .filter(([, r, c]) =>
            step[0] ? c === column && (r - row) * step[0] > 0 : r === row && (c - column) * step[1] > 0)
          .sort((a, b) => Math.abs(a[1] - row) + Math.abs(a[2] - column) - Math.abs(b[1] - row) - Math.abs(b[2] - column));
        if (ahead.length) focus(ahead[0][0]);
      }
    });
  }

  // Tables that sort by their headings; what has no number goes last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    const sort = (head) => {
      const column = heads.indexOf(head);
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = column === 0 ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y);
        return down ? -order : order;
      };
      body.append(...[...body.rows].sort(compare));
    };
    for (const head of heads) head.firstElementChild.addEventListener("click", () => sort(head));
  }

  openFromAddress();
  document.documentElement.dataset.ready = "yes";
})();
