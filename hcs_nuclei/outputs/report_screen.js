// A table's rows in the order of the column whose head is clicked; a second click turns it round. Cells may hold what
// they are ordered by (data-value): what has none stays last either way.

const valueOf = (row, place) => {
  const cell = row.cells[place];
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "" || text === "–" ? null : Number.isFinite(Number(text)) ? Number(text) : text.toLowerCase();
};

document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, place), row]);
      rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : way * (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
});
document.documentElement.classList.add("js");
