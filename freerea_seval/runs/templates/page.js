// Draw every figure in the fonts and colours of the page when it comes into view, and again where these or the width change.
const root = document.documentElement;
const plots = [...document.querySelectorAll(".plot")];
function style() {
  const computed = getComputedStyle(root);
  const colour = name => computed.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--rule"), zerolinecolor: colour("--rule"), linecolor: colour("--soft"), ticks: "outside",
    tickcolor: colour("--soft"), automargin: true };
  return { ink: colour("--ink"), paper: colour("--paper"), soft: colour("--soft"), axis };
}
function draw(element, width) {
  const figure = JSON.parse(element.querySelector("script").textContent);
  const { ink, paper, soft, axis } = style();
  const named = figure.data.filter(trace => trace.showlegend !== false).map(trace => trace.name);
  const entries = figure.layout.showlegend === false || named.length < 2 ? 0 : named.length;
  const perRow = Math.max(1, Math.floor(element.clientWidth / (30 + 7 * Math.max(0, ...named.map(name => name.length)))));
  const rows = Math.ceil(entries / perRow);
  const height = figure.layout.height || 340;
  element.plot ??= element.appendChild(document.createElement("div"));
  Plotly.react(element.plot, figure.data, {
    ...figure.layout,
    showlegend: entries > 0,
    font: { family: "system-ui, sans-serif", size: 12, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 52, r: 12, t: 12, b: 50, ...figure.layout.margin },
    width,
    height: height + 22 * rows,
    hoverlabel: { bgcolor: paper, bordercolor: soft, font: { color: ink, size: 12 }, align: "left" },
    // Below the title of the axis, whatever the height: y is in units of the plot, without its margins.
    legend: { orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0, yanchor: "bottom", traceorder: "normal", font: { size: 12 } },
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, ...figure.layout.yaxis },
    annotations: (figure.layout.annotations ?? []).map(note => ({ bgcolor: note.showarrow === false ? paper : undefined, ...note, font: { color: ink, ...note.font } })),
  }, { responsive: width === undefined, displayModeBar: false });
}
function draw_group(element) {
  const group = element.closest("[data-shared-legend]");
  if (!group || element.plot) { if (!element.plot) draw(element); return; }
  const members = [...group.querySelectorAll(".plot")];
  for (const member of members) draw(member);
  const [first, ...others] = members.map(member => member.plot);
  first.on("plotly_restyle", () => {
    const visible = Object.fromEntries(first.data.map(trace => [trace.name, trace.visible ?? true]));
    for (const plot of others) Plotly.restyle(plot, { visible: plot.data.map(trace => visible[trace.name] ?? true) });
  });
}
async function start() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), letter => letter.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
  const observer = new IntersectionObserver(entries => entries.forEach(({ isIntersecting, target }) => {
    if (isIntersecting) { observer.unobserve(target); draw_group(target); }
  }), { rootMargin: "300px" });
  for (const element of plots) observer.observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.filter(e => e.plot).forEach(e => draw(e)));
  // On paper: light, all figures, at the width of the column of a portrait page.
  addEventListener("beforeprint", () => {
    root.classList.add("print");
    for (const element of plots) { draw_group(element); draw(element, element.closest(".single") ? 660 : 320); }
  });
  addEventListener("afterprint", () => { root.classList.remove("print"); plots.forEach(element => draw(element)); });
  root.dataset.ready = "";
}
start();
