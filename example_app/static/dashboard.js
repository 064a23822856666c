// Draws the temperatures of one unit as a line; sets data-ready="true" on the chart once it is drawn.
"use strict";

const FRAME = { left: 48, right: 944, top: 16, bottom: 324 };
const DAY = 86400000;
const NAMES = {
  too_warm: "Too warm", too_cold: "Too cold", battery_low: "Battery low", signal_weak: "Signal weak", silent: "No reading",
};

const byId = (id) => document.getElementById(id);

async function ask(procedure, input) {
  const answer = await fetch(`/trpc/${procedure}`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(input),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

function add(parent, name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
}

function scale(from, to, low, high) {
  return (value) => low + ((value - from) / (to - from)) * (high - low);
}

function draw(chart, unit) {
  const points = unit.readings.map((one) => [Date.parse(one.recordedAt), one.temperature]);
  const values = points.map((point) => point[1]).concat(unit.minTemperature, unit.maxTemperature);
  const low = Math.floor(Math.min(...values)) - 1, high = Math.ceil(Math.max(...values)) + 1;
  const [start, end] = [points[0][0], points.at(-1)[0]];
  const x = scale(start, Math.max(end, start + 1), FRAME.left, FRAME.right);
  const y = scale(low, high, FRAME.bottom, FRAME.top);
  const width = FRAME.right - FRAME.left;

  add(chart, "rect", { class: "band", x: FRAME.left, width, y: y(unit.maxTemperature),
    height: y(unit.minTemperature) - y(unit.maxTemperature) });
  const step = Math.max(1, Math.ceil((high - low) / 7));
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    add(chart, "line", { class: "grid", x1: FRAME.left, x2: FRAME.right, y1: y(value), y2: y(value) });
    add(chart, "text", { x: FRAME.left - 8, y: y(value) + 4, "text-anchor": "end" }, `${value} °`);
  }
  for (let day = Math.ceil(start / DAY) * DAY; day <= end; day += DAY) {
    const label = new Date(day).toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" });
    add(chart, "line", { class: "grid", x1: x(day), x2: x(day), y1: FRAME.top, y2: FRAME.bottom });
    if (x(day) < FRAME.right - 24) add(chart, "text", { x: x(day), y: FRAME.bottom + 20, "text-anchor": "middle" }, label);
  }
  const path = points.map(([time, value], i) => `${i ? "L" : "M"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  add(chart, "path", { class: "line", d: path });
}

function tile(name, value) {
  const node = document.createElement("div");
  node.className = "tile";
  node.append(Object.assign(document.createElement("b"), { textContent: value }),
    Object.assign(document.createElement("span"), { textContent: name }));
  byId("tiles").append(node);
}

function showTiles(readings) {
  const values = readings.map((one) => one.temperature);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  tile("newest", `${values.at(-1).toFixed(1)} °C`);
  tile("mean", `${mean.toFixed(1)} °C`);
  tile("lowest", `${Math.min(...values).toFixed(1)} °C`);
  tile("highest", `${Math.max(...values).toFixed(1)} °C`);
  tile("readings", values.length.toLocaleString("en"));
}

function showAlerts(alerts) {
  for (const alert of alerts.length ? alerts : [{ rule: "none", severity: "", readings: 0 }]) {
    const line = document.createElement("li");
    const name = Object.assign(document.createElement("span"), { className: alert.severity });
    name.textContent = NAMES[alert.rule] ?? "None";
    const count = document.createElement("span");
    count.textContent = alert.readings ? `${alert.readings} readings` : "";
    line.append(name, count);
    byId("alerts").append(line);
  }
}

function note(text) {
  byId("note").textContent = text;
  byId("note").hidden = false;
}

async function main() {
  const unitId = Number(new URLSearchParams(location.search).get("unit") ?? 1);
  const [unit, alerts] = await Promise.all([ask("readings.byUnit", { unitId }), ask("alerts.evaluate", { unitId })]);
  document.title = byId("title").textContent = unit.name;
  byId("subtitle").textContent =
    `Temperature, last 7 days; shaded: the range from ${unit.minTemperature} to ${unit.maxTemperature} °C`;
  showAlerts(alerts.alerts);
  if (!unit.readings.length) return note("No readings in the last 7 days.");
  showTiles(unit.readings);
  draw(byId("chart"), unit);
  byId("chart").dataset.ready = "true";
}

main().catch((error) => {
  note(`Cannot show this unit: ${error.message}`);
  console.error(error);
});
