"use strict";
// Draws the page's plots from their arrays when they come into view, and again when another moment is chosen.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  // An array is {base64, shape}: 32-bit floats, or in a matrix one byte a number, from low to high; 255 is missing.
  const decode = (value) => {
    if (Array.isArray(value)) return value.map(decode);
    if (value === null || typeof value !== "object") return value;
    if ("names" in value) return page.names[value.names];
    if (!("base64" in value)) return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, decode(part)]));
    const raw = bytes(value.base64);
    if (value.shape.length === 1) return new Float32Array(raw.buffer);
    const [rows, columns] = value.shape;
    const scale = (value.high - value.low) / 254;
    return Array.from({ length: rows }, (_, row) =>
      Float32Array.from(raw.subarray(row * columns, (row + 1) * columns), (code) =>
        code === 255 ? NaN : value.low + scale * code));
  };

  const base = {
    font: { family: "system-ui, sans-serif", size: 12, color: "#222" }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    hoverlabel: { font: { size: 12 } }, dragmode: window.matchMedia("(pointer: fine)").matches ? "zoom" : false,
  };
  const config = { responsive: true, displayModeBar: false, scrollZoom: false };
  const slider = document.getElementById("moment");
  let moment = page.start;

  const draw = (figure) => {
    const plot = page.plots[Number(figure.dataset.plot)];
    const box = figure.querySelector(".plot");
    const traces = decode(plot.frames[moment]);
    const layout = Object.assign({}, base, JSON.parse(JSON.stringify(plot.layout)));
    if (layout.height) box.style.height = `${layout.height}px`;
    figure.classList.toggle("empty", !traces.length);
    figure.querySelector(".note").innerHTML = plot.notes[moment] || "";
    if (traces.length) Plotly.react(box, traces, layout, config);
    else Plotly.purge(box);
    figure.dataset.moment = String(moment);
  };

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.dataset.visible = isIntersecting ? "1" : "";
      if (isIntersecting && target.dataset.moment !== String(moment)) draw(target);
    }
  }, { rootMargin: "200px" });

  const figures = Array.from(document.querySelectorAll("figure"));
  figures.forEach((figure) => seen.observe(figure));

  for (const select of document.querySelectorAll("select")) {
    select.addEventListener("change", () => {
      for (const view of select.closest("section").querySelectorAll(".plots")) view.hidden = view.dataset.view !== select.value;
    });
  }

  const show = (number) => {
    moment = number;
    for (const table of document.querySelectorAll("[data-of-moment]")) table.hidden = table.dataset.ofMoment !== String(number);
    const output = document.getElementById("step");
    if (output) output.textContent = page.moments[number];
    for (const figure of figures) if (figure.dataset.visible) draw(figure);
  };
  if (slider) slider.addEventListener("input", () => show(Number(slider.value)));
  show(moment);
})();
