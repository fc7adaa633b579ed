"use strict";
// Everything here is an addition: without it the page shows the same numbers and pictures, and does not move.

const read = (id) => JSON.parse(document.getElementById(id)?.textContent || "{}");

const duration = (seconds) => {
  const whole = Math.round(seconds);
  const parts = [[Math.floor(whole / 3600), "h"], [Math.floor((whole % 3600) / 60), "m"], [whole % 60, "s"]];
  return parts.filter(([amount]) => amount).map(([amount, unit]) => amount + unit).join("") || "0s";
};

const number = (value, digits) =>
  value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });

// ---- curves: the legend tells the values under the pointer, or where the arrow keys have gone

function nearest(xs, x) {
  let low = 0;
  let high = xs.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - xs[low - 1] <= xs[low] - x ? low - 1 : low;
}

function liven(figure, data) {
  const area = figure.querySelector(".area");
  const where = figure.querySelector(".where");
  const values = [...figure.querySelectorAll(".legend .value")];
  const lines = [...area.querySelectorAll(".line")];
  const atRest = [where.textContent, ...values.map((value) => value.textContent)];
  const moments = [...new Set(data.curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
  const cursor = document.createElement("div");
  cursor.className = "cursor";
  const dots = data.curves.map((_, i) => {
    const dot = document.createElement("div");
    dot.className = "dot";
    dot.style.background = getComputedStyle(lines[i]).stroke;
    return dot;
  });
  for (const mark of [cursor, ...dots]) {
    mark.hidden = true;
    area.append(mark);
  }
  const tell = (x) => (data.axis === "seconds" ? "after " + duration(x) : "at " + number(x, 0) + " pictures");
  let current = moments.length - 1;

  function show(x) {
    current = nearest(moments, x);
    const moment = moments[current];
    cursor.hidden = false;
    cursor.style.left = (100 * moment) / data.xHigh + "%";
    where.textContent = tell(moment);
    data.curves.forEach((curve, i) => {
      // A run that had ended by then has nothing to say there.
      const there = moment >= curve.x[0] && moment <= curve.x[curve.x.length - 1];
      const k = nearest(curve.x, moment);
      dots[i].hidden = !there;
      dots[i].style.background = getComputedStyle(lines[i]).stroke;
      dots[i].style.left = (100 * curve.x[k]) / data.xHigh + "%";
      dots[i].style.top = (100 * (data.high - curve.y[k])) / (data.high - data.low) + "%";
      values[i].textContent = there ? number(curve.y[k], data.digits) : "–";
    });
    area.setAttribute("aria-valuenow", current);
    const read = data.curves.map((curve, i) => curve.label + " " + values[i].textContent);
    area.setAttribute("aria-valuetext", [tell(moment), ...read].join(", "));
  }

  function rest() {
    if (document.activeElement === area) return;
    for (const mark of [cursor, ...dots]) mark.hidden = true;
    [where, ...values].forEach((element, i) => (element.textContent = atRest[i]));
  }

  area.tabIndex = 0;
  area.setAttribute("role", "slider");
  area.setAttribute("aria-valuemin", 0);
  area.setAttribute("aria-valuemax", moments.length - 1);
  area.setAttribute("aria-valuenow", current);
  area.setAttribute("aria-valuetext", atRest[0]);
  area.addEventListener("pointermove", (event) => {
    const box = area.getBoundingClientRect();
    show(((event.clientX - box.left) / box.width) * data.xHigh);
  });
  area.addEventListener("pointerdown", (event) => {
    const box = area.getBoundingClientRect();
    show(((event.clientX - box.left) / box.width) * data.xHigh);
  });
  area.addEventListener("pointerleave", rest);
  area.addEventListener("blur", rest);
  area.addEventListener("focus", () => show(moments[current]));
  area.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.round(moments.length / 10));
    const last = moments.length - 1;
    const to = {
      ArrowLeft: current - 1, ArrowDown: current - 1, ArrowRight: current + 1, ArrowUp: current + 1,
      PageDown: current - page, PageUp: current + page, Home: 0, End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(moments[Math.min(Math.max(to, 0), last)]);
  });
}

const charts = read("charts");
for (const figure of document.querySelectorAll("[data-chart]")) liven(figure, charts[figure.dataset.chart]);

// ---- films: a slider, and a button that moves it; the film of the training ends, an interpolation begins again

for (const film of document.querySelectorAll("[data-film]")) {
  const { frames, pictures } = read(film.dataset.film);
  if (frames.length < 2) continue;
  const image = film.querySelector("img");
  const slider = film.querySelector("input");
  const button = film.querySelector("button");
  const output = film.querySelector("output");
  const name = slider.getAttribute("aria-label").replace("Moment of ", "");
  const last = frames.length - 1;
  let timer = 0;
  let touched = false;
  const show = () => {
    image.src = frames[slider.value];
    if (pictures) {
      const seen = number(pictures[slider.value], 0);
      image.alt = "Generated pictures after " + seen + " real ones had been seen";
      output.textContent = seen + " seen";
    } else {
      output.textContent = "step " + (+slider.value + 1) + " of " + frames.length;
    }
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  const pause = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
    button.setAttribute("aria-label", "Play " + name);
  };
  button.addEventListener("click", () => {
    if (timer) return pause();
    if (pictures && (!touched || +slider.value === last)) slider.value = 0; // the middle is only its poster
    touched = true;
    button.textContent = "Pause";
    button.setAttribute("aria-label", "Pause " + name);
    timer = setInterval(() => {
      slider.value = +slider.value === last ? 0 : +slider.value + 1;
      show();
      if (pictures && +slider.value === last) pause();
    }, Math.min(250, Math.max(40, 10000 / frames.length)));
  });
  slider.addEventListener("input", () => { touched = true; pause(); show(); });
  film.querySelector(".film-tools").hidden = false;
}

// ---- many small pictures, larger or smaller together

for (const block of document.querySelectorAll("[data-enlarge]")) {
  const output = block.querySelector("output");
  let level = 1;
  for (const button of block.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      level = Math.min(Math.max(level + Number(button.dataset.by), 1), 4);
      block.style.setProperty("--enlarged", level);
      block.classList.toggle("enlarged", level > 1);
      output.textContent = level + "×";
    });
  }
  block.querySelector(".zoom-tools").hidden = false;
}

// ---- zoom: + and −, a click on what is to be seen larger, or the keys

for (const zoom of document.querySelectorAll("[data-zoom]")) {
  const levels = [1, 2, 3, 4, 6];
  const view = zoom.querySelector(".zoom-view");
  const image = zoom.querySelector("img");
  const output = zoom.querySelector("output");
  let level = 0;
  const go = (to, x = 0.5, y = 0.5) => {
    const next = Math.min(Math.max(to, 0), levels.length - 1);
    if (level === 0) view.style.height = view.clientHeight + "px"; // the page keeps still while the picture grows
    level = next;
    if (level === 0) view.style.height = "";
    image.style.imageRendering = level ? "pixelated" : "";
    image.style.width = 100 * levels[level] + "%";
    image.style.cursor = level === levels.length - 1 ? "zoom-out" : "zoom-in";
    view.scrollTo(x * image.clientWidth - view.clientWidth / 2, y * image.clientHeight - view.clientHeight / 2);
    output.textContent = levels[level] + "×";
  };
  const centre = () => [
    (view.scrollLeft + view.clientWidth / 2) / image.clientWidth,
    (view.scrollTop + view.clientHeight / 2) / image.clientHeight,
  ];
  for (const button of zoom.querySelectorAll("button")) {
    button.addEventListener("click", () => go(level + Number(button.dataset.by), ...centre()));
  }
  image.addEventListener("click", (event) => {
    const to = level === levels.length - 1 ? 0 : level + 1;
    go(to, event.offsetX / image.clientWidth, event.offsetY / image.clientHeight);
  });
  view.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") go(level + 1, ...centre());
    else if (event.key === "-") go(level - 1, ...centre());
    else if (event.key === "Escape") go(0);
  });
  zoom.querySelector(".zoom-tools").hidden = false;
}

// ---- copy

for (const button of document.querySelectorAll("[data-copy]")) {
  const code = button.parentElement.querySelector("code");
  const select = () => {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  button.hidden = false;
  button.addEventListener("click", async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      select();
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Selected";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

// ---- the table: scores are sorted within what they can be compared with, never across

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const sort = (column) => {
    const head = heads[column];
    const down = head.getAttribute("aria-sort") === "ascending";
    const numeric = head.classList.contains("number");
    const grouped = head.classList.contains("score");
    const order = (a, b) => {
      const [one, other] = [a.cells[column], b.cells[column]];
      if (grouped && one.dataset.group !== other.dataset.group) return one.dataset.group - other.dataset.group;
      const [x, y] = [one.dataset.key, other.dataset.key];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const sign = numeric ? x - y : x.localeCompare(y);
      return down ? -sign : sign;
    };
    body.append(...[...body.rows].sort(order));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(column)));
}

// ---- pictures or time along the bottom

for (const choice of document.querySelectorAll("[data-axis]")) {
  const show = () => {
    const axis = choice.querySelector("input:checked").value;
    for (const charts of document.querySelectorAll("[data-over]")) charts.hidden = charts.dataset.over !== axis;
  };
  choice.addEventListener("change", show);
  choice.hidden = false;
  show();
}
