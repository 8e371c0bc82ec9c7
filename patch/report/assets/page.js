// The page: its parts in order, then the first item.

const data = JSON.parse(document.getElementById("data").textContent);
const makers = { heatmap, table, details };
const made = data.parts.map(p => makers[p.kind](p.part));
document.getElementById("parts").append(...made.map(p => p.box));
width = window.innerWidth;
if (data.items.length) choose(data.first, false);
for (const p of made) p.show();
