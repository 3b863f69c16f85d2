(() => {
  const save = document.getElementById("save");
  const state = document.getElementById("state");
  const chosen = new Map(); // id of an image -> "change" or "out"

  const tell = () => {
    const counts = { change: 0, out: 0 };
    for (const what of chosen.values()) counts[what] += 1;
    state.textContent = chosen.size ? `${counts.change} changed, ${counts.out} left out` : "";
    save.disabled = chosen.size === 0;
  };

  document.querySelector(".suspects").addEventListener("change", (event) => {
    const id = event.target.name.slice(1);
    if (event.target.value === "keep") chosen.delete(id);
    else chosen.set(id, event.target.value);
    const row = event.target.closest("li");
    row.classList.toggle("changed", event.target.value === "change");
    row.classList.toggle("out", event.target.value === "out");
    tell();
  });

  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  const manifest = () => {
    const others = Object.keys(data.columns);
    const lines = [[...others, "label"].join(",")];
    data.ids.forEach((id, place) => {
      const what = chosen.get(String(id));
      if (what === "out") return;
      const label = what === "change" ? data.proposed[id] : data.labels[place];
      const cells = others.map((name) => data.columns[name][place] ?? "");
      cells.push(label < 0 ? "" : data.classes[label]);
      lines.push(cells.map(quoted).join(","));
    });
    return `${lines.join("\n")}\n`;
  };

  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([manifest()], { type: "text/csv" }));
    link.download = "corrected.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });

  document.documentElement.dataset.ready = "yes";
})();
