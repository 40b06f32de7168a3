// Draw every figure in the fonts and colours of the page, again where these or the width change.
function style() {
  const root = getComputedStyle(document.documentElement);
  const colour = name => root.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--rule"), zerolinecolor: colour("--rule"), linecolor: colour("--soft"), ticks: "outside",
    tickcolor: colour("--soft"), automargin: true };
  return { ink: colour("--ink"), paper: colour("--paper"), rule: colour("--rule"), axis };
}
function draw(element) {
  const figure = JSON.parse(element.querySelector("script").textContent);
  const { ink, paper, rule, axis } = style();
  const entries = figure.layout.showlegend === false ? 0 : figure.data.filter(trace => trace.showlegend !== false).length;
  const legend = { orientation: "h", x: 0, xanchor: "left", y: -0.22, yanchor: "top", font: { size: 12 }, ...figure.layout.legend };
  Plotly.react(element.plot, figure.data, {
    ...figure.layout,
    font: { family: "system-ui, sans-serif", size: 12, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 52, r: 12, t: 12, b: 44, ...figure.layout.margin },
    height: (figure.layout.height || 330) + 22 * Math.ceil(entries / Math.max(1, Math.floor(element.clientWidth / 200))),
    hoverlabel: { bgcolor: paper, bordercolor: rule, font: { color: ink, size: 12 }, align: "left" },
    legend,
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, ...figure.layout.yaxis },
  }, { responsive: true, displayModeBar: false });
}
const plots = [...document.querySelectorAll(".plot")];
for (const element of plots) {
  element.plot = element.appendChild(document.createElement("div"));
  draw(element);
}
for (const group of document.querySelectorAll("[data-shared-legend]")) {
  const [first, ...others] = [...group.querySelectorAll(".plot")].map(element => element.plot);
  first.on("plotly_restyle", () => {
    const visible = Object.fromEntries(first.data.map(trace => [trace.name, trace.visible ?? true]));
    for (const plot of others) Plotly.restyle(plot, { visible: plot.data.map(trace => visible[trace.name] ?? true) });
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(draw));
