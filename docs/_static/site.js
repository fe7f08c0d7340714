// On narrow screens the cells of a row stand below each other: each then says what column it is of.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".bd-content table")) {
    const names = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr"))
      [...row.cells].forEach((cell, i) => names[i] && (cell.dataset.column = names[i] + (/\?$/.test(names[i]) ? "" : ":")));
  }
});
