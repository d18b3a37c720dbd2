// Draws charts: `distill.chart(id, figure)`. Colours that a figure names, "@ink" or "@0/0.2", become those of the theme.
(function () {
  if (window.distill) return;
  const themes = "THEMES";
  const system = matchMedia("(prefers-color-scheme: dark)");

  // A notebook's own theme counts more than the system's.
  function dark() {
    const body = document.body;
    if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
    if (body.dataset.vscodeThemeKind) return /dark|contrast$/.test(body.dataset.vscodeThemeKind);
    return system.matches;
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

  let loading;
  function plotly() {
    if (window.Plotly) return Promise.resolve();
    const held = document.getElementById("packed-plotly.js");
    if (!held) return Promise.reject(new Error("This page has no plotly.js."));
    const { address, integrity } = held.dataset;
    loading ??= address
      ? script({ src: address, crossOrigin: "anonymous", integrity: integrity ?? "" })
      : unpack("plotly.js").then((text) => script({ textContent: text }));
    return loading;
  }

  const charts = new Map();
  let drawn = Promise.resolve();

  function draw(element) {
    const figure = themed(charts.get(element), dark() ? themes.dark : themes.light);
    // Without a pointer that hovers, the buttons would cover the chart all the time.
    const displayModeBar = matchMedia("(hover: hover)").matches ? "hover" : false;
    return Plotly.react(element, figure.data, figure.layout, { displayModeBar, ...figure.config });
  }

  function chart(id, figure) {
    const element = typeof id === "string" ? document.getElementById(id) : id;
    charts.set(element, figure);
    drawn = Promise.all([
      drawn,
      plotly()
        .then(() => draw(element))
        .catch((error) => {
          element.textContent = error.message;
          console.error(error);
        }),
    ]).then(() => undefined);
    return drawn;
  }

  function redraw() {
    for (const element of charts.keys())
      if (element.isConnected) draw(element);
      else charts.delete(element);
  }
  system.addEventListener("change", redraw);
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
