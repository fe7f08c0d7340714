// On narrow screens the cells of a row stand below each other: each then says what column it is of.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".bd-content table")) {
    const names = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    const labels = names.map((name) => (name && !name.endsWith("?") ? `${name}:` : name));
    for (const row of table.querySelectorAll("tbody tr"))
      [...row.cells].forEach((cell, i) => labels[i] && (cell.dataset.column = labels[i]));
  }
});
