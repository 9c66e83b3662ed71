"use strict";
// Draws the data in #data: a table, curves, parallel coordinates, importance, forecasts. No network, no library.
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.querySelector("main");
const SVG = "http://www.w3.org/2000/svg";
const number = (x) => (x === "NaN" ? NaN : x === "Infinity" ? Infinity : x === "-Infinity" ? -Infinity : x);
const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

function node(name, attributes = {}, ...children) {
  const isShape = ["svg", "g", "path", "line", "circle", "rect", "text", "title"].includes(name);
  const made = isShape ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function section(title, ...children) {
  main.append(node("h2", {}, title), ...children);
}

function short(x) {
  if (!isNumber(x)) return x === null || x === undefined ? "–" : String(x);
  if (Number.isInteger(x) && Math.abs(x) < 1e7) return String(x);
  const size = Math.abs(x);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? x.toExponential(2) : String(+x.toPrecision(5));
}

// The better a run, the lighter: blue is the worst, yellow the best. Runs without a value are grey.
const finals = data.rows.map((row) => number(row.end.metric)).filter(isNumber).sort((a, b) => a - b);
function colour(value) {
  if (!isNumber(value) || finals.length === 0) return "#888";
  const rank = finals.filter((other) => (data.maximize ? other > value : other < value)).length;
  const share = 1 - rank / Math.max(1, finals.length - 1);
  return `hsl(${260 - 205 * share} 75% ${42 + 10 * share}%)`;
}
const colours = data.rows.map((row) => colour(number(row.end.metric)));

// The marks of one run, in the table and in each picture, are highlighted together.
const marks = data.rows.map(() => []);
function mark(run, element) {
  marks[run].push(element);
  element.addEventListener("mouseenter", () => light(run, true));
  element.addEventListener("mouseleave", () => light(run, false));
  return element;
}
function light(run, on) {
  document.querySelectorAll("svg").forEach((svg) => svg.classList.toggle("dimmed", on));
  marks[run].forEach((element) => element.classList.toggle("on", on));
}

// A linear or logarithmic scale from the extent of some numbers to a range of pixels.
function scale(values, from, to, logarithmic) {
  const usable = values.filter((x) => isNumber(x) && (!logarithmic || x > 0));
  const f = logarithmic ? Math.log : (x) => x;
  let low = Math.min(...usable.map(f)), high = Math.max(...usable.map(f));
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const at = (x) => from + ((f(x) - low) / (high - low)) * (to - from);
  const back = logarithmic ? Math.exp : (x) => x;
  at.ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => back(low + share * (high - low)));
  return at;
}

function frame(width, height, x, y, labels) {
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}` });
  const bottom = height - 34;
  for (const tick of y.ticks) {
    svg.append(node("line", { class: "grid", x1: 60, x2: width - 10, y1: y(tick), y2: y(tick) }));
    svg.append(node("text", { x: 55, y: y(tick) + 4, "text-anchor": "end" }, short(+tick.toPrecision(4))));
  }
  for (const tick of x.ticks) {
    svg.append(node("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, short(+tick.toPrecision(3))));
  }
  svg.append(node("path", { class: "axis", d: `M60 10V${bottom}H${width - 10}` }));
  svg.append(node("text", { x: width - 10, y: height - 4, "text-anchor": "end" }, labels[0]));
  svg.append(node("text", { x: 64, y: 12 }, labels[1]));
  return svg;
}

function drawTable() {
  const head = node("tr"), body = node("tbody");
  data.columns.forEach((name, column) => {
    const cell = node("th", data.settings.includes(name) ? { class: "setting" } : {}, name);
    cell.addEventListener("click", () => sort(column, cell));
    head.append(cell);
  });
  const lines = data.cells.map((cells, run) => {
    const line = node("tr", {}, ...cells.map((cell) => node("td", {}, cell === "" ? "–" : short(asNumber(cell)))));
    line.firstChild.style.borderLeft = `4px solid ${colours[run]}`;
    body.append(mark(run, line));
    return line;
  });
  data.settings.forEach((name) => shade(data.columns.indexOf(name), lines));
  function sort(column, cell) {
    const order = cell.dataset.order === "1" ? -1 : 1;
    head.querySelectorAll("th").forEach((other) => delete other.dataset.order);
    cell.dataset.order = order;
    const key = (run) => asNumber(data.cells[run][column]);
    const runs = lines.map((_, run) => run).sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return order * (isNumber(x) && isNumber(y) ? x - y : String(x).localeCompare(String(y)));
    });
    runs.forEach((run) => body.append(lines[run]));
  }
  section(`Runs (${data.rows.length})`, node("p", {}, "Click a name to sort. Shaded: the settings in which the runs differ."),
    node("div", { class: "scroll" }, node("table", {}, node("thead", {}, head), body)));
}
function asNumber(cell) {
  return cell !== "" && !Number.isNaN(Number(cell)) ? Number(cell) : cell;
}
// The values of a setting, each in its shade.
function shade(column, lines) {
  const values = [...new Set(data.cells.map((cells) => asNumber(cells[column])))];
  values.sort((a, b) => (isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(String(b))));
  lines.forEach((line, run) => {
    const share = values.indexOf(asNumber(data.cells[run][column])) / Math.max(1, values.length - 1);
    line.children[column].style.background = `hsl(205 80% 50% / ${0.08 + 0.4 * share})`;
  });
}

function drawCurves() {
  const keys = Object.keys(data.curves);
  if (keys.length === 0) return;
  const key = node("select", {}, ...keys.map((name) => node("option", {}, name)));
  const byShare = node("input", { type: "checkbox" }), logarithmic = node("input", { type: "checkbox" });
  const picture = node("div");
  function draw() {
    const curves = data.curves[key.value].map((curve, run) =>
      curve.map(([step, value]) => [byShare.checked ? step / Math.max(1, data.rows[run].steps || data.rows[run].last_step) : step, number(value)])
        .filter(([, value]) => isNumber(value) && (!logarithmic.checked || value > 0)));
    const all = curves.flat();
    const x = scale(all.map((p) => p[0]), 60, 1090, false), y = scale(all.map((p) => p[1]), 366, 18, logarithmic.checked);
    const svg = frame(1100, 400, x, y, [byShare.checked ? "share of the run" : "step", key.value]);
    curves.forEach((curve, run) => {
      if (curve.length === 0) return;
      const d = curve.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      const path = node("path", { class: "run", d, stroke: colours[run] }, node("title", {}, data.rows[run].name));
      svg.append(mark(run, path));
    });
    picture.replaceChildren(svg);
  }
  [key, byShare, logarithmic].forEach((control) => control.addEventListener("change", draw));
  section("Curves", node("p", { class: "controls" }, node("label", {}, key), node("label", {}, byShare, " over the share of the run"),
    node("label", {}, logarithmic, " logarithmic")), picture);
  draw();
}

function drawParallel() {
  const axes = data.settings.map((name, column) => ({ name, of: (row) => row.settings[column] }));
  if (axes.length === 0) return;
  axes.push({ name: data.metric, of: (row) => number(row.end.metric) });
  const width = 1100, gap = (width - 160) / (axes.length - 1);
  const svg = node("svg", { viewBox: `0 0 ${width} 330` });
  axes.forEach((axis, i) => {
    axis.x = 80 + i * gap;
    const values = data.rows.map(axis.of).filter((value) => value !== null);
    if (values.every(isNumber)) {
      const logarithmic = values.every((x) => x > 0) && Math.max(...values) / Math.min(...values) > 20;
      axis.y = scale(values, 290, 40, logarithmic);
      axis.ticks = axis.y.ticks.map((tick) => [axis.y(tick), short(+tick.toPrecision(3))]);
    } else {
      const kinds = [...new Set(values.map(String))].sort();
      axis.y = (value) => 290 - (250 * kinds.indexOf(String(value))) / Math.max(1, kinds.length - 1);
      axis.ticks = kinds.map((kind) => [axis.y(kind), kind]);
    }
    svg.append(node("line", { class: "axis", x1: axis.x, x2: axis.x, y1: 40, y2: 290 }));
    svg.append(node("text", { x: axis.x, y: 22, "text-anchor": "middle" }, axis.name));
    axis.ticks.forEach(([y, text]) => svg.append(node("text", { x: axis.x - 6, y: y + 4, "text-anchor": "end" }, text)));
  });
  data.rows.forEach((row, run) => {
    const points = axes.map((axis) => [axis.x, axis.y(axis.of(row))]).filter(([, y]) => isNumber(y));
    if (points.length < axes.length) return;
    const d = points.map(([x, y], i) => `${i ? "L" : "M"}${x} ${y.toFixed(1)}`).join("");
    svg.append(mark(run, node("path", { class: "run", d, stroke: colours[run] }, node("title", {}, row.name))));
  });
  section("Parallel coordinates", svg);
}

// How much each setting matters, with an interval.
function drawImportance() {
  if (!data.importance || data.importance.length === 0) return;
  const x = scale([0, ...data.importance.flatMap((row) => [row.low, row.high])], 200, 1060, false);
  const svg = node("svg", { viewBox: `0 0 1100 ${34 * data.importance.length + 40}` });
  data.importance.forEach((row, i) => {
    const y = 20 + 34 * i;
    svg.append(node("text", { x: 190, y: y + 4, "text-anchor": "end" }, row.name));
    svg.append(node("rect", { x: Math.min(x(0), x(row.value)), y: y - 8, width: Math.abs(x(row.value) - x(0)), height: 16, fill: "hsl(205 70% 55%)" }));
    svg.append(node("line", { x1: x(row.low), x2: x(row.high), y1: y, y2: y, stroke: "currentColor" }));
    svg.append(node("text", { x: x(Math.max(row.value, row.high)) + 6, y: y + 4 }, short(+row.value.toPrecision(3))));
  });
  svg.append(node("line", { class: "axis", x1: x(0), x2: x(0), y1: 4, y2: 34 * data.importance.length + 6 }));
  section("Importance of the settings", node("p", {}, data.importance_is), svg);
}

function drawForecast() {
  const forecast = data.forecast;
  if (!forecast) return;
  section("Forecasts from the beginning", node("pre", {}, forecast.text));
  const panels = node("div", { class: "panels" });
  for (const panel of forecast.panels) {
    const all = panel.points.flatMap((p) => [p.truth, p.value]);
    const x = scale(all, 60, 320, false), y = scale(all, 266, 18, false);
    const svg = frame(330, 300, x, y, ["in the end", panel.name]);
    const [low, high] = [x.ticks[0], x.ticks[4]];
    svg.append(node("line", { class: "axis", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }));
    for (const p of panel.points.filter((p) => isNumber(p.value) && isNumber(p.truth))) {
      const run = data.rows.findIndex((row) => row.name === p.name);
      const stroke = run < 0 ? "#888" : colours[run];
      if (isNumber(p.low) && isNumber(p.high)) {
        svg.append(node("line", { x1: x(p.truth), x2: x(p.truth), y1: y(p.low), y2: y(p.high), stroke, "stroke-opacity": 0.4 }));
      }
      const dot = node("circle", { cx: x(p.truth), cy: y(p.value), r: 3.5, fill: stroke }, node("title", {}, p.name));
      svg.append(run < 0 ? dot : mark(run, dot));
    }
    panels.append(svg);
  }
  section("Forecast and truth, run by run", node("p", {}, "Each run was predicted from the other runs only. A point on the diagonal is a correct prediction."), panels);
}

document.getElementById("summary").textContent = data.summary;
if (data.rows.length > 0) {
  drawTable();
  drawCurves();
  drawParallel();
}
drawImportance();
drawForecast();
