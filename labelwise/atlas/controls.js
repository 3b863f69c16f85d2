// Controls: mouse, touch, keyboard, and the buttons above the map.
const TITLES = { pca: "PCA", tsne: "t-SNE", umap: "UMAP" };
const names = Object.keys(TITLES).filter((name) => data.layouts[name]);
const layoutButtons = names.map((name) => {
  const made = button(TITLES[name], () => choose(name));
  place("layouts").append(made);
  return made;
});
const choose = (name) => {
  layoutButtons.forEach((made, n) => made.setAttribute("aria-pressed", String(names[n] === name)));
  hover(-1);
  show(name);
};

for (const facet of facets) place("facet").append(new Option(facet.title, facet.key));
place("facet").value = facets[0].key; // a browser may keep a choice over a reload
place("facet").addEventListener("change", () => {
  view.facet = facetOf[place("facet").value];
  showLegend();
  paint();
  if (view.open >= 0) open(view.open);
});

const setLasso = (on) => {
  place("lasso").setAttribute("aria-pressed", String(on));
  canvas.classList.toggle("lasso", on);
};
place("lasso").addEventListener("click", () => setLasso(place("lasso").getAttribute("aria-pressed") !== "true"));
place("reset").addEventListener("click", wholeMap);
place("search").addEventListener("input", () => search(place("search").value));
place("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") (place("search").value = ""), search("");
  if (event.key !== "Enter") return;
  const [first] = search(place("search").value);
  if (first !== undefined) openAndShow(first);
});

const inside = (polygon, x, y) => {
  let within = false;
  for (let k = 0, before = polygon.length - 1; k < polygon.length; before = k++) {
    const [ax, ay] = polygon[k], [bx, by] = polygon[before];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
  }
  return within;
};
const enclosed = (polygon) => {
  const chosen = [];
  for (let i = 0; i < COUNT; i++) if (shown[i] && inside(polygon, ...toScreen(i))) chosen.push(i);
  return chosen;
};

const at = (event) => {
  const stage = canvas.getBoundingClientRect();
  return [event.clientX - stage.left, event.clientY - stage.top];
};
const CLICK = 4; // pixels that a click may move
const down = new Map(); // pointers that touch the map: where they are
let began = null, moved = false;
canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  down.set(event.pointerId, at(event));
  [began, moved] = [at(event), down.size > 1];
  if (down.size === 1 && (event.shiftKey || canvas.classList.contains("lasso"))) view.path = [began.map((v) => v * ratio)];
  else view.path = null;
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = at(event);
  const before = down.get(event.pointerId);
  if (!before) return hover(pointAt(x * ratio, y * ratio), x, y);
  if (Math.hypot(x - began[0], y - began[1]) > CLICK) moved = true;
  if (!moved) return;
  hover(-1);
  down.set(event.pointerId, [x, y]);
  if (view.path) {
    view.path.push([x * ratio, y * ratio]);
    redraw();
  } else if (down.size === 2) {
    const other = [...down].find(([id]) => id !== event.pointerId)[1];
    const [was, is] = [before, [x, y]].map(([a, b]) => Math.hypot(a - other[0], b - other[1]));
    if (was > 0) zoomBy(is / was, ((x + other[0]) / 2) * ratio, ((y + other[1]) / 2) * ratio);
  } else {
    canvas.classList.add("dragged");
    panBy((x - before[0]) * ratio, (y - before[1]) * ratio);
  }
});
const up = (event) => {
  if (!down.delete(event.pointerId)) return;
  canvas.classList.remove("dragged");
  const path = view.path;
  view.path = null;
  if (event.type === "pointercancel") return redraw();
  if (path && moved) {
    select(enclosed(path));
    setLasso(false);
  } else if (!moved) {
    const [x, y] = at(event);
    const i = pointAt(x * ratio, y * ratio);
    i >= 0 ? open(i) : close();
  }
};
canvas.addEventListener("pointerup", up);
canvas.addEventListener("pointercancel", up);
canvas.addEventListener("pointerleave", () => hover(-1));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const [x, y] = at(event);
  const lines = event.deltaMode === 1 ? 16 : 1; // some mice count in lines
  hover(-1);
  zoomBy(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) * 0.0025), x * ratio, y * ratio);
}, { passive: false });

const KEYS = {
  ArrowLeft: () => panBy(60 * ratio, 0),
  ArrowRight: () => panBy(-60 * ratio, 0),
  ArrowUp: () => panBy(0, 60 * ratio),
  ArrowDown: () => panBy(0, -60 * ratio),
  "+": () => zoomBy(1.3),
  "=": () => zoomBy(1.3),
  "-": () => zoomBy(1 / 1.3),
  0: wholeMap,
  Enter: () => {
    const i = pointAt(canvas.width / 2, canvas.height / 2, 60 * ratio);
    if (i >= 0) open(i);
  },
};
canvas.addEventListener("keydown", (event) => {
  const act = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.target === place("search")) return;
  if (view.path) view.path = null;
  else if (view.open >= 0) close();
  else if (view.selected) select(null);
  setLasso(false);
  redraw();
});

place("notes").querySelector("ul").append(...data.notes.map((note) => make("li", "", note)));
dark.addEventListener("change", () => {
  showLegend();
  paint();
});
new ResizeObserver(resize).observe(canvas);
resize();
showLegend();
paint();
choose(names.includes("umap") ? "umap" : names.at(-1));
document.documentElement.dataset.ready = "yes";
