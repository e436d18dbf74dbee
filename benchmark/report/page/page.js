"use strict";
// Every number is read from the leaderboards in this page; the server-side text stays what it is.
// Text from a run is only ever set as textContent, never as markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7d7d7d"]; // Okabe & Ito
  const CIVIDIS = ["#00204d", "#31446b", "#666970", "#958f78", "#cbba69", "#ffea46"];
  const GLYPHS = ["●", "■", "▲", "◆", "▼", "✚", "✖", "◀", "▶", "⬟", "★"];
  const tip = document.getElementById("tip");

  // ---------- small helpers
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
  const draw = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
  function fill(element, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }
  const number = (text) => (text === undefined ? NaN : Number(text));
  const clip = (text, limit) => text.length <= limit ? text : text.slice(0, Math.ceil(limit * 0.66)) + "…" + text.slice(-Math.floor(limit * 0.3));
  const extent = (values) => [Math.min(...values), Math.max(...values)];

  // ---------- the model of a panel: its leaderboard as numbers
  function readColumn(th, index) {
    const { f: family, direction, scale, spec, unit } = th.dataset;
    const label = all(".arrow", th).reduce((text, arrow) => text.replace(arrow.textContent, ""), one("button", th).textContent).replace(/\s+/g, " ").trim();
    const digits = number(spec.slice(1, -1));
    const written = (value) => {
      const shown = spec.endsWith("e") ? (value * scale).toExponential(digits) : (value * scale).toFixed(digits);
      return shown.replace(/^-(?=[0.]+$)/, "").replace("-", "−") + unit;
    };
    return { th, index, family, direction, label, written, scale: number(scale) };
  }
  function readRow(tr, index) {
    const header = one("th", tr), link = one("a", header);
    const cells = all("td", tr).map((td) => ({
      v: number(td.dataset.v), l: number(td.dataset.l), h: number(td.dataset.h), n: td.dataset.n, s: td.dataset.s, why: td.title,
      beside: td.dataset.beside ?? "", sign: "unbeaten" in td.dataset ? "‡" : "", hollow: "hollow" in td.dataset,
      controls: (td.dataset.controls ?? "").split(";").filter(Boolean).map((text) => text.split(" ")).map(([name, value]) => [name, number(value)]),
    }));
    const dagger = tr.dataset.dagger === "yes";
    const text = `${tr.dataset.name} ${tr.dataset.find} ${link.textContent}`.toLowerCase();
    return { tr, index, cells, dagger, text, name: link.textContent + (dagger ? "†" : ""), anchor: link.hash.slice(1), kind: tr.dataset.kind, origin: tr.dataset.origin };
  }
  const interval = (column, cell) => Number.isNaN(cell.l) ? "" : ` (${column.written(cell.l)} to ${column.written(cell.h)})`;
  const shown = (column, cell) => Number.isNaN(cell.v) ? "–" : column.written(cell.v) + cell.sign + interval(column, cell);

  // ---------- leaderboard: sort and filter
  function sortable(panel) {
    const heads = all(".heads th", panel.root);
    heads.forEach((th, place) => one("button", th).addEventListener("click", () => {
      const usual = place === 0 || th.dataset.direction === "lower" ? "ascending" : "descending";
      const other = usual === "ascending" ? "descending" : "ascending";
      const was = th.getAttribute("aria-sort");
      const now = was === null ? usual : was === usual ? other : null;
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      if (now) th.setAttribute("aria-sort", now);
      sort(panel, place - 1, now);
    }));
  }
  function sort(panel, column, order) {
    const sign = order === "ascending" ? 1 : -1;
    const byName = (a, b) => sign * a.name.localeCompare(b.name, "en", { numeric: true });
    const byValue = (a, b) => {
      const [x, y] = [a.cells[column].v, b.cells[column].v];
      // a model without a value is last in either order
      return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || a.index - b.index;
    };
    panel.rows.sort(order === null ? (a, b) => a.index - b.index : column < 0 ? byName : byValue);
    panel.body.append(...panel.rows.map((row) => row.tr));
    panel.showImages?.();
  }
  function filterable(panel) {
    const form = one("[data-filter]", panel.root);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => filter(panel, form));
  }
  function filter(panel, form) {
    const value = (name) => form.elements[name].value;
    const words = value("text").toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of panel.rows) {
      row.tr.hidden = !(words.every((word) => row.text.includes(word))
        && (!value("kind") || row.kind === value("kind")) && (!value("origin") || row.origin === value("origin"))
        && (!value("dagger") || row.dagger === (value("dagger") === "yes")));
    }
    for (const box of all("[name=family]", form)) {
      for (const cell of panel.families.get(box.value)) cell.hidden = !box.checked;
    }
    for (const row of panel.rows) document.getElementById(row.anchor).hidden = row.tr.hidden;
    form.elements.count.value = `${panel.visible().length} of ${panel.rows.length} models`;
    panel.plot?.();
    panel.showImages?.();
  }

  // ---------- trade-off
  function plottable(panel) {
    const place = one("[data-plot]", panel.root), form = one("[data-axes]", panel.root);
    if (!place) return;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => panel.plot());
    let width = 0;
    panel.plot = () => { if (place.clientWidth) { width = place.clientWidth; plot(panel, place, form.elements, width); } };
    new ResizeObserver(() => { if (place.clientWidth !== width) panel.plot(); }).observe(place);
    panel.plot();
  }
  function plot(panel, place, chosen, width) {
    hideTip();
    const x = panel.columns[chosen.x.value], y = panel.columns[chosen.y.value], c = chosen.c.value === "" ? null : panel.columns[chosen.c.value];
    const rows = panel.visible().filter((row) => Number.isFinite(row.cells[x.index].v) && Number.isFinite(row.cells[y.index].v));
    if (!rows.length) { place.replaceChildren(make("p", { class: "lead" }, "No model that is shown has both measures.")); return; }
    const height = Math.round(Math.max(320, Math.min(560, width * 0.56)));
    const box = { left: 62, right: width - 14, top: 30, bottom: height - 46 };
    const besideX = controlsOf(rows, x), besideY = controlsOf(rows, y), ends = (ranges) => ranges.flatMap(([, low, high]) => [low, high]);
    const across = scaleOf([...rows.map((row) => row.cells[x.index].v), ...ends(besideX)], box.left, box.right, Math.max(3, Math.round(width / 150)));
    const up = scaleOf([...rows.map((row) => row.cells[y.index].v), ...ends(besideY)], box.bottom, box.top, 6);
    const at = (row) => [across.map(row.cells[x.index].v), up.map(row.cells[y.index].v)];
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-label": `${y.label} against ${x.label}, ${rows.length} models` });
    const id = `clip-${panel.number}`;
    const inner = { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top };
    svg.append(draw("clipPath", { id }, draw("rect", inner)));
    drawAxes(svg, box, across, up, x, y);
    const layer = draw("g", { "clip-path": `url(#${id})` });
    svg.append(layer);
    for (const [name, low, high] of besideX) layer.append(controlMark(name, across.map(low), box.top, across.map(high), box.bottom, low < high));
    for (const [name, low, high] of besideY) layer.append(controlMark(name, box.left, up.map(high), box.right, up.map(low), low < high));
    if (chosen.front.checked) layer.append(...front(rows, x, y, at, box));
    if (chosen.bars.checked) layer.append(...rows.flatMap((row) => bars(row, x, y, at(row), across, up)));
    const colour = colouring(panel, rows, c);
    const points = rows.map((row) => point(row, at(row), colour, [y, x, ...(c && c !== x && c !== y ? [c] : [])], unbeaten(row, x, y)));
    controlLegend(colour.legend, rows.some((row) => unbeaten(row, x, y)), [...besideX, ...besideY]);
    svg.append(...points.map((each) => each.mark));
    place.replaceChildren(svg, colour.legend);
    if (chosen.names.checked) label(svg, points, box, width < 700 ? 28 : 42);
    interact(svg, points);
  }
  // what the controls of a measure scored beside these models: [name, least, most]
  function controlsOf(rows, column) {
    const found = new Map();
    for (const [name, value] of rows.flatMap((row) => row.cells[column.index].controls)) found.set(name, [...(found.get(name) ?? []), value]);
    return [...found].map(([name, values]) => [name, ...extent(values)]);
  }
  const unbeaten = (row, ...columns) => columns.some((column) => row.cells[column.index].hollow);
  const controlMark = (name, x1, y1, x2, y2, band) => band
    ? draw("rect", { class: `control ${name} band`, x: x1, y: y1, width: x2 - x1, height: y2 - y1 })
    : draw("line", { class: `control ${name}`, x1, y1, x2, y2 });
  function controlLegend(legend, hollow, ranges) {
    if (hollow) legend.append(make("li", {}, sample(draw("path", { class: "hollow", d: SHAPES["●"], transform: "translate(12 7)" })), "not seen to beat its controls (‡)"));
    const drawn = new Map(ranges.map(([name, low, high]) => [`${name} ${low < high}`, [name, low < high]]));
    for (const [name, band] of drawn.values()) legend.append(make("li", {}, sample(controlMark(name, 1, band ? 1 : 7, 23, band ? 13 : 7, band)), `control: ${name}${band ? " (range)" : ""}`));
  }
  const sample = (mark) => draw("svg", { width: 24, height: 14, "aria-hidden": "true" }, mark);
  function scaleOf(values, from, to, count) {
    let [low, high] = extent(values);
    const margin = (high - low) * 0.1 || Math.abs(high) * 0.05 || 0.5;
    [low, high] = [low - margin, high + margin];
    const rough = (high - low) / count, size = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].find((each) => each * size >= rough) * size;
    const ticks = [];
    for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
    return { ticks, step, map: (value) => from + (to - from) * (value - low) / (high - low) };
  }
  function tickText(column, scale, value) {
    const step = scale.step * column.scale, shown = value * column.scale;
    const place = Math.floor(Math.log10(step * 1.0001)), between = Math.abs(step / 10 ** place - 2.5) < 0.01; // 2.5 takes a digit more
    const digits = Math.max(0, Math.min(6, between - place));
    return (Math.abs(shown) >= 1e5 ? shown.toExponential(1) : shown.toFixed(digits)).replace(/^-(?=[0.]+$)/, "").replace("-", "−");
  }
  function drawAxes(svg, box, across, up, x, y) {
    const line = (attributes, kind = "grid") => svg.append(draw("line", { class: kind, ...attributes }));
    for (const tick of across.ticks) {
      const px = across.map(tick);
      line({ x1: px, x2: px, y1: box.top, y2: box.bottom });
      svg.append(draw("text", { class: "tick", x: px, y: box.bottom + 17, "text-anchor": "middle" }, tickText(x, across, tick)));
    }
    for (const tick of up.ticks) {
      const py = up.map(tick);
      line({ x1: box.left, x2: box.right, y1: py, y2: py });
      svg.append(draw("text", { class: "tick", x: box.left - 8, y: py + 4, "text-anchor": "end" }, tickText(y, up, tick)));
    }
    line({ x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }, "axis");
    line({ x1: box.left, x2: box.left, y1: box.top, y2: box.bottom }, "axis");
    svg.append(draw("text", { x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle" }, title(x, "→", "←")));
    svg.append(draw("text", { x: 6, y: 15 }, title(y, "↑", "↓")));
  }
  const unit = (column) => (column.scale === 100 ? " in %" : "");
  function title(column, higher, lower) {
    const better = { higher: ` ${higher} better`, lower: ` ${lower} better` }[column.direction] ?? "";
    return column.label + unit(column) + better;
  }
  function front(rows, x, y, at, box) {
    if (!x.direction || !y.direction) return [];
    const sign = (column) => (column.direction === "higher" ? 1 : -1);
    const good = (row) => [sign(x) * row.cells[x.index].v, sign(y) * row.cells[y.index].v];
    // as it is never bold: what does not beat its controls is no corner
    const real = rows.filter((row) => !unbeaten(row, x, y));
    if (!real.length) return [];
    const best = real.filter((row) => !real.some((other) => {
      const [a, b] = good(row), [p, q] = good(other);
      return p >= a && q >= b && (p > a || q > b);
    })).map(at).sort((a, b) => a[0] - b[0]);
    // the border of what is beaten: from the worse edge, over the corners, to the worse edge
    const worseX = sign(x) > 0 ? box.left : box.right, worseY = sign(y) > 0 ? box.bottom : box.top;
    if (sign(x) < 0) best.reverse();
    const corners = best.map(([px, py], i) => (i ? `V${py}H${px}` : `H${px}`));
    const border = `M${worseX},${best[0][1]}${corners.join("")}V${worseY}`;
    return [draw("path", { class: "front", d: border })];
  }
  function bars(row, x, y, [px, py], across, up) {
    const a = row.cells[x.index], b = row.cells[y.index], found = [];
    if (Number.isFinite(a.l)) found.push(draw("line", { class: "bar", x1: across.map(a.l), x2: across.map(a.h), y1: py, y2: py }));
    if (Number.isFinite(b.l)) found.push(draw("line", { class: "bar", x1: px, x2: px, y1: up.map(b.l), y2: up.map(b.h) }));
    return found;
  }
  function colouring(panel, rows, column) {
    const legend = make("ul", { class: "legend" });
    const entry = (glyph, colour, text) => {
      const mark = make("b", {}, glyph);
      mark.style.color = colour;
      legend.append(make("li", {}, mark, ` ${text}`));
    };
    if (column === null) {
      const look = (kind) => { const i = panel.kinds.indexOf(kind); return { fill: COLOURS[i % COLOURS.length], glyph: GLYPHS[i % GLYPHS.length] }; };
      for (const kind of panel.kinds.filter((each) => rows.some((row) => row.kind === each))) entry(look(kind).glyph, look(kind).fill, kind);
      return { legend, of: (row) => look(row.kind) };
    }
    const values = rows.map((row) => row.cells[column.index].v).filter(Number.isFinite);
    const [low, high] = values.length ? extent(values) : [0, 1];
    const shade = (part) => {
      const place = Math.min(Math.max(part, 0), 1) * (CIVIDIS.length - 1), i = Math.min(Math.floor(place), CIVIDIS.length - 2), rest = place - i;
      const byte = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
      return `rgb(${[0, 1, 2].map((k) => Math.round(byte(CIVIDIS[i], k) * (1 - rest) + byte(CIVIDIS[i + 1], k) * rest)).join(",")})`;
    };
    legend.append(make("li", {}, `${column.label}${column.direction ? `, ${column.direction} is better` : ""}:`));
    for (const part of high > low ? [0, 0.25, 0.5, 0.75, 1] : [0.5]) entry("●", shade(part), column.written(low + part * (high - low)));
    if (rows.some((row) => row.origin === "third")) legend.append(make("li", {}, "◆ third party"));
    if (values.length < rows.length) entry("○", "inherit", "no value");
    const of = (row) => {
      const value = row.cells[column.index].v, glyph = row.origin === "third" ? "◆" : "●";
      return { glyph, fill: Number.isFinite(value) ? shade(high > low ? (value - low) / (high - low) : 0.5) : "none" };
    };
    return { legend, of };
  }
  const SHAPES = {
    "●": "M0,-6A6,6 0 1 1 0,6A6,6 0 1 1 0,-6Z", "■": "M-5.3,-5.3H5.3V5.3H-5.3Z", "▲": "M0,-7L6.4,5H-6.4Z", "◆": "M0,-7.4L7.4,0 0,7.4 -7.4,0Z",
    "▼": "M0,7L6.4,-5H-6.4Z", "✚": "M-2.2,-6.6H2.2V-2.2H6.6V2.2H2.2V6.6H-2.2V2.2H-6.6V-2.2H-2.2Z",
    "✖": "M-6.2,-3.1L-3.1,-6.2 0,-3.1 3.1,-6.2 6.2,-3.1 3.1,0 6.2,3.1 3.1,6.2 0,3.1 -3.1,6.2 -6.2,3.1 -3.1,0Z",
    "◀": "M-7,0L5,-6.4V6.4Z", "▶": "M7,0L-5,-6.4V6.4Z", "⬟": "M0,-6.8L6.5,-2.1 4,5.5H-4L-6.5,-2.1Z",
    "★": "M0,-7.6L1.9,-2.6 7.2,-2.3 3.1,1 4.5,6.2 0,3.3 -4.5,6.2 -3.1,1 -7.2,-2.3 -1.9,-2.6Z",
  };
  function point(row, [px, py], colour, columns, hollow) {
    const look = colour.of(row);
    const numbers = columns.map((column) => [column.label, shown(column, row.cells[column.index]), row.cells[column.index]]);
    const spoken = `${row.name}: ${numbers.map(([name, text]) => `${name} ${text}`).join(", ")}`;
    const mark = draw("path", {
      class: hollow ? "point hollow" : "point", d: SHAPES[look.glyph], transform: `translate(${px} ${py}) scale(1.15)`, fill: look.fill === "none" ? "transparent" : look.fill,
      tabindex: "-1", role: "button", "aria-label": spoken, "data-row": row.index,
    });
    if (look.fill !== "none") mark.style.setProperty("--own", look.fill);
    return { row, mark, px, py, numbers };
  }
  function label(svg, points, box, limit) {
    const places = [[9, -6, "start"], [9, 14, "start"], [-9, -6, "end"], [-9, 14, "end"], [11, 4, "start"], [-11, 4, "end"], [0, -12, "middle"], [0, 20, "middle"],
      [14, -16, "start"], [14, 24, "start"], [-14, -16, "end"], [-14, 24, "end"]];
    const taken = points.map(({ px, py }) => [px - 7, py - 7, px + 7, py + 7]);
    const hits = (a, b) => a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1];
    for (const each of points) {
      const text = draw("text", { class: "label" }, clip(each.row.name, limit));
      svg.append(text);
      const width = text.getComputedTextLength();
      const free = places.map(([dx, dy, anchor]) => {
        const left = each.px + dx - (anchor === "end" ? width : anchor === "middle" ? width / 2 : 0);
        return { dx, dy, anchor, area: [left, each.py + dy - 10, left + width, each.py + dy + 3] };
      }).find(({ area }) => area[0] > box.left && area[2] < box.right + 10 && area[1] > box.top - 4 && area[3] < box.bottom && !taken.some((other) => hits(area, other)));
      if (!free) { text.remove(); continue; }
      fill(text, { x: each.px + free.dx, y: each.py + free.dy, "text-anchor": free.anchor }, []);
      taken.push(free.area);
    }
  }
  function interact(svg, points) {
    const order = [...points].sort((a, b) => a.px - b.px || b.py - a.py);
    order[0].mark.setAttribute("tabindex", "0");
    let lit = null;
    const light = (each) => {
      if (lit === each) return;
      lit?.mark.classList.remove("lit");
      lit?.row.tr.classList.remove("lit");
      lit = each;
      if (!each) { hideTip(); return; }
      each.mark.classList.add("lit");
      each.row.tr.classList.add("lit");
      showTip(each);
    };
    const nearest = (event) => {
      const frame = svg.getBoundingClientRect();
      const [mx, my] = [event.clientX - frame.left, event.clientY - frame.top];
      const far = (each) => Math.hypot(each.px - mx, each.py - my);
      const best = points.reduce((a, b) => (far(b) < far(a) ? b : a));
      return far(best) < 28 ? best : null;
    };
    svg.addEventListener("pointermove", (event) => light(nearest(event)));
    svg.addEventListener("pointerdown", (event) => light(nearest(event)));
    svg.addEventListener("pointerleave", () => light(null));
    svg.addEventListener("click", (event) => { const each = nearest(event); if (each && event.detail && matchMedia("(hover: hover)").matches) openCard(each.row.anchor); });
    order.forEach((each, i) => {
      each.mark.addEventListener("focus", () => light(each));
      each.mark.addEventListener("blur", () => light(null));
      each.mark.addEventListener("keydown", (event) => {
        const to = { ArrowRight: i + 1, ArrowUp: i + 1, ArrowLeft: i - 1, ArrowDown: i - 1, Home: 0, End: order.length - 1 }[event.key];
        if (event.key === "Enter" || event.key === " ") openCard(each.row.anchor);
        else if (event.key === "Escape") light(null);
        else if (to === undefined || !order[to]) return;
        else {
          each.mark.setAttribute("tabindex", "-1");
          order[to].mark.setAttribute("tabindex", "0");
          order[to].mark.focus();
        }
        event.preventDefault();
      });
    });
  }
  function showTip({ row, mark, numbers }) {
    const list = make("dl");
    for (const [name, text, { beside }] of numbers) list.append(make("dt", {}, name), make("dd", {}, text), ...(beside ? [make("dd", { class: "beside" }, beside)] : []));
    const { n, s } = numbers[0][2];
    const counts = `95% intervals; ${Number(n) ? `${n} images, ` : ""}${s} seed${s === "1" ? "" : "s"}`;
    tip.replaceChildren(make("strong", {}, row.name), list, make("span", { class: "muted" }, counts));
    tip.hidden = false;
    const at = mark.getBoundingClientRect(), size = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.right + 10), innerWidth - size.width - 8);
    const below = at.bottom + 10 + size.height > innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${Math.max(8, below ? at.top - size.height - 10 : at.bottom + 10)}px`;
  }
  function hideTip() { tip.hidden = true; }

  // ---------- which attack broke which image
  function imaged(panel) {
    const source = one("[data-verdicts]", panel.root);
    if (!source) return;
    const data = JSON.parse(source.textContent), form = one("[data-images]", panel.root), chosen = form.elements;
    const rows = data.rows.map(([threat, model, seed, signs]) => ({ threat, model, seed, signs }));
    const options = (select, values, names = values) => select.append(...values.map((value, i) => new Option(names[i], value)));
    options(chosen.threat, [...new Set(rows.map((row) => row.threat))]);
    chosen.threat.value = data.threat;
    options(chosen.seed, [...new Set(rows.map((row) => row.seed))].sort((a, b) => a - b));
    chosen.attack.append(new Option("any attack", ""));
    options(chosen.attack, data.attacks.map((_, i) => signOf(i)), data.attacks);
    const place = one("[data-matrix]", panel.root);
    if (data.sprite) place.style.setProperty("--sprite", `url("${data.sprite}")`);
    legendOf(one("[data-legend]", panel.root), data.attacks);
    panel.showImages = () => showImages(panel, data, rows, chosen, place);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", panel.showImages);
    panel.showImages();
  }
  const signOf = (attack) => String.fromCharCode(65 + attack);
  const attackOf = (sign) => sign.charCodeAt(0) - 65;
  const HELD = ".", WRONG = "-";
  const letter = (sign) => (sign === HELD ? "·" : sign === WRONG ? "×" : sign === " " ? "" : attackOf(sign) < 26 ? sign : String(attackOf(sign) + 1));
  const kindOf = (sign) => (sign === HELD ? "held" : sign === WRONG ? "wrong" : sign === " " ? "" : `a${attackOf(sign) % 7}`);
  function legendOf(list, attacks) {
    const entry = (sign, text) => list.append(make("li", {}, make("span", { class: kindOf(sign) }, letter(sign)), text));
    attacks.forEach((name, i) => entry(signOf(i), name));
    entry(HELD, "held against every attack");
    entry(WRONG, "wrong before any attack");
  }
  function signsShown(panel, rows, chosen) {
    const found = [];
    for (const model of panel.visible()) {
      const own = rows.filter((row) => row.model === model.index && row.threat === chosen.threat.value);
      // a third party's model has one seed: it is shown beside any
      const row = own.find((each) => String(each.seed) === chosen.seed.value) ?? own[0];
      if (row) found.push({ model, signs: row.signs });
    }
    return found;
  }
  function imagesShown(data, found, chosen) {
    const tests = {
      "": () => true,
      split: (column) => column.includes(HELD) && column.some((sign) => sign !== HELD && sign !== " "),
      fallen: (column) => !column.includes(HELD),
      held: (column) => column.every((sign) => sign === HELD || sign === " "),
      wrong: (column) => column.includes(WRONG),
    };
    const attack = chosen.attack.value;
    return data.images.map((_, i) => i).filter((i) => {
      const column = found.map(({ signs }) => signs[i]);
      return tests[chosen.which.value](column) && (!attack || column.includes(attack));
    });
  }
  function showImages(panel, data, rows, chosen, place) {
    const found = signsShown(panel, rows, chosen), shownImages = imagesShown(data, found, chosen);
    chosen.shown.value = `${shownImages.length} of ${data.images.length} images`;
    const head = make("tr", {}, make("th", { class: "name", scope: "col" }, "Model"), make("th", { scope: "col" }, "held"));
    for (const i of shownImages) head.append(imageHead(data, i));
    const body = make("tbody");
    for (const { model, signs } of found) {
      const held = shownImages.filter((i) => signs[i] === HELD).length;
      const line = make("tr", {}, make("th", { class: "name", scope: "row" }, model.name), make("td", { class: "share" }, `${held}/${shownImages.length}`));
      for (const i of shownImages) line.append(make("td", { class: kindOf(signs[i]) }, letter(signs[i])));
      body.append(line);
    }
    place.replaceChildren(make("table", { class: "matrix" }, make("thead", {}, head), body));
  }
  function imageHead(data, i) {
    const [id, label] = data.images[i], cell = make("th", { scope: "col", title: `image ${id}, class ${label}` });
    if (data.sprite) {
      const picture = make("span", { class: "thumb", role: "img", "aria-label": `image ${id}` });
      picture.style.backgroundImage = "var(--sprite)";
      picture.style.backgroundSize = `${data.images.length * 100}% 100%`;
      picture.style.backgroundPosition = `${data.images.length > 1 ? 100 * i / (data.images.length - 1) : 0}% 0`;
      cell.append(picture);
    }
    cell.append(String(label));
    return cell;
  }

  // ---------- cards, tabs, print
  function openCard(anchor) {
    const card = document.getElementById(anchor);
    if (!card) return;
    card.open = true;
    card.scrollIntoView({ block: "start" });
    one("summary", card).focus({ preventScroll: true });
  }
  function carded(panel) {
    for (const row of panel.rows) {
      const card = document.getElementById(row.anchor);
      card.addEventListener("toggle", () => card.open && measures(panel, row, card));
    }
    panel.body.addEventListener("click", (event) => {
      const link = event.target.closest("a[href^='#model-']");
      if (link) { event.preventDefault(); openCard(link.hash.slice(1)); }
    });
  }
  function measures(panel, row, card) {
    const place = one("[data-measures]", card);
    if (place.hasChildNodes()) return;
    const list = make("dl", { class: "measures" });
    for (const column of panel.columns) {
      const cell = row.cells[column.index];
      const reason = Number.isNaN(cell.v) && cell.why, text = reason || shown(column, cell);
      list.append(make("div", {}, make("dt", {}, column.label), make("dd", reason ? { class: "reason" } : {}, text, ...(cell.beside ? [make("small", {}, cell.beside)] : []))));
    }
    place.append(list);
  }
  function tabbed(panels) {
    const tabs = all("[role=tab]");
    const choose = (i) => {
      tabs.forEach((tab, k) => { tab.setAttribute("aria-selected", k === i); tab.tabIndex = k === i ? 0 : -1; panels[k].root.hidden = k !== i; });
      panels[i].plot?.();
    };
    tabs.forEach((tab, i) => {
      tab.addEventListener("click", () => choose(i));
      tab.addEventListener("keydown", (event) => {
        const to = { ArrowRight: (i + 1) % tabs.length, ArrowLeft: (i + tabs.length - 1) % tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        choose(to);
        tabs[to].focus();
      });
    });
    if (tabs.length) choose(0);
  }
  function printable() {
    let closed = [];
    addEventListener("beforeprint", () => { closed = all("details:not([open])"); closed.forEach((each) => { each.open = true; }); });
    addEventListener("afterprint", () => closed.forEach((each) => { each.open = false; }));
  }

  function start(root, number) {
    const table = one(".board", root), rows = all("tbody tr", table).map(readRow);
    const panel = { root, number, rows, body: one("tbody", table), columns: all(".heads th", table).slice(1).map(readColumn), families: new Map() };
    panel.kinds = [...new Set(rows.map((row) => row.kind))];
    panel.visible = () => panel.rows.filter((row) => !row.tr.hidden);
    for (const cell of all("[data-f]", table)) {
      if (!panel.families.has(cell.dataset.f)) panel.families.set(cell.dataset.f, []);
      panel.families.get(cell.dataset.f).push(cell);
    }
    sortable(panel); filterable(panel); carded(panel); imaged(panel); plottable(panel);
    return panel;
  }
  const panels = all(".panel").map(start);
  tabbed(panels);
  printable();
  if (location.hash.startsWith("#model-")) openCard(location.hash.slice(1));
  document.documentElement.dataset.ready = "yes";
})();
