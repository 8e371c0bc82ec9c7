// Pictures of the chosen item: lines, bars and small matrices.

function keysOf(chart) {
  return h("div", { class: "keys" }, ...chart.series.map((x, k) => x.values && h("span", {},
    s("svg", { width: 26, height: 10, "aria-hidden": "true" }, s("line", { x1: 1, x2: 25, y1: 5, y2: 5, class: "line s" + k })), h("bdi", {}, x.name))));
}

function figure(kind, title, note, ...children) {
  return h("figure", { class: kind }, h("figcaption", {}, title, note ? h("small", {}, note) : null), ...children);
}

function lineChart(chart) {
  const holder = h("div", {});
  const box = figure("chart", chart.title, "", chart.series.length > 1 ? keysOf(chart) : null, holder);
  const series = chart.series.map(x => (x.values || []).map(val));
  const n = Math.max(1, ...series.map(v => v.length));
  const usable = x => isFinite(x) && (!chart.log || x > 0);
  const all = series.flat().filter(usable);
  function draw() {
    if (!all.length) { holder.replaceChildren(h("p", { class: "empty" }, "All values are zero.")); return; }
    const W = Math.max(220, Math.min(720, box.clientWidth)), H = 250, left = 58, right = 10, top = 8, bottom = 40;
    let low = Math.min(...all), high = Math.max(...all);
    if (!chart.log) low = Math.min(0, low);
    if (low === high) { low = chart.log ? low / 2 : low - 1; high = chart.log ? high * 2 : high + 1; }
    const y = scaleOf(low, high, chart.log), x = scaleOf(1, Math.max(2, n), false);
    const X = i => left + (W - left - right) * (n === 1 ? 0.5 : x.at(i)), Y = v => top + (H - top - bottom) * (1 - y.at(v));
    const svg = s("svg", { width: W, height: H, viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": chart.title });
    for (const m of y.marks) {
      svg.append(s("line", { class: "grid", x1: left, x2: W - right, y1: Y(m), y2: Y(m) }), s("text", { x: left - 8, y: Y(m) + 4, "text-anchor": "end" }, num(m)));
    }
    let last = -1e9;
    for (const m of [1, ...x.marks.filter(m => m > 1 && Number.isInteger(m) && m <= n)]) {
      if (X(m) - last < 26) continue;
      last = X(m);
      svg.append(s("text", { x: X(m), y: H - bottom + 18, "text-anchor": "middle" }, String(m)));
    }
    svg.append(s("line", { class: "grid", x1: left, x2: W - right, y1: H - bottom, y2: H - bottom }),
      s("text", { x: (left + W - right) / 2, y: H - 3, "text-anchor": "middle" }, chart.x || ""));
    series.forEach((v, k) => {
      let path = "", pen = "M";
      v.forEach((z, i) => { if (usable(z)) { path += pen + X(i + 1).toFixed(1) + " " + Y(z).toFixed(1); pen = "L"; } else pen = "M"; });
      svg.append(s("path", { class: "line s" + k, d: path }));
      if (v.length <= 16) v.forEach((z, i) => { if (usable(z)) svg.append(s("circle", { class: "f" + k, cx: X(i + 1), cy: Y(z), r: 3 })); });
    });
    const rule = s("line", { class: "rule", x1: 0, x2: 0, y1: top, y2: H - bottom, visibility: "hidden" });
    svg.append(rule);
    svg.addEventListener("pointermove", e => {
      const r = svg.getBoundingClientRect(), f = ((e.clientX - r.left) * W / r.width - left) / (W - left - right);
      const i = Math.max(1, Math.min(n, n === 1 ? 1 : Math.round(1 + f * (n - 1))));
      rule.setAttribute("x1", X(i)); rule.setAttribute("x2", X(i)); rule.setAttribute("visibility", "visible");
      showTip(e.clientX, e.clientY, (chart.x || "") + " " + i, series.map((v, k) => chart.series[k].name + ": " + num(i <= v.length ? v[i - 1] : NaN)).filter((_, k) => chart.series[k].values));
    });
    svg.addEventListener("pointerleave", () => { rule.setAttribute("visibility", "hidden"); hideTip(); });
    holder.replaceChildren(svg);
  }
  return { box, show: draw };
}

function barChart(chart) {
  const values = chart.series[0].values.map(val), most = Math.max(1e-300, ...values.filter(isFinite));
  const holder = h("div", {});
  const box = figure("chart", chart.title, "", holder);
  function draw() {
    const W = Math.max(220, Math.min(720, box.clientWidth)), line = 24, left = Math.min(150, 14 + 7 * Math.max(...chart.labels.map(l => l.length))), room = W - left - 90;
    const H = line * values.length + 4;
    const svg = s("svg", { width: W, height: H, viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": chart.title });
    values.forEach((v, i) => {
      const long = Math.max(1, room * v / most);
      svg.append(s("text", { x: left - 8, y: i * line + 16, "text-anchor": "end" }, chart.labels[i]),
        s("rect", { class: "f0", x: left, y: i * line + 4, width: long, height: line - 8, rx: 2 }), s("text", { x: left + long + 7, y: i * line + 16 }, num(v)));
    });
    holder.replaceChildren(svg);
  }
  return { box, show: draw };
}

function matrix(m) {
  const holder = h("div", {});
  const box = figure("matrix", m.title, m.note, holder);
  function draw() {
    const rows = m.rows.length, cols = m.cols.length, left = 46, top = 42;
    const room = Math.min(window.innerWidth - 80, 340) - left, size = Math.max(22, Math.min(32, Math.floor(room / cols)));
    const W = left + size * cols + 2, H = top + size * rows + 2;
    const svg = s("svg", { width: W, height: H, viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": m.title });
    svg.append(s("text", { x: left + size * cols / 2, y: 14, "text-anchor": "middle" }, m.col_name),
      s("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${top + size * rows / 2}) rotate(-90)` }, m.row_name));
    m.cols.forEach((c, j) => svg.append(s("text", { x: left + (j + 0.5) * size, y: top - 8, "text-anchor": "middle" }, c)));
    m.rows.forEach((r, i) => svg.append(s("text", { x: left - 8, y: top + (i + 0.5) * size + 4, "text-anchor": "end" }, r)));
    m.values.forEach((row, i) => row.forEach((x, j) => {
      const v = val(x), t = isNaN(v) ? 0 : v;
      const one = s("g", {}, s("rect", { x: left + j * size, y: top + i * size, width: size - 1, height: size - 1, fill: shade(t), rx: 2 }));
      if (size >= 26) {
        const text = s("text", { x: left + (j + 0.5) * size - 0.5, y: top + (i + 0.5) * size + 4, "text-anchor": "middle" }, isNaN(v) ? "–" : v > 0.995 ? "1" : v.toFixed(2).replace(/^0/, ""));
        text.style.fill = inkOn(t);
        text.style.fontSize = "11px";
        one.append(text);
      }
      one.addEventListener("pointermove", e => showTip(e.clientX, e.clientY, m.title, [m.row_name + " " + m.rows[i] + ", " + m.col_name + " " + m.cols[j] + ": " + num(v)]));
      one.addEventListener("pointerleave", hideTip);
      svg.append(one);
    }));
    holder.replaceChildren(svg);
  }
  return { box, show: draw };
}

// details shows the chosen item.
function details(part) {
  const body = h("div", { class: "card details" });
  const list = h("select", { "aria-label": "shown", onchange: () => choose(Number(list.value), false) });
  const step = by => choose((chosen + by + data.items.length) % data.items.length, false);
  const tools = data.items.length < 2 ? [] : [list, h("button", { class: "button", type: "button", "aria-label": "previous", onclick: () => step(-1) }, "←"),
    h("button", { class: "button", type: "button", "aria-label": "next", onclick: () => step(1) }, "→")];
  const box = h("section", { class: "part-details", tabindex: -1 }, head(part, ...tools), body);
  // A list of thousands is no help: the table finds one sooner.
  if (data.items.length <= 1000) list.append(...data.items.map((x, i) => h("option", { value: i }, cutText(seen(x.name))))); else list.hidden = true;
  let pictures = [];
  watchers.push((i, go) => {
    if (i < 0) return;
    const item = data.items[i];
    list.value = i;
    pictures = [...(item.charts || []).map(c => c.labels ? barChart(c) : lineChart(c)), ...(item.matrices || []).map(matrix)];
    const children = [h("p", { class: "title" }, h("bdi", {}, seen(item.name)))];
    if (item.facts) children.push(facts(item.facts, "facts few"));
    children.push(pictures.length ? h("div", { class: pictures.length > 1 ? "pictures" : "pictures one" }, ...pictures.map(p => p.box)) : h("p", { class: "empty" }, "There is nothing to draw for this one."));
    body.replaceChildren(...children);
    for (const p of pictures) p.show();
    if (go) { box.scrollIntoView({ block: "nearest" }); box.focus({ preventScroll: true }); }
  });
  return { box, show: () => redraw(() => { for (const p of pictures) p.show(); }, box) };
}

function cutText(text) { return text.length > 80 ? text.slice(0, 38) + "…" + text.slice(-38) : text; }

function facts(list, kind) {
  return h("dl", { class: kind }, ...list.map(f => h("div", {}, h("dt", {}, f.label), h("dd", {}, h("bdi", {}, f.value), f.note ? h("small", {}, f.note) : null))));
}
