// A table that is sorted and filtered, and drawn a hundred rows at a time.

function table(part) {
  const rows = (part.columns[0].numbers || part.columns[0].texts).length, step = 100;
  const numeric = part.columns.map(c => !!c.numbers);
  const values = part.columns.map(c => c.numbers ? c.numbers.map(val) : null);
  const collator = new Intl.Collator("en", { numeric: true });
  let order = [...Array(rows).keys()], shown = step, sorted = -1, down = false, wanted = [];
  const text = (c, i) => part.columns[c].texts ? part.columns[c].texts[i] : num(values[c][i]);
  const search = part.plain ? null : part.columns.map((c, k) => c.texts && !numeric[k] ? k : -1).filter(k => k >= 0);
  const lower = [];
  const haystack = i => lower[i] ??= search.map(k => part.columns[k].texts[i]).join("\n").toLowerCase();

  const body = h("tbody", {});
  const more = h("div", { class: "more" });
  const count = h("span", { role: "status" });
  const heads = part.columns.map((c, k) => h("th", { scope: "col", class: numeric[k] ? "num" : null, title: c.note },
    part.plain ? c.name : h("button", { type: "button", onclick: () => sort(k) }, c.name)));
  const tools = [];
  if (!part.plain && rows > 8) {
    const input = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter " + part.title, spellcheck: "false", oninput: () => {
      wanted = input.value.toLowerCase().split(/\s+/).filter(w => w);
      shown = step;
      arrange();
    } });
    tools.push(input, count);
  }
  const box = h("section", { class: "part-table" }, head(part, ...tools),
    h("div", { class: "card" }, h("div", { class: "tablebox" + (part.stacked ? " stacked" : part.columns.length > 3 ? " wide" : ""), tabindex: 0, role: "region", "aria-label": part.title },
      h("table", {}, h("thead", {}, h("tr", {}, ...heads)), body)), more));

  function sort(k) {
    // Numbers begin with the largest, texts with the first.
    if (sorted === k) down = !down; else { sorted = k; down = numeric[k]; }
    heads.forEach((e, i) => { if (i === k) e.setAttribute("aria-sort", down ? "descending" : "ascending"); else e.removeAttribute("aria-sort"); });
    arrange();
  }
  function arrange() {
    order = [];
    for (let i = 0; i < rows; i++) if (!wanted.length || wanted.every(w => haystack(i).includes(w))) order.push(i);
    if (sorted >= 0) {
      const v = values[sorted], t = part.columns[sorted].texts, sign = down ? -1 : 1;
      order.sort((a, b) => {
        if (!v) return sign * collator.compare(t[a], t[b]) || a - b;
        const x = v[a], y = v[b];
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || a - b; // none comes last
        return (x < y ? -sign : x > y ? sign : 0) || a - b;
      });
    }
    draw();
  }
  function row(i) {
    const item = part.items ? part.items[i] : -1;
    const e = h("tr", {}, ...part.columns.map((c, k) => {
      let inner = numeric[k] ? text(k, i) : name(k ? text(k, i) : seen(text(k, i)), c.code);
      if (k === 0 && item >= 0) inner = h("button", { class: "pick", type: "button", onclick: () => choose(item, true) }, inner);
      return h(k === 0 ? "th" : "td", { scope: k === 0 ? "row" : null, class: numeric[k] ? "num" : null }, inner);
    }));
    if (item >= 0) { e.dataset.item = item; if (item === chosen) e.classList.add("chosen"); }
    return e;
  }
  function draw() {
    body.replaceChildren(...order.slice(0, shown).map(row));
    if (!order.length) body.append(h("tr", {}, h("td", { colspan: part.columns.length }, h("p", { class: "empty" }, "Nothing matches."))));
    count.textContent = order.length === rows ? num(rows) : num(order.length) + " of " + num(rows);
    more.hidden = order.length <= shown;
    const left = order.length - shown;
    if (left > 0) {
      more.replaceChildren(h("button", { class: "button", type: "button", onclick: () => { shown += step; draw(); } }, "Show " + Math.min(step, left) + " more"),
        h("span", {}, num(shown) + " of " + num(order.length)));
      more.style.display = "";
    } else more.style.display = "none";
  }
  watchers.push(i => {
    for (const e of body.querySelectorAll("tr.chosen")) e.classList.remove("chosen");
    const e = i >= 0 && body.querySelector(`tr[data-item="${i}"]`);
    if (e) e.classList.add("chosen");
  });
  return { box, show: part.by ? () => sort(part.by) : draw };
}
