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
// An image opens with everything that is known of it, also what the page itself leaves out.
const zoom = document.querySelector("dialog");
for (const button of document.querySelectorAll("button.zoom")) button.addEventListener("click", () => {
  const strip = button.closest(".strip"), place = [...strip.children].indexOf(button.closest("figure"));
  const copies = [...strip.children].map((figure) => figure.cloneNode(true));
  for (const copy of copies) {
    copy.hidden = false;
    for (const image of copy.querySelectorAll("image")) image.removeAttribute("id");
  }
  zoom.querySelector("p").textContent = strip.dataset.name;
  zoom.querySelector(".strip").replaceChildren(...copies);
  zoom.showModal();
  copies[place].scrollIntoView({block: "nearest"});
});
if (zoom) zoom.addEventListener("click", () => zoom.close());
