// Tiles: the small copy of an image, cut from a sheet that is decoded when it is first needed.
const slots = unpack(data.tiles.slots);
const sizes = unpack(data.tiles.sizes);
const SIDE = data.tiles.side, COLUMNS = data.tiles.columns;
const KEPT = 64; // decoded sheets, about a megabyte each
const sheets = new Map();

const sheet = (number) => {
  const found = sheets.get(number);
  sheets.delete(number);
  const decoded = found ?? createImageBitmap(
    new Blob([bytesOf(document.getElementById(`sheet-${number}`).textContent)], { type: data.tiles.kinds[number] }));
  sheets.set(number, decoded); // the last one used is the last to go
  if (sheets.size > KEPT) {
    const [oldest, bitmap] = sheets.entries().next().value;
    sheets.delete(oldest);
    bitmap.then((gone) => gone.close());
  }
  return decoded;
};

const hasTile = (i) => i < COUNT && slots[i] > 0;

// An element with the small copy of an image; `drawn` is told when it is there.
const tile = (i) => {
  if (!hasTile(i)) return make("span", "none", i < COUNT ? "no small copy" : "on the map before");
  const slot = slots[i] - 1, each = COLUMNS * COLUMNS;
  const [width, height] = [sizes[2 * i], sizes[2 * i + 1]];
  const made = make("canvas", SIDE <= 40 ? "tile pixels" : "tile");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", data.paths[i]);
  made.width = made.height = Math.max(width, height);
  const left = ((slot % each) % COLUMNS) * SIDE, top = Math.floor((slot % each) / COLUMNS) * SIDE;
  sheet(Math.floor(slot / each)).then((bitmap) => {
    const [x, y] = [(made.width - width) >> 1, (made.height - height) >> 1];
    made.getContext("2d").drawImage(bitmap, left, top, width, height, x, y, width, height);
    made.dataset.drawn = "yes";
  });
  return made;
};
