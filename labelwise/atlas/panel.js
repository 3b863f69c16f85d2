// The panels beside the map: legend, open image, found and selected images, notes.
const place = (id) => document.getElementById(id);
const heading = (text, close) => {
  const head = make("div", "head");
  head.append(make("h2", "", text));
  if (close) head.append(button("Close", close));
  return head;
};
const many = (count, one, several) => `${count.toLocaleString("en")} ${count === 1 ? one : several}`;

const showLegend = () => {
  const { facet } = view;
  const list = make("div", "parts");
  facet.names.forEach((name, part) => {
    if (!facet.counts[part]) return;
    const made = button("", () => {
      facet.hidden.has(part) ? facet.hidden.delete(part) : facet.hidden.add(part);
      made.setAttribute("aria-pressed", String(!facet.hidden.has(part)));
      paint();
    });
    const swatch = make("i");
    swatch.style.background = `rgb(${colorOf(facet, part)})`;
    const word = make("span", part === facet.rest ? "dim" : "");
    word.append(make("bdi", "", name));
    made.append(swatch, word, make("small", "", facet.counts[part].toLocaleString("en")));
    made.setAttribute("aria-pressed", String(!facet.hidden.has(part)));
    made.title = `${name}: click to hide or show`;
    list.append(made);
  });
  const all = make("div", "row");
  const hide = (none) => () => {
    facet.hidden = new Set(none ? facet.names.keys() : []);
    showLegend();
    paint();
  };
  all.append(button("Show all", hide(false)), button("Hide all", hide(true)));
  place("legend").replaceChildren(heading(facet.title), list);
  if (list.children.length > 2) place("legend").append(all);
  if (TOTAL > COUNT) place("legend").append(make("p", "dim", `Gray: ${many(TOTAL - COUNT, "image", "images")} of the map before`));
};

const facts = (i) => {
  const wrong = i < COUNT && facetOf.outcome && nameOf(facetOf.outcome, i) === "wrong";
  const found = [["Label", labelOf(i)]];
  if (i < COUNT && facetOf.predicted) found.push(["Prediction", nameOf(facetOf.predicted, i), wrong ? "bad" : ""], ["Confidence", percentOf(i)]);
  if (i < COUNT && facetOf.split) found.push(["Split", nameOf(facetOf.split, i)]);
  return found;
};

const close = () => {
  view.open = -1;
  place("panel").hidden = true;
  redraw();
};
const open = (i) => {
  view.open = i;
  const list = make("dl");
  const known = [...facts(i), ["File", data.paths[i]]];
  if (i < COUNT) known.push(["Id", String(ids[i])]);
  for (const [word, text, className] of known) {
    const line = make("div"), value = make("dd", className);
    value.append(make("bdi", "", text));
    line.append(make("dt", "", word), value);
    list.append(line);
  }
  place("panel").replaceChildren(heading(fileOf(data.paths[i]), () => (close(), canvas.focus())), tile(i), list);
  const near = nearTo(i);
  if (near.length) {
    const shots = make("div", "near");
    for (const j of near) {
      const made = button("", () => (open(j), place("panel").focus())); // its own button is gone
      made.title = [data.paths[j], ...facts(j).map(([word, text]) => `${word}: ${text}`)].join("\n");
      made.setAttribute("aria-label", `Open ${data.paths[j]}`);
      made.style.borderColor = `rgb(${colorOf(view.facet, view.facet.parts[j])})`;
      made.append(tile(j), make("span", "word", labelOf(j)));
      shots.append(made);
    }
    place("panel").append(make("h3", "", TOTAL > COUNT ? "Most similar of the new images" : "Most similar images"), shots);
  }
  place("panel").hidden = false;
  place("panel").scrollIntoView({ block: "nearest" });
  redraw();
};
// Moves the map only if the point is out of sight.
const openAndShow = (i) => {
  const [x, y] = toScreen(i);
  if (x < 0 || y < 0 || x > canvas.width || y > canvas.height) [view.cx, view.cy] = [view.x[i], view.y[i]];
  open(i);
};

const tip = place("tip");
const hover = (i, x, y) => {
  canvas.classList.toggle("over", i >= 0);
  if (i !== view.over) {
    view.over = i;
    redraw();
    if (i >= 0) {
      const lines = [...(hasTile(i) ? [tile(i)] : []), make("strong", "", fileOf(data.paths[i]))];
      for (const [word, text, className] of facts(i)) {
        const line = make("span", "dim", `${word} `);
        line.append(make("bdi", className, text));
        lines.push(line);
      }
      tip.replaceChildren(...lines);
    }
  }
  tip.hidden = i < 0;
  if (i < 0) return;
  const stage = canvas.getBoundingClientRect();
  const left = x + 16 + tip.offsetWidth > stage.width ? x - 16 - tip.offsetWidth : x + 16;
  const top = Math.min(y + 12, stage.height - tip.offsetHeight - 4);
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
};

const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
const asCsv = (chosen) => [
  "id,path,label,predicted",
  ...chosen.map((i) => [ids[i], quoted(data.paths[i]),
    ...["label", "predicted"].map((key) => {
      const facet = facetOf[key];
      return facet && facet.parts[i] !== facet.rest ? quoted(nameOf(facet, i)) : "";
    })].join(",")),
].join("\r\n") + "\r\n";
const select = (chosen) => {
  view.selected = chosen && chosen.length ? new Set(chosen) : null;
  const panel = place("selection");
  panel.hidden = !view.selected;
  paint();
  if (!view.selected) return;
  const area = make("textarea");
  area.readOnly = true;
  area.setAttribute("aria-label", "Ids of the selected images");
  area.value = chosen.map((i) => ids[i]).join("\n");
  const copy = button("Copy ids", async () => {
    area.select();
    try {
      await navigator.clipboard.writeText(area.value);
    } catch {
      document.execCommand("copy"); // where a page from a file may not use the clipboard itself
    }
    copy.textContent = "Copied";
  });
  const save = button("Save as CSV", () => {
    const link = make("a");
    link.download = "selected.csv";
    link.href = URL.createObjectURL(new Blob([asCsv(chosen)], { type: "text/csv" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
  const row = make("div", "row");
  row.append(copy, save);
  panel.replaceChildren(heading(`${many(chosen.length, "image", "images")} selected`, () => select(null)), area, row);
  panel.scrollIntoView({ block: "nearest" });
};

const HITS = 20;
const search = (text) => {
  const words = text.trim().toLowerCase();
  const hits = [];
  let count = 0;
  if (words)
    for (let i = 0; i < COUNT; i++)
      if (String(ids[i]) === words || data.paths[i].toLowerCase().includes(words)) {
        if (hits.length < HITS) String(ids[i]) === words ? hits.unshift(i) : hits.push(i);
        count++;
      }
  const list = make("div", "hits");
  for (const i of hits) {
    const made = button("", () => openAndShow(i));
    made.append(make("bdi", "", data.paths[i]));
    made.title = data.paths[i];
    list.append(made);
  }
  const said = count > HITS ? `${many(count, "image", "images")}, the first ${HITS}` : many(count, "image", "images");
  place("found").replaceChildren(heading(said), list);
  place("found").hidden = !words;
  return hits;
};
