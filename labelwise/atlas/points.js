// The points: what the page was given, unpacked.
const data = JSON.parse(document.getElementById("data").textContent);
const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

const bytesOf = (text) => {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
};
const unpack = (packed) => new KINDS[packed.kind](bytesOf(packed.base64).buffer);

const COUNT = data.count; // images; behind them come the points of the map they were placed on
const TOTAL = data.paths.length;
const ids = unpack(data.ids);
const confidence = data.confidence && unpack(data.confidence);
const neighbors = unpack(data.neighbors);
const oldLabels = unpack(data.before.labels);
const facets = data.facets.map((facet) => {
  const parts = unpack(facet.parts);
  const counts = new Array(facet.names.length).fill(0);
  for (const part of parts) counts[part]++;
  return { ...facet, parts, counts, hidden: new Set() };
});
const facetOf = Object.fromEntries(facets.map((facet) => [facet.key, facet]));

// Coordinates from 0 to 1, upwards as in a diagram, of every layout when it is first shown.
const unpacked = {};
const layout = (name) => {
  if (!unpacked[name]) {
    const steps = unpack(data.layouts[name]);
    const x = new Float32Array(TOTAL);
    const y = new Float32Array(TOTAL);
    for (let i = 0; i < TOTAL; i++) {
      x[i] = steps[2 * i] / 65535;
      y[i] = 1 - steps[2 * i + 1] / 65535;
    }
    unpacked[name] = { x, y };
  }
  return unpacked[name];
};

// Points are drawn in a mixed order, or the last class would cover the others; old ones first.
const order = (() => {
  const mixed = new Uint32Array(TOTAL);
  for (let i = 0; i < TOTAL; i++) mixed[i] = i < TOTAL - COUNT ? COUNT + i : i - (TOTAL - COUNT);
  let state = 1;
  for (let i = TOTAL - 1; i > TOTAL - COUNT; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = TOTAL - COUNT + (state % (i - (TOTAL - COUNT) + 1));
    [mixed[i], mixed[j]] = [mixed[j], mixed[i]];
  }
  return mixed;
})();

const nameOf = (facet, i) => facet.names[facet.parts[i]];
const labelOf = (i) => (i < COUNT ? nameOf(facetOf.label, i) : data.before.names[oldLabels[i - COUNT]]);
const percentOf = (i) => (Math.floor((confidence[i] / 65535) * 1000) / 10).toFixed(1) + " %";
const fileOf = (path) => path.slice(path.lastIndexOf("/") + 1) || path;

// Names are data: elements are made here, texts only ever set as text.
const make = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const button = (text, action, className) => {
  const made = make("button", className, text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
};
