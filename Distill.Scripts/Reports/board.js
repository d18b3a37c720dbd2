// The list of runs: a filter, and an overlay of the runs that are ticked. `board` holds the runs in the order of the rows.
{
  const rows = [...document.querySelectorAll("#runs tbody tr")];
  const overlay = document.getElementById("overlay");
  const colours = 8;

  const boxes = rows.map((row, i) => {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.disabled = board.runs[i].x.length === 0;
    box.title = box.disabled ? "This run has no evaluations yet." : "Overlay the evaluations of this run";
    box.setAttribute("aria-label", box.title);
    row.cells[0].prepend(box);
    return box;
  });

  function compare() {
    const ticked = board.runs.filter((_, i) => boxes[i].checked);
    document.getElementById("advice").hidden = ticked.length > 0;
    overlay.hidden = ticked.length === 0;
    if (ticked.length === 0) return;
    const [series] = board.figure.data;
    const data = ticked.map((run, i) => ({
      ...series,
      ...run,
      line: { ...series.line, color: "@" + (i % colours), dash: ["solid", "dash", "dot"][Math.floor(i / colours) % 3] },
    }));
    const figure = { ...board.figure, data, layout: { ...board.figure.layout, showlegend: true } };
    distill.chart(overlay, figure);
  }

  const filter = document.getElementById("filter");
  function apply() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("matching").textContent = words.length ? `${shown} of ${rows.length}` : "";
  }

  filter.addEventListener("input", apply);
  for (const box of boxes) box.addEventListener("change", compare);
  apply();
  compare();
}
