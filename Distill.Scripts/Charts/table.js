// Sorts a table by the column whose heading was clicked; a second click reverses.
if (!window.distillTables) {
  window.distillTables = true;
  document.addEventListener("click", (event) => {
    const heading = event.target.closest?.(".distill-table th");
    if (!heading) return;
    const body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex;
    const numeric = heading.classList.contains("n");
    // Numbers are first looked at from the largest, texts from the first.
    const before = heading.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => (numeric ? Number(row.cells[column].dataset.key) : row.cells[column].textContent);
    const order = (a, b) => {
      if (numeric) return Number.isNaN(a) - Number.isNaN(b) || (down ? b - a : a - b);
      return (down ? -1 : 1) * a.localeCompare(b, undefined, { numeric: true });
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => order(a, b));
    body.append(...rows.map(([, row]) => row));
  });
}
