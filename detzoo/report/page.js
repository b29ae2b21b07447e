// A detector and its seeds are one body of the table, so that sorting keeps them together.
for (const table of document.querySelectorAll("table.sortable")) {
  const buttons = table.querySelectorAll("thead button");
  for (const button of buttons) button.addEventListener("click", () => {
    const th = button.closest("th"), column = th.cellIndex, old = th.getAttribute("aria-sort");
    const first = th.dataset.first, up = old ? old !== "ascending" : first === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (body) => body.rows[0].cells[column].dataset.value;
    const bodies = [...table.tBodies].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = th.dataset.text ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    });
    table.append(...bodies);
  });
}
// What a link of the contents leads to is shown, also where it is folded away.
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
};
addEventListener("hashchange", unfold);
unfold();
const zoom = document.querySelector("dialog");
const tiles = document.querySelectorAll("button.zoom");
for (const button of tiles) button.addEventListener("click", () => {
  zoom.querySelector("img").src = button.querySelector("img").src;
  zoom.querySelector("p").textContent = button.dataset.caption;
  zoom.showModal();
});
if (zoom) zoom.addEventListener("click", () => zoom.close());
