"use strict";
// Widens the function that is clicked: what it called is drawn to the new scale, what called it fills the width, the rest is hidden.
const margin = 10, letter = 7.2, full = 1180;
const frames = [...document.querySelectorAll("g.f")].map(g => {
  const rect = g.querySelector("rect"), text = g.querySelector("text");
  const number = name => Number(rect.getAttribute(name));
  const name = g.querySelector("title").textContent.replace(/: \d+ samples?, [\d.]+ %$/, "");
  return { g, rect, text, name, x: number("x"), y: number("y"), width: number("width") };
});
function widen(to) {
  const scale = full / to.width, end = to.x + to.width;
  for (const f of frames) {
    const isAround = f.y > to.y && f.x <= to.x + 0.01 && f.x + f.width >= end - 0.01;
    const isInside = f.y <= to.y && f.x >= to.x - 0.01 && f.x + f.width <= end + 0.01;
    f.g.style.display = isAround || isInside ? "" : "none";
    f.g.classList.toggle("around", isAround);
    const x = isAround ? margin : margin + (f.x - to.x) * scale;
    const width = isAround ? full : f.width * scale;
    f.rect.setAttribute("x", x);
    f.rect.setAttribute("width", width);
    f.text.setAttribute("x", x + 3);
    const room = Math.max(0, Math.floor((width - 6) / letter));
    const letters = [...f.name];
    f.text.textContent =
      letters.length <= room ? f.name : room < 3 ? "" : letters.slice(0, room - 1).join("") + "…";
  }
}
for (const f of frames) f.g.addEventListener("click", () => widen(f));
