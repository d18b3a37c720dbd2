// Draws charts: `distill.chart(id, figure)`. Colours that a figure names, "@ink" or "@0/0.2", become those of the theme.
(function () {
  if (window.distill) return;
  const themes = "THEMES";

  // Notebooks have themes of their own, whatever the system's: a theme with light text is a dark one.
  function dark(element = document.body) {
    const [red, green, blue] = getComputedStyle(element).color.match(/[\d.]+/g).map(Number);
    return red + green + blue > 384;
  }

  function colour(word, theme) {
    const [name, opacity] = word.slice(1).split("/");
    const hex = theme[name];
    if (!hex) return word;
    if (!opacity) return hex;
    const channel = (at) => parseInt(hex.slice(at, at + 2), 16);
    return `rgba(${channel(1)},${channel(3)},${channel(5)},${opacity})`;
  }

  function themed(value, theme) {
    if (typeof value === "string") return value[0] === "@" ? colour(value, theme) : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map((v) => themed(v, theme));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, theme)]));
    return value;
  }

  async function unpack(name) {
    const bytes = Uint8Array.from(atob(document.getElementById("packed-" + name).textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  function script(properties) {
    return new Promise((resolve, reject) => {
      const element = Object.assign(document.createElement("script"), properties);
      element.onload = resolve;
      element.onerror = () => reject(new Error("plotly.js could not be loaded from " + element.src));
      document.head.append(element);
      if (!element.src) resolve();
    });
  }

  const held = () => document.getElementById("packed-plotly.js");

  // In a notebook, the output that holds plotly.js may come into the page after the first chart.
  function arrival() {
    return new Promise((resolve) => {
      const look = () => held() && (observer.disconnect(), resolve());
      const observer = new MutationObserver(look);
      observer.observe(document, { childList: true, subtree: true });
      look();
    });
  }

  async function load() {
    await arrival();
    const { address, integrity } = held().dataset;
    if (address) await script({ src: address, crossOrigin: "anonymous", integrity: integrity ?? "" });
    else await script({ textContent: await unpack("plotly.js") });
  }

  let loading;
  function plotly(element) {
    if (window.Plotly) return Promise.resolve();
    if (!held()) element.textContent = "Run the notebook's first cell, the one with #load: it gives charts their library.";
    return (loading ??= load());
  }

  const charts = new Map();
  let drawn = Promise.resolve();

  function draw(element) {
    const figure = themed(charts.get(element), dark(element) ? themes.dark : themes.light);
    // Without a pointer that hovers, the buttons would cover the chart all the time.
    const displayModeBar = matchMedia("(hover: hover)").matches ? "hover" : false;
    return Plotly.react(element, figure.data, figure.layout, { displayModeBar, ...figure.config });
  }

  // One after another: a chart that is replaced while it is being drawn would be left half done.
  function chart(id, figure) {
    const element = typeof id === "string" ? document.getElementById(id) : id;
    charts.set(element, figure);
    drawn = Promise.all([drawn, plotly(element)])
      .then(() => {
        // plotly.js would take a chart whose elements are gone for one that it has only to update.
        Plotly.purge(element);
        element.replaceChildren();
        return draw(element);
      })
      .then(() => undefined)
      .catch((error) => {
        element.textContent = error.message;
        console.error(error);
      });
    return drawn;
  }

  function redraw() {
    for (const element of charts.keys())
      if (element.isConnected) draw(element);
      else charts.delete(element);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  const attributeFilter = ["data-jp-theme-light", "data-vscode-theme-kind"];
  new MutationObserver(redraw).observe(document, { subtree: true, attributeFilter });
  // Charts are measured before they are printed.
  addEventListener("beforeprint", redraw);

  // The first chart as a data URL, on the page's own background.
  async function image(options) {
    await drawn;
    const [element] = charts.keys();
    const theme = dark() ? themes.dark : themes.light;
    await Plotly.relayout(element, { paper_bgcolor: theme.paper });
    return Plotly.toImage(element, options);
  }

  window.distill = { chart, image, unpack, themes, dark, drawn: () => drawn };
})();
