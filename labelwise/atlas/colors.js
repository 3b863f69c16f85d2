// Colors: those of the page, and those of the parts that points are divided into.
const dark = matchMedia("(prefers-color-scheme: dark)");
const cssColor = (name) => {
  const [r, g, b] = getComputedStyle(document.documentElement).getPropertyValue(name).match(/[0-9a-f]{1,2}/gi).map((h) => parseInt(h.length === 1 ? h + h : h, 16));
  return [r, g, b];
};
const packRgb = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // as in ImageData
const hex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const blend = (a, b, share) => a.map((value, k) => Math.round(value + (b[k] - value) * share));

// Up to ten classes: Petroff (2021), arXiv:2107.02270, told apart by color-blind people as well; grays last.
const TEN = ["#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#92dadd", "#e76300", "#a96b59", "#b9ac70", "#94a4a2", "#717581"].map(hex);
const SETS = {
  splits: ["#3f90da", "#ffa90e", "#bd1f01"].map(hex),
  confidence: ["#a8321a", "#e76300", "#ffa90e", "#8fbfe0", "#3f7fbf"].map(hex), // from unsure to sure
  outcome: ["#3f90da", "#e0440a"].map(hex),
};

// More classes: hues a golden angle apart, in three lightnesses of OKLCH (Ottosson 2020).
const hue = (number) => {
  const l = [0.64, 0.76, 0.53][number % 3];
  const angle = ((number * 137.508 + 250) * Math.PI) / 180;
  const [a, b] = [0.14 * Math.cos(angle), 0.14 * Math.sin(angle)];
  const [p, q, s] = [l + 0.3963377774 * a + 0.2158037573 * b, l - 0.1055613458 * a - 0.0638541728 * b, l - 0.0894841775 * a - 1.291485548 * b].map((v) => v ** 3);
  return [4.0767416621 * p - 3.3077115913 * q + 0.2309699292 * s, -1.2684380046 * p + 2.6097574011 * q - 0.3413193965 * s, -0.0041960863 * p - 0.7034186147 * q + 1.707614701 * s].map((v) => {
    const linear = Math.min(1, Math.max(0, v));
    return Math.round(255 * (linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055));
  });
};
const colorOf = (facet, part) => {
  // Gray is nothing known; but new images must stand out from those that were there before.
  if (part === facet.rest) return TOTAL > COUNT ? cssColor("--accent") : blend(cssColor("--soft"), cssColor("--page"), 0.45);
  const own = facet.colors !== "classes" ? SETS[facet.colors][part] : facet.names.length - 1 <= TEN.length ? TEN[part] : hue(part);
  return dark.matches ? blend(own, [255, 255, 255], 0.16) : own;
};
