// The explorer's page: a map of the function, the start to be moved, the methods' paths and what came of them.
"use strict";

(() => {
  const root = document.getElementById("explore");
  if (!root) return;
  const { functions, methods, defaults, run, norm } = Explorer;
  const SIDE = 600; // the map's own units, whatever its size on the page
  // Okabe and Ito's colours, and beside them dashes, markers and names, so that no colour needs to be told apart.
  const STYLES = [
    ["#0072b2", "", "circle"],
    ["#d55e00", "9 4", "square"],
    ["#009e73", "2 4", "triangle"],
    ["#cc79a7", "12 3 2 3", "diamond"],
    ["#e69f00", "5 5", "cross"],
    ["#56b4e9", "16 5", "circle"],
    ["#8c564b", "7 2 2 2 2 2", "square"],
    ["#7f7f7f", "3 2", "triangle"],
    ["#a39400", "1 3", "diamond"],
  ];
  const MARKERS = {
    circle: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    square: "M-4 -4h8v8h-8z",
    triangle: "M0 -5L5 4H-5z",
    diamond: "M0 -5.5L5.5 0L0 5.5L-5.5 0z",
    cross: "M-4 -4L4 4M-4 4L4 -4",
  };
  const style = (method) => STYLES[Object.keys(methods).indexOf(method)];
  const letter = (method) => "ABCDEFGHI"[Object.keys(methods).indexOf(method)];

  const chosen = new Set(["sgd", "adam", "newton", "saddle_free"]);
  const state = { name: "saddle", start: null, steps: 60, noise: { sd: 0, seed: 0 }, chosen };
  const hyper = {}; // by method, for the function shown

  const make = (tag, attributes = {}, ...children) => {
    const svg = ["svg", "path", "g", "text", "title"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const number = (a) => (Number.isInteger(a) ? `${a}` : Math.abs(a) < 1e-3 || Math.abs(a) >= 1e4 ? a.toExponential(1) : a.toPrecision(3));

  // ------------------------------------------------------------------------------------------------ the map

  const place = ([x, y]) => {
    const [left, right, bottom, top] = functions[state.name].view;
    return [((x - left) / (right - left)) * SIDE, ((top - y) / (top - bottom)) * SIDE];
  };
  const line = (points) => "M" + points.map((p) => place(p).map((a) => a.toFixed(1)).join(" ")).join("L");

  function contours(name, cells = 90) {
    const f = functions[name];
    const [left, right, bottom, top] = f.view;
    const at = (i, j) => [left + ((right - left) * i) / cells, bottom + ((top - bottom) * j) / cells];
    const grid = Array.from({ length: cells + 1 }, (_, i) =>
      Array.from({ length: cells + 1 }, (_, j) => f.value(at(i, j))),
    );
    const sorted = grid.flat().sort((a, b) => a - b);
    const levels = [0.01, 0.03, 0.07, 0.13, 0.21, 0.31, 0.43, 0.57, 0.72, 0.88].map(
      (share) => sorted[Math.floor(share * sorted.length)],
    );
    return levels.map((level) => {
      const pieces = [];
      for (let i = 0; i < cells; i++)
        for (let j = 0; j < cells; j++) {
          const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
          const crossings = corners.flatMap(([a, b], k) => {
            const [c, d] = corners[(k + 1) % 4];
            const [p, q] = [grid[a][b] - level, grid[c][d] - level];
            if (p < 0 === q < 0) return [];
            const t = p / (p - q);
            return [at(a + t * (c - a), b + t * (d - b))];
          });
          for (let k = 0; k + 1 < crossings.length; k += 2) pieces.push(line([crossings[k], crossings[k + 1]]));
        }
      return make("path", { d: pieces.join(""), class: "contour" });
    });
  }

  const map = make("svg", {
    viewBox: `0 0 ${SIDE} ${SIDE}`,
    tabindex: 0,
    role: "application",
    "aria-label": "Map of the function. Arrow keys move the start; with Shift, further.",
  });
  const layers = { land: make("g"), paths: make("g"), start: make("g", { class: "start" }) };
  map.append(layers.land, layers.paths, layers.start);

  function drawLand() {
    const f = functions[state.name];
    const mark = (kind, sign) => (point) => {
      const [x, y] = place(point);
      return make("text", { x, y, class: "stationary" }, make("title", {}, kind), sign);
    };
    layers.land.replaceChildren(
      ...contours(state.name),
      ...f.minima.map(mark("minimum", "★")),
      ...(f.saddles || []).map(mark("saddle", "✕")),
    );
  }

  function drawPaths() {
    const rows = [];
    layers.paths.replaceChildren();
    for (const method of state.chosen) {
      const path = run(state.name, method, hyper[method], state.start, state.steps, state.noise);
      const [colour, dashes, marker] = style(method);
      const group = make("g", { stroke: colour, class: "path" }, make("title", {}, methods[method].title));
      group.append(make("path", { d: line(path), "stroke-dasharray": dashes, fill: "none" }));
      const every = Math.max(1, Math.floor(path.length / 8));
      path.forEach((point, k) => {
        if (k === 0 || (k % every && k !== path.length - 1)) return;
        const [x, y] = place(point);
        group.append(make("path", { d: MARKERS[marker], transform: `translate(${x} ${y})`, fill: colour }));
      });
      const [x, y] = along(path, 0.35 + 0.05 * (rows.length % 5));
      group.append(make("text", { x: x + 8, y: y - 6, class: "name", fill: colour }, letter(method)));
      layers.paths.append(group);
      rows.push([method, path]);
    }
    const [x, y] = place(state.start);
    layers.start.setAttribute("transform", `translate(${x} ${y})`);
    table(rows);
  }

  function along(path, share) {
    // The place at a share of the path's length: what is drawn there does not lie on the common end of all paths.
    const places = path.map(place);
    const lengths = places.slice(1).map((p, k) => norm([p[0] - places[k][0], p[1] - places[k][1]]));
    let left = share * lengths.reduce((a, b) => a + b, 0);
    const k = lengths.findIndex((length) => (left -= length) <= 0);
    const t = k < 0 ? 0 : 1 + left / (lengths[k] || 1);
    const [p, q] = [places[Math.max(k, 0)], places[Math.max(k, 0) + 1] || places[0]];
    return [p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])];
  }

  // ------------------------------------------------------------------------------------------------ the table

  const results = make("tbody");

  function table(rows) {
    const f = functions[state.name];
    results.replaceChildren(
      ...rows.map(([method, path]) => {
        const x = path.at(-1);
        const [colour, dashes, marker] = style(method);
        const sample = make("svg", { viewBox: "0 0 48 12", class: "sample", "aria-hidden": "true" });
        sample.append(
          make("path", { d: "M0 6H48", stroke: colour, "stroke-dasharray": dashes }),
          make("path", { d: MARKERS[marker], transform: "translate(24 6)", fill: colour, stroke: colour }),
        );
        return make(
          "tr",
          {},
          make("td", {}, sample),
          make("th", { scope: "row" }, `${letter(method)} ${methods[method].title}`),
          ...[path.length - 1, number(f.value(x)), number(norm(f.grad(x))), ended(f, x)].map((v) => make("td", {}, `${v}`)),
        );
      }),
    );
  }

  function ended(f, x) {
    const [left, right] = f.view;
    const places = { minimum: f.minima, saddle: f.saddles || [] };
    for (const [word, radius] of [["at", 0.02], ["near", 0.06 * (right - left)]])
      for (const [kind, points] of Object.entries(places))
        if (points.some((p) => norm([x[0] - p[0], x[1] - p[1]]) < radius)) return `${word} a ${kind}`;
    return "on its way";
  }

  // ------------------------------------------------------------------------------------------------ controls

  const knobs = make("div", { class: "knobs" });
  const settings = make("fieldset");

  function slider(title, range, logarithmic, at, change, round = (a) => a) {
    const to = logarithmic ? Math.log10 : (a) => a;
    const from = logarithmic ? (a) => round(10 ** a) : round;
    const [low, high] = range.map(to);
    const input = make("input", { type: "range", min: low, max: high, step: (high - low) / 200, value: to(at) });
    const shown = make("output", {}, number(at));
    input.addEventListener("input", () => {
      shown.textContent = number(from(+input.value));
      change(from(+input.value));
      drawPaths();
    });
    return make("label", {}, make("span", {}, title), input, shown);
  }

  function drawKnobs() {
    knobs.replaceChildren(
      ...[...state.chosen].flatMap((method) => {
        const known = Object.entries(methods[method].knobs);
        if (!known.length) return [];
        const sliders = known.map(([knob, [low, , high]]) =>
          slider(knob, [low, high], low > 0 && high / low >= 100, hyper[method][knob], (v) => (hyper[method][knob] = v)),
        );
        return [make("fieldset", {}, make("legend", {}, methods[method].title), ...sliders)];
      }),
    );
  }

  function drawSettings() {
    const { noise } = state;
    settings.replaceChildren(
      make("legend", {}, "Run"),
      slider("steps", [1, 400], true, state.steps, (v) => (state.steps = v), Math.round),
      slider("noise, sd", [0, functions[state.name].noise], false, noise.sd, (v) => (noise.sd = v)),
      slider("noise, seed", [0, 200], false, noise.seed, (v) => (noise.seed = v), Math.round),
    );
  }

  function choose(name) {
    state.name = name;
    state.start = functions[name].start;
    state.noise.sd = 0;
    for (const method of Object.keys(methods)) hyper[method] = defaults(method, name);
    formula.textContent = functions[name].formula;
    drawLand();
    drawSettings();
    drawKnobs();
    drawPaths();
  }

  function moveTo(point) {
    const [left, right, bottom, top] = functions[state.name].view;
    state.start = [Math.min(Math.max(point[0], left), right), Math.min(Math.max(point[1], bottom), top)];
    drawPaths();
  }

  const under = (event) => {
    const box = map.getBoundingClientRect();
    const [left, right, bottom, top] = functions[state.name].view;
    return [
      left + ((event.clientX - box.left) / box.width) * (right - left),
      top - ((event.clientY - box.top) / box.height) * (top - bottom),
    ];
  };
  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    moveTo(under(event));
  });
  map.addEventListener("pointermove", (event) => event.buttons && moveTo(under(event)));
  map.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] || [];
    if (dx === undefined) return;
    event.preventDefault();
    const [left, right, bottom, top] = functions[state.name].view;
    // To the next multiple of the stride, so that x = 0 is met exactly from wherever a pointer has left the start.
    const next = (at, by, stride) => (by > 0 ? Math.floor(at / stride + 1e-9) + 1 : Math.ceil(at / stride - 1e-9) - 1) * stride;
    const share = event.shiftKey ? 0.05 : 0.005;
    const [x, y] = state.start;
    moveTo([dx ? next(x, dx, share * (right - left)) : x, dy ? next(y, dy, share * (top - bottom)) : y]);
  });

  const select = make("select");
  for (const [name, { title }] of Object.entries(functions)) select.append(make("option", { value: name }, title));
  select.value = state.name;
  select.addEventListener("change", () => choose(select.value));
  const formula = make("code");

  const boxes = make("fieldset", { class: "methods" }, make("legend", {}, "Methods"));
  for (const [method, { title }] of Object.entries(methods)) {
    const box = make("input", { type: "checkbox", ...(state.chosen.has(method) ? { checked: "" } : {}) });
    box.addEventListener("change", () => {
      state.chosen[box.checked ? "add" : "delete"](method);
      drawKnobs();
      drawPaths();
    });
    boxes.append(make("label", {}, box, ` ${letter(method)} ${title}`));
  }

  layers.start.append(make("path", { d: "M-11 0H11M0 -11V11" }), make("path", { d: "M-7 0a7 7 0 1 0 14 0a7 7 0 1 0 -14 0" }));
  const head = ["", "method", "steps", "f", "|grad f|", "where"].map((title) => make("th", { scope: "col" }, title));
  const outcome = make("table", { "aria-live": "polite" }, make("thead", {}, make("tr", {}, ...head)), results);
  const controls = make("div", { class: "controls" }, make("label", {}, make("span", {}, "Function"), select), formula);
  controls.append(boxes, settings, knobs);
  root.replaceChildren(make("div", { class: "board" }, map, make("div", { class: "scroll" }, outcome)), controls);
  choose(state.name);
})();
