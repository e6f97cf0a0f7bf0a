// Latent map: points on a canvas; hover shows a case's image, a click keeps it. Nothing is loaded from elsewhere.

const WIDE = 560, HIGH = 440, MARGIN = 24, REACH = 14, SHOWN = 208;

// Outlines of the markers around (0, 0), about 1 in radius; names as matplotlib has them.
const PATHS = {
  o: null,
  s: [[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]],
  "^": [[0, -1.1], [1.05, 0.85], [-1.05, 0.85]],
  v: [[0, 1.1], [1.05, -0.85], [-1.05, -0.85]],
  D: [[0, -1.15], [1.15, 0], [0, 1.15], [-1.15, 0]],
  P: [[-0.35, -1.1], [0.35, -1.1], [0.35, -0.35], [1.1, -0.35], [1.1, 0.35], [0.35, 0.35], [0.35, 1.1], [-0.35, 1.1],
      [-0.35, 0.35], [-1.1, 0.35], [-1.1, -0.35], [-0.35, -0.35]],
  X: [[-1.05, -0.6], [-0.6, -1.05], [0, -0.45], [0.6, -1.05], [1.05, -0.6], [0.45, 0], [1.05, 0.6], [0.6, 1.05],
      [0, 0.45], [-0.6, 1.05], [-1.05, 0.6], [-0.45, 0]],
  "*": Array.from({ length: 10 }, (_, n) => {
    const radius = n % 2 ? 0.5 : 1.25, angle = (n * Math.PI) / 5;
    return [radius * Math.sin(angle), -radius * Math.cos(angle)];
  }),
};

function mark(pen, marker, x, y, radius) {
  pen.beginPath();
  const path = PATHS[marker];
  if (!path) pen.arc(x, y, marker === "." ? 0.6 * radius : radius, 0, 2 * Math.PI);
  else path.forEach(([u, v], n) => (n ? pen.lineTo : pen.moveTo).call(pen, x + radius * u, y + radius * v));
  pen.closePath();
  pen.fill();
  pen.stroke();
}

function canvas(width, height, name) {
  const one = document.createElement("canvas"), sharp = window.devicePixelRatio || 1;
  one.className = name;
  one.width = width * sharp;
  one.height = height * sharp;
  one.style.width = `${width}px`;
  one.style.height = `${height}px`;
  const pen = one.getContext("2d");
  pen.scale(sharp, sharp);
  return [one, pen];
}

function element(kind, name, parent) {
  const one = document.createElement(kind);
  one.className = name;
  parent.appendChild(one);
  return one;
}

// A copy that is aligned for typed arrays, whatever offset the message had.
function bytes(view) {
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}

function render({ model, el }) {
  const points = new Float32Array(bytes(model.get("points"))), styles = new Uint16Array(bytes(model.get("styles")));
  const colors = model.get("colors"), markers = model.get("markers"), texts = model.get("texts");
  const side = model.get("side"), columns = model.get("columns"), count = points.length / 2;
  const hidden = new Set(), radius = Math.min(6, Math.max(2.2, 90 / Math.sqrt(count)));
  let hovered = -1, kept = [...model.get("selected")], pressed = null;

  let low = [Infinity, Infinity], high = [-Infinity, -Infinity];
  for (let n = 0; n < count; n++) {
    if (!Number.isFinite(points[2 * n] + points[2 * n + 1])) continue;
    for (const axis of [0, 1]) {
      low[axis] = Math.min(low[axis], points[2 * n + axis]);
      high[axis] = Math.max(high[axis], points[2 * n + axis]);
    }
  }
  const fit = [0, 1].map((axis) => ([WIDE, HIGH][axis] - 2 * MARGIN) / (high[axis] - low[axis] || 1));
  let zoom = 1, shift = [0, 0];
  const across = (n) => zoom * (MARGIN + fit[0] * (points[2 * n] - low[0])) + shift[0];
  const down = (n) => zoom * (HIGH - MARGIN - fit[1] * (points[2 * n + 1] - low[1])) + shift[1];
  const usable = (n) => Number.isFinite(points[2 * n] + points[2 * n + 1]) && !hidden.has(styles[n]);

  const root = element("div", "medlab-map", el);
  const [map, pen] = canvas(WIDE, HIGH, "medlab-map-points");
  map.tabIndex = 0;
  map.setAttribute("role", "application");
  map.setAttribute("aria-label", `Map of ${count} cases. Arrow keys go from point to point, Enter keeps one.`);
  root.appendChild(map);
  const panel = element("div", "medlab-map-side", root);
  const [picture, brush] = canvas(SHOWN, SHOWN, "medlab-map-picture");
  const text = element("div", "medlab-map-text", panel);
  text.setAttribute("aria-live", "polite");
  const legend = element("div", "medlab-map-legend", panel), shelf = element("div", "medlab-map-kept", panel);
  element("div", "medlab-map-help", panel).textContent =
    "Hover: the image. Click or Enter: keep it. Drag, wheel: move, enlarge. Double click: all.";

  const sheet = new Image();
  if (side) {
    panel.prepend(picture);
    sheet.onload = () => { look(hovered); shelve(); };
    sheet.src = URL.createObjectURL(new Blob([bytes(model.get("sheet"))], { type: "image/png" }));
  }

  function thumbnail(target, n, size) {
    target.imageSmoothingEnabled = false;
    target.clearRect(0, 0, size, size);
    if (n >= 0 && sheet.complete && sheet.naturalWidth)
      target.drawImage(sheet, (n % columns) * side, Math.floor(n / columns) * side, side, side, 0, 0, size, size);
  }

  function draw() {
    pen.clearRect(0, 0, WIDE, HIGH);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, WIDE, HIGH);
    pen.lineWidth = 0.4;
    pen.strokeStyle = "#fff";
    const size = radius * Math.min(2, Math.sqrt(zoom));
    for (let n = 0; n < count; n++) {
      if (!usable(n)) continue;
      pen.fillStyle = colors[styles[n]];
      mark(pen, markers[styles[n]], across(n), down(n), size);
    }
    pen.lineWidth = 2;
    for (const n of kept.filter(usable)) ring(n, size + 3, "#111");
    if (hovered >= 0) ring(hovered, size + 5, "#D55E00");
    pen.fillStyle = "#444";
    pen.font = "12px sans-serif";
    pen.textAlign = "center";
    pen.fillText(`${model.get("axes")[0]} →`, WIDE / 2, HIGH - 6);
    pen.save();
    pen.translate(13, HIGH / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(`${model.get("axes")[1]} →`, 0, 0);
    pen.restore();
  }

  function ring(n, size, color) {
    pen.strokeStyle = color;
    pen.beginPath();
    pen.arc(across(n), down(n), size, 0, 2 * Math.PI);
    pen.stroke();
  }

  function look(n) {
    hovered = n;
    map.dataset.hovered = n;
    text.textContent = n < 0 ? "" : texts[n];
    if (side) thumbnail(brush, n, SHOWN);
    draw();
  }

  function near(x, y, reach) {
    let best = -1, least = reach * reach;
    for (let n = 0; n < count; n++) {
      if (!usable(n)) continue;
      const distance = (across(n) - x) ** 2 + (down(n) - y) ** 2;
      if (distance < least) [best, least] = [n, distance];
    }
    return best;
  }

  // The nearest point within 45 degrees of a direction.
  function step(right, below) {
    if (hovered < 0) return look(near(WIDE / 2, HIGH / 2, Infinity));
    let best = -1, least = Infinity;
    for (let n = 0; n < count; n++) {
      if (n === hovered || !usable(n)) continue;
      const x = across(n) - across(hovered), y = down(n) - down(hovered);
      const along = x * right + y * below, aside = Math.abs(x * below) + Math.abs(y * right);
      if (along > 0 && aside <= along && x * x + y * y < least) [best, least] = [n, x * x + y * y];
    }
    if (best >= 0) look(best);
  }

  function keep(n) {
    const is_new = !kept.includes(n);
    kept = is_new ? [...kept, n] : kept.filter((one) => one !== n);
    model.set("selected", kept);
    model.save_changes();
    if (is_new) model.send({ clicked: n });
    shelve();
    draw();
  }

  function shelve() {
    shelf.replaceChildren();
    for (const n of kept) {
      const button = element("button", "", shelf);
      button.title = `${texts[n]}. Click: no longer keep it.`;
      button.setAttribute("aria-label", button.title);
      button.onclick = () => keep(n);
      button.onmouseenter = button.onfocus = () => look(n);
      if (!side) button.textContent = texts[n];
      else {
        const [small, ink] = canvas(48, 48, "");
        thumbnail(ink, n, 48);
        button.appendChild(small);
      }
    }
  }

  for (const { name, style, count: cases } of model.get("legend")) {
    if (style < 0) continue;
    const line = element("label", "", legend), box = element("input", "", line);
    box.type = "checkbox";
    box.checked = true;
    box.onchange = () => {
      hidden[box.checked ? "delete" : "add"](style);
      look(hovered >= 0 && usable(hovered) ? hovered : -1);
    };
    const [sample, ink] = canvas(18, 18, "");
    ink.fillStyle = colors[style];
    ink.strokeStyle = "#fff";
    mark(ink, markers[style], 9, 9, 6);
    line.append(sample, ` ${name} (${cases})`);
  }

  const place = (event) => {
    const box = map.getBoundingClientRect();
    return [((event.clientX - box.left) * WIDE) / box.width, ((event.clientY - box.top) * HIGH) / box.height];
  };
  map.onpointermove = (event) => {
    const [x, y] = place(event);
    if (pressed) {
      if (Math.hypot(x - pressed.x, y - pressed.y) > 4) pressed.moved = true;
      if (pressed.moved) {
        shift = [pressed.shift[0] + x - pressed.x, pressed.shift[1] + y - pressed.y];
        return draw();
      }
    }
    const found = near(x, y, REACH);
    if (found !== hovered) look(found);
  };
  map.onpointerdown = (event) => {
    const [x, y] = place(event);
    pressed = { x, y, shift: [...shift], moved: false };
    map.setPointerCapture(event.pointerId);
  };
  map.onpointerup = (event) => {
    const found = pressed && !pressed.moved ? near(...place(event), REACH) : -1;
    pressed = null;
    if (found >= 0) keep(found);
  };
  map.onpointercancel = () => { pressed = null; };
  map.ondblclick = (event) => {
    if (near(...place(event), REACH) >= 0) return;
    [zoom, shift] = [1, [0, 0]];
    draw();
  };
  map.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x, y] = place(event), next = Math.min(60, Math.max(1, zoom * Math.exp(-0.0015 * event.deltaY)));
    shift = next === 1 ? [0, 0] : [x - ((x - shift[0]) * next) / zoom, y - ((y - shift[1]) * next) / zoom];
    zoom = next;
    draw();
  }, { passive: false });
  map.onkeydown = (event) => {
    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (ways[event.key]) step(...ways[event.key]);
    else if ((event.key === "Enter" || event.key === " ") && hovered >= 0) keep(hovered);
    else if (event.key === "Escape") look(-1);
    else return;
    // The notebook must not take these keys as its own: Enter would edit the cell, arrows would leave it.
    event.preventDefault();
    event.stopPropagation();
  };

  const follow = () => { kept = [...model.get("selected")]; shelve(); draw(); };
  model.on("change:selected", follow);
  look(-1);
  shelve();
  return () => {
    model.off("change:selected", follow);
    URL.revokeObjectURL(sheet.src);
  };
}

export default { render };
