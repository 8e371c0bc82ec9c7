// A heat map: cells on a canvas, names beside it, and a cursor for mouse, touch and keys.

function heatmap(part) {
  const rows = part.rows.length, cols = part.cols.length;
  let measure = part.measures[0], scale, from, to, cell = [0, 0], cursor = null, hover = null;
  const canvas = h("canvas", { tabindex: 0, role: "application", "aria-roledescription": "heat map", "aria-label": part.title + ": arrow keys move, Enter chooses" });
  const names = h("div", { class: "names", "aria-hidden": "true" }, ...part.rows.map(r => h("div", { title: r }, h("bdi", {}, seen(r)))));
  const ticks = h("div", { class: "ticks", "aria-hidden": "true" });
  const scroll = h("div", { class: "scroll" }, h("div", { class: "grid" }, names, canvas, h("div", { class: "axis" }, part.col_name), ticks));
  const strip = h("canvas", { width: 256, height: 1 });
  const rampBox = h("div", { class: "ramp" }, strip);
  const none = h("span", { class: "key" }, h("span", { class: "void" }), "no value");
  const endless = h("span", { class: "key" }, h("span", { class: "patch" }), "∞");
  const legend = h("div", { class: "legend" }, rampBox, endless, none);
  const noteLine = h("p", { class: "note" });
  const tools = [];
  if (part.measures.length > 1) {
    const select = h("select", { onchange: () => { measure = part.measures[select.value]; setMeasure(); draw(); } },
      ...part.measures.map((m, i) => h("option", { value: i }, m.name)));
    tools.push(h("label", {}, "Colour", select));
  }
  const top = head(part, ...tools);
  top.firstChild.append(noteLine);
  const box = h("section", { class: "part-heatmap" }, top, h("div", { class: "card heat" }, scroll, legend));

  function setMeasure() {
    const flat = measure.values.flat().map(val), finite = flat.filter(isFinite);
    const used = measure.log ? finite.filter(x => x > 0) : finite;
    if (measure.from || measure.to) { from = measure.from || 0; to = measure.to || 0; }
    else if (used.length) { from = used.reduce((a, b) => Math.min(a, b)); to = used.reduce((a, b) => Math.max(a, b)); }
    else { from = measure.log ? 1 : 0; to = from; }
    scale = scaleOf(from, to, measure.log);
    noteLine.textContent = measure.note || "";
    noteLine.hidden = !measure.note;
    none.hidden = !part.items.some((r, i) => r.some((x, j) => x >= 0 && isNaN(val(measure.values[i][j]))));
    endless.hidden = !flat.includes(Infinity);
    rampBox.classList.toggle("one", from === to);
    rampBox.hidden = !finite.length;
    rampBox.querySelectorAll("span").forEach(e => e.remove());
    const marks = from === to ? [from] : [from, ...scale.marks.filter(m => scale.at(m) > 0.22 && scale.at(m) < 0.78), to];
    for (const m of marks) {
      const mark = h("span", {}, num(Number(m.toPrecision(3))));
      if (from !== to) mark.style.left = 100 * scale.at(m) + "%";
      rampBox.append(mark);
    }
  }

  // at is where a number lies between the ends of the colours. Where all are one number it has
  // one colour: that of 0 is the first of all.
  function at(x) { return from !== to ? scale.at(x) : x === 0 ? 0 : 0.5; }

  function shadeAt(i, j) {
    const x = val(measure.values[i][j]);
    if (isNaN(x)) return null;
    return x === Infinity ? 1 : x === -Infinity ? 0 : at(x);
  }

  function draw() {
    const context = strip.getContext("2d");
    for (let i = 0; i < 256; i++) { context.fillStyle = shade(from === to ? at(from) : i / 255); context.fillRect(i, 0, 1, 1); }
    endless.firstChild.style.background = shade(1);
    const room = scroll.clientWidth - names.offsetWidth - 12;
    const w = Math.max(cols > 40 ? 7 : 5, Math.min(44, Math.floor(room / cols))), ht = rows > 60 ? 15 : rows > 16 ? 19 : 26;
    cell = [w, ht];
    for (const e of names.children) { e.style.height = ht + "px"; e.style.lineHeight = ht + "px"; }
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(w * cols * ratio);
    canvas.height = Math.round(ht * rows * ratio);
    canvas.style.width = w * cols + "px";
    canvas.style.height = ht * rows + "px";
    ticks.style.width = w * cols + "px";
    const longest = part.cols.reduce((a, b) => Math.max(a, b.length), 1), every = niceStep(Math.ceil((longest * 7 + 12) / w));
    ticks.replaceChildren(...part.cols.map((c, j) => {
      if (j % every) return null;
      const e = h("span", {}, c);
      e.style.left = (j + 0.5) * w + "px";
      return e;
    }).filter(e => e));
    paint();
  }

  function niceStep(n) { return [1, 2, 4, 5, 8, 10, 16, 20, 50, 100, 1000].find(x => x >= n) || n; }

  function paint() {
    const ratio = window.devicePixelRatio || 1, g = canvas.getContext("2d"), [w, ht] = cell;
    const css = getComputedStyle(document.documentElement), soft = css.getPropertyValue("--soft"), ink = css.getPropertyValue("--ink"), card = css.getPropertyValue("--card");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, w * cols, ht * rows);
    const gap = w >= 9 ? 1 : 0.5;
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < cols; j++) {
        const t = shadeAt(i, j);
        if (t === null) {
          if (part.items[i][j] >= 0) {
            g.setLineDash([2, 2]); g.lineWidth = 1; g.strokeStyle = soft;
            g.strokeRect(j * w + 1, i * ht + 1, w - gap - 1.5, ht - 2.5);
          }
          continue;
        }
        g.fillStyle = shade(t);
        g.fillRect(j * w, i * ht, w - gap, ht - 1);
      }
    }
    g.setLineDash([]);
    const frame = (at, color, wide) => {
      if (!at) return;
      g.lineWidth = wide + 2; g.strokeStyle = card;
      g.strokeRect(at[1] * w + 0.5, at[0] * ht + 0.5, w - 1 - gap, ht - 2);
      g.lineWidth = wide; g.strokeStyle = color;
      g.strokeRect(at[1] * w + 0.5, at[0] * ht + 0.5, w - 1 - gap, ht - 2);
    };
    frame(whereIs(chosen), ink, 2);
    frame(document.activeElement === canvas ? cursor : null, css.getPropertyValue("--focus"), 2);
    frame(hover, ink, 1);
  }

  const places = new Map();
  part.items.forEach((row, i) => row.forEach((x, j) => { if (x >= 0) places.set(x, [i, j]); }));
  function whereIs(item) { return places.get(item) || null; }

  function placeOf(event) {
    const r = canvas.getBoundingClientRect(), j = Math.floor((event.clientX - r.left) / cell[0]), i = Math.floor((event.clientY - r.top) / cell[1]);
    return i >= 0 && i < rows && j >= 0 && j < cols ? [i, j] : null;
  }
  function texts([i, j]) {
    const item = part.items[i][j], title = item >= 0 ? seen(data.items[item].name) : part.rows[i] + ", " + part.col_name + " " + part.cols[j];
    return [title, item < 0 && part.measures.every(m => isNaN(val(m.values[i][j]))) ? ["not there"] : part.measures.map(m => m.name + ": " + num(val(m.values[i][j])))];
  }
  function point(place, x, y) {
    hover = place;
    paint();
    if (place) showTip(x, y, ...texts(place)); else hideTip();
  }
  canvas.addEventListener("pointermove", e => point(placeOf(e), e.clientX, e.clientY));
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("click", e => {
    const place = placeOf(e);
    if (place && part.items[place[0]][place[1]] >= 0) { cursor = place; choose(part.items[place[0]][place[1]], false); }
  });
  canvas.addEventListener("focus", () => { cursor = cursor || whereIs(chosen) || [0, 0]; paint(); });
  canvas.addEventListener("blur", () => { hideTip(); paint(); });
  canvas.addEventListener("keydown", e => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    if (by) cursor = [Math.max(0, Math.min(rows - 1, cursor[0] + by[0])), Math.max(0, Math.min(cols - 1, cursor[1] + by[1]))];
    else if (e.key === "Home") cursor = [cursor[0], 0];
    else if (e.key === "End") cursor = [cursor[0], cols - 1];
    else if (e.key === "Enter" || e.key === " ") { const x = part.items[cursor[0]][cursor[1]]; if (x >= 0) choose(x, true); }
    else if (e.key === "Escape") { hideTip(); return; }
    else return;
    e.preventDefault();
    paint();
    const r = canvas.getBoundingClientRect(), [title, lines] = texts(cursor);
    showTip(r.left + (cursor[1] + 1) * cell[0], r.top + (cursor[0] + 1) * cell[1], title, lines);
    say(title + ". " + lines.join(". "));
  });
  watchers.push(() => paint());
  setMeasure();
  return { box, show: () => redraw(draw, box) };
}
