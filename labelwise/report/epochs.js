// Over the epochs: F for any beta, and the counts per class, both from the counts on the page.
(() => {
  const variants = data.epochs;
  if (!variants) return;
  const get = (id) => document.getElementById(id);
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const ratio = (top, bottom) => (bottom > 0 ? top / bottom : NaN);

  // Every metric as numerator and denominator of each class, as labelwise.measure has them.
  const METRICS = {
    precision: (c) => [c.tp, c.tp + c.fp],
    recall: (c) => [c.tp, c.tp + c.fn],
    f: (c, beta) => [(1 + beta * beta) * c.tp, (1 + beta * beta) * c.tp + beta * beta * c.fn + c.fp],
    specificity: (c) => [c.tn, c.tn + c.fp],
    fallOut: (c) => [c.fp, c.tn + c.fp],
  };
  const ofClass = (name, c, beta) => {
    if (name === "precision" && c.tp + c.fp === 0) return 0;
    if (name === "f" && c.tp + c.fn === 0) return NaN;
    return ratio(...METRICS[name](c, beta));
  };
  const averaged = (name, how, classes, beta) => {
    if (how === "micro") {
      const parts = classes.map((c) => METRICS[name](c, beta));
      return ratio(sum(parts.map(([top]) => top)), sum(parts.map(([, bottom]) => bottom)));
    }
    const known = classes.filter((c) => c.tp + c.fn > 0 && !Number.isNaN(ofClass(name, c, beta)));
    const weight = (c) => (how === "macro" ? 1 : c.tp + c.fn);
    return ratio(sum(known.map((c) => weight(c) * ofClass(name, c, beta))), sum(known.map(weight)));
  };

  // The classes of some folds together, at the place of an epoch in each.
  const classesOf = (listed) => {
    const add = (name) => listed[0][0][name][0].map((_, k) => sum(listed.map(([part, at]) => part[name][at][k])));
    const [tp, fp, fn] = ["tp", "fp", "fn"].map(add);
    const total = sum(tp) + sum(fn);
    return tp.map((_, k) => ({ tp: tp[k], fp: fp[k], fn: fn[k], tn: total - tp[k] - fp[k] - fn[k] }));
  };

  const beta = () => {
    const found = Number(get("beta").value);
    return found > 0 && Number.isFinite(found) ? found : null;
  };
  const partsOf = (variant, part) => variant.folds.filter((fold) => fold[part]);

  const redraw = (box, value) => {
    const svg = box.querySelector("svg");
    const scale = (text) => {
      const [low, high, start, end] = text.split(" ").map(Number);
      return (at) => start + (high > low ? (at - low) / (high - low) : 0.5) * (end - start);
    };
    const [x, y] = [scale(svg.dataset.x), scale(svg.dataset.y)];
    const draw = (line, points) => {
      const ends = points.length > 1 ? points : [...points, ...points];
      line.setAttribute("d", "M" + ends.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L"));
    };
    svg.querySelector(".title").textContent = `F${value}, %`;
    for (const part of ["train", "validation"]) {
      const folds = partsOf(variants[box.dataset.f], part).map(({ [part]: found }) =>
        found.epoch
          .map((epoch, at) => [epoch, averaged("f", box.dataset.average, classesOf([[found, at]]), value)])
          .filter(([, f]) => !Number.isNaN(f)));
      const at = new Map();
      for (const [epoch, f] of folds.flat()) at.set(epoch, [...(at.get(epoch) ?? []), f]);
      const mean = [...at]
        .filter(([, values]) => 2 * values.length >= folds.length)
        .sort(([a], [b]) => a - b)
        .map(([epoch, values]) => [epoch, sum(values) / values.length]);
      for (const line of svg.querySelectorAll(`[data-line="${part}"]`))
        draw(line, line.dataset.fold === undefined ? mean : folds[line.dataset.fold]);
    }
  };

  const percent = (value) => {
    if (Number.isNaN(value)) return "–";
    const shown = (100 * Math.min(value, value < 1 ? 0.999 : 1)).toFixed(1);
    return `${shown === "100.0" ? "100" : shown} %`;
  };
  const line = (name, cells) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    const bdi = document.createElement("bdi");
    head.scope = "row";
    bdi.textContent = name;
    head.append(bdi);
    row.append(head, ...cells.map((text) => {
      const cell = document.createElement("td");
      cell.className = "num";
      cell.textContent = text;
      return cell;
    }));
    return row;
  };

  const epochsOf = (folds, part) => [...new Set(folds.flatMap((fold) => fold[part].epoch))].sort((a, b) => a - b);
  const fill = () => {
    const value = beta() ?? 1;
    const part = get("count-part").value;
    const variant = variants[get("count-variant").value];
    const folds = partsOf(variant, part);
    const note = get("count-note");
    const table = get("counts");
    if (!folds.length) {
      note.textContent = `${variant.name} kept no ${part} counts.`;
      table.tBodies[0].replaceChildren();
      table.tFoot.replaceChildren();
      return;
    }
    const epoch = epochsOf(folds, part)[get("count-epoch").value];
    const there = folds.filter((fold) => fold[part].epoch.includes(epoch));
    const classes = classesOf(there.map((fold) => [fold[part], fold[part].epoch.indexOf(epoch)]));
    note.textContent = `${variant.name}, ${part}, epoch ${epoch}, folds ${there.map((fold) => fold.fold).join(", ")} added up.`;
    get("count-epoch").setAttribute("aria-valuetext", `epoch ${epoch}`);
    for (const head of table.querySelectorAll("[data-f-name]")) head.textContent = `F${value}`;
    table.tBodies[0].replaceChildren(...classes.map((c, k) =>
      line(data.classes[k], [
        ...[c.tp, c.fp, c.fn, c.tn].map((count) => count.toLocaleString("en")),
        ...Object.keys(METRICS).map((name) => percent(ofClass(name, c, value))),
      ])));
    table.tFoot.replaceChildren(...["micro", "macro", "weighted"].map((how) =>
      line(how, ["", "", "", "", ...Object.keys(METRICS).map((name) => percent(averaged(name, how, classes, value)))])));
  };
  const restart = () => {
    const part = get("count-part").value;
    const count = epochsOf(partsOf(variants[get("count-variant").value], part), part).length;
    const slider = get("count-epoch");
    slider.max = Math.max(count - 1, 0);
    slider.value = slider.max;
    fill();
  };

  get("beta").addEventListener("input", () => {
    const value = beta();
    get("beta").setAttribute("aria-invalid", value === null);
    if (value === null) return;
    for (const box of document.querySelectorAll("[data-f]")) redraw(box, value);
    fill();
  });
  for (const id of ["count-variant", "count-part"]) get(id).addEventListener("change", restart);
  get("count-epoch").addEventListener("input", fill);
  get("beta").value = 1; // the page begins with F1, whatever a browser kept over a reload
  restart();
})();
