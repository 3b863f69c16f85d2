// The view: camera and canvas. Points are written as pixels, which needs no graphics card.
const canvas = document.getElementById("map");
const context = canvas.getContext("2d", { alpha: false });
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const view = { layout: null, x: null, y: null, cx: 0.5, cy: 0.5, zoom: 1, facet: facets[0], selected: null, open: -1, over: -1, path: null };
const colors = new Uint32Array(TOTAL);
const shown = new Uint8Array(TOTAL).fill(1);

const paint = () => {
  const page = cssColor("--page");
  const faded = view.selected ? 0.78 : 0;
  const bright = view.facet.names.map((_, part) => colorOf(view.facet, part));
  const full = bright.map(packRgb);
  const pale = bright.map((color) => packRgb(blend(color, page, faded)));
  const old = packRgb(blend(cssColor("--soft"), page, 0.66));
  const { parts, hidden } = view.facet;
  for (let i = 0; i < COUNT; i++) {
    colors[i] = (view.selected && !view.selected.has(i) ? pale : full)[parts[i]];
    shown[i] = hidden.has(parts[i]) ? 0 : 1;
  }
  colors.fill(old, COUNT);
  grid = null;
  redraw();
};

// Size of the canvas in pixels of the screen; around it a margin that points may reach into.
const MARGIN = 16;
let pixels = null, image = null, ratio = 1;
const resize = () => {
  ratio = Math.min(devicePixelRatio || 1, 2);
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  image = new ImageData(canvas.width + 2 * MARGIN, canvas.height + 2 * MARGIN);
  pixels = new Uint32Array(image.data.buffer);
  redraw();
};
const scale = () => 0.92 * Math.min(canvas.width, canvas.height) * view.zoom;
const toScreen = (i) => [(view.x[i] - view.cx) * scale() + canvas.width / 2, (view.y[i] - view.cy) * scale() + canvas.height / 2];
const toMap = (x, y) => [(x - canvas.width / 2) / scale() + view.cx, (y - canvas.height / 2) / scale() + view.cy];
const radius = () => {
  const apart = Math.sqrt((canvas.clientWidth * canvas.clientHeight) / TOTAL);
  const base = Math.min(4.5, Math.max(1.25, 0.4 * apart));
  return Math.min(8, base * view.zoom ** 0.3) * ratio;
};

// The pixels of a round point: where they are, and how much of each it covers, 1 to 256.
const stamp = (r, width) => {
  const reach = Math.ceil(r);
  const places = [];
  const cover = [];
  for (let dy = -reach; dy <= reach; dy++)
    for (let dx = -reach; dx <= reach; dx++) {
      const share = Math.min(1, Math.max(0, r + 0.5 - Math.hypot(dx, dy)));
      if (share > 0.04) places.push(dy * width + dx), cover.push(Math.round(share * 256));
    }
  return [Int32Array.from(places), Int32Array.from(cover)];
};

const drawPoints = () => {
  const width = image.width, height = image.height;
  pixels.fill(packRgb(cssColor("--page")));
  const [places, cover] = stamp(radius(), width);
  const reach = Math.ceil(radius()) + 1;
  const s = scale();
  const left = canvas.width / 2 + MARGIN - view.cx * s + 0.5, top = canvas.height / 2 + MARGIN - view.cy * s + 0.5;
  const { x, y } = view;
  for (let k = 0; k < TOTAL; k++) {
    const i = order[k];
    if (shown[i] === 0) continue;
    const px = Math.floor(x[i] * s + left), py = Math.floor(y[i] * s + top);
    if (px < reach || py < reach || px >= width - reach || py >= height - reach) continue;
    const at = py * width + px, color = colors[i];
    for (let n = 0; n < places.length; n++) {
      const to = at + places[n], share = cover[n];
      if (share === 256) pixels[to] = color;
      else {
        const below = pixels[to], rest = 256 - share;
        pixels[to] = 0xff000000 |
          (((color & 0xff00ff) * share + (below & 0xff00ff) * rest) >>> 8) & 0xff00ff |
          (((color & 0xff00) * share + (below & 0xff00) * rest) >>> 8) & 0xff00;
      }
    }
  }
  context.putImageData(image, -MARGIN, -MARGIN);
};

const ring = (i, size, color, wide) => {
  const [x, y] = toScreen(i);
  context.beginPath();
  context.arc(x, y, size, 0, 2 * Math.PI);
  context.lineWidth = wide * ratio;
  context.strokeStyle = color;
  context.stroke();
};
const drawMarks = () => {
  const ink = `rgb(${cssColor("--ink")})`, r = radius();
  if (view.open >= 0) {
    const near = nearTo(view.open);
    context.globalAlpha = 0.45;
    context.lineWidth = ratio;
    context.strokeStyle = ink;
    for (const j of near) {
      context.beginPath();
      context.moveTo(...toScreen(view.open));
      context.lineTo(...toScreen(j));
      context.stroke();
    }
    context.globalAlpha = 1;
    for (const j of near) ring(j, r + 3 * ratio, ink, 1.3);
    ring(view.open, r + 6 * ratio, ink, 2.5);
  }
  if (view.over >= 0) ring(view.over, r + 3 * ratio, ink, 2);
  if (view.path) {
    context.beginPath();
    for (const [x, y] of view.path) context.lineTo(x, y);
    context.closePath();
    context.fillStyle = context.strokeStyle = `rgb(${cssColor("--accent")})`;
    context.globalAlpha = 0.12;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.5 * ratio;
    context.stroke();
  }
};
const nearTo = (i) => (i < COUNT ? [...neighbors.subarray(i * data.near, (i + 1) * data.near)] : []);

let waiting = false;
const redraw = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame((now) => {
    waiting = false;
    if (!view.x) return;
    move(now);
    drawPoints();
    drawMarks();
  });
};

// From one layout to another: points travel, unless the reader wants no motion.
const TRAVEL = 700; // milliseconds
let travel = null;
const show = (name) => {
  const to = layout(name);
  if (view.x && !calm.matches) {
    travel = { from: { x: Float32Array.from(view.x), y: Float32Array.from(view.y) }, to, begun: null };
    view.x = Float32Array.from(view.x);
    view.y = Float32Array.from(view.y);
  } else {
    [view.x, view.y, travel] = [to.x, to.y, null];
  }
  Object.assign(view, { layout: name, over: -1 });
  grid = null;
  redraw();
};
const move = (now) => {
  if (!travel) return;
  travel.begun ??= now;
  const t = Math.min(1, (now - travel.begun) / TRAVEL);
  const { from, to } = travel;
  if (t === 1) {
    [view.x, view.y, travel] = [to.x, to.y, null];
  } else {
    const share = t * t * (3 - 2 * t);
    for (let i = 0; i < TOTAL; i++) {
      view.x[i] = from.x[i] + (to.x[i] - from.x[i]) * share;
      view.y[i] = from.y[i] + (to.y[i] - from.y[i]) * share;
    }
  }
  grid = null;
  redraw();
};

const FARTHEST = 0.5, NEAREST = 80;
const zoomBy = (factor, x = canvas.width / 2, y = canvas.height / 2) => {
  const [mx, my] = toMap(x, y);
  view.zoom = Math.min(NEAREST, Math.max(FARTHEST, view.zoom * factor));
  view.cx = mx - (x - canvas.width / 2) / scale();
  view.cy = my - (y - canvas.height / 2) / scale();
  redraw();
};
const panBy = (dx, dy) => {
  view.cx = Math.min(1.5, Math.max(-0.5, view.cx - dx / scale()));
  view.cy = Math.min(1.5, Math.max(-0.5, view.cy - dy / scale()));
  redraw();
};
const wholeMap = () => {
  Object.assign(view, { cx: 0.5, cy: 0.5, zoom: 1 });
  redraw();
};

// Which point is at a place: the points of every cell of a grid, one cell after another.
const CELLS = 192;
let grid = null;
const cellOf = (v) => Math.min(CELLS - 1, Math.max(0, Math.floor(v * CELLS)));
const makeGrid = () => {
  const starts = new Uint32Array(CELLS * CELLS + 1);
  const cell = (i) => cellOf(view.y[i]) * CELLS + cellOf(view.x[i]);
  for (let i = 0; i < TOTAL; i++) starts[cell(i) + 1]++;
  for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  const members = new Uint32Array(TOTAL);
  for (const i of order) members[next[cell(i)]++] = i;
  grid = { starts, members };
};
const pointAt = (x, y, within = radius() + 4 * ratio) => {
  if (!view.x || travel) return -1;
  if (!grid) makeGrid();
  const [low, high] = [toMap(x - within, y - within), toMap(x + within, y + within)];
  if (high[0] < 0 || high[1] < 0 || low[0] > 1 || low[1] > 1) return -1;
  let best = -1, least = within * within;
  for (let row = cellOf(low[1]); row <= cellOf(high[1]); row++)
    for (let column = cellOf(low[0]); column <= cellOf(high[0]); column++)
      for (let k = grid.starts[row * CELLS + column]; k < grid.starts[row * CELLS + column + 1]; k++) {
        const i = grid.members[k];
        if (!shown[i]) continue;
        const [px, py] = toScreen(i);
        const far = (px - x) ** 2 + (py - y) ** 2;
        // Of points at one place the one that is drawn last, and a new one before an old one.
        if (far < least || (far === least && (i < COUNT) >= (best < COUNT))) [best, least] = [i, far];
      }
  return best;
};
