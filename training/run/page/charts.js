// Fills each figure.chart from the JSON in it. Colors come from the style sheet, so that they follow the theme.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const range = (_plot, low, high) => {
    if (low !== high) return uPlot.rangeNum(low, high, 0.1, true);
    return low ? [low - Math.abs(low) / 2, low + Math.abs(low) / 2] : [0, 1];
  };
  const number = (value) => Math.abs(value) < 9999.5 ? value.toPrecision(4) : value.toFixed();  // not 1.235e+4
  const sample = (stroke, dash) => {  // a background for the legend that looks like the line
    let end = 0;
    const parts = dash.map((length, i) => `${i % 2 ? "transparent" : stroke} ${end}px ${end += length}px`);
    return parts.length ? `repeating-linear-gradient(90deg, ${parts.join(", ")})` : stroke;
  };
  const drawn = new Map();
  const draw = (figure) => {
    const plot = figure.querySelector(".plot");
    const data = JSON.parse(figure.querySelector("script").textContent);
    const columns = [data.x];
    const series = [{label: data.xLabel}];
    const samples = ["none"];
    const bands = [];
    for (const curve of data.curves) {
      const stroke = color(`--line-${curve.color}`);
      const isShort = curve.y.filter((value) => value !== null).length < 20;
      columns.push(curve.y);
      series.push({label: curve.label, stroke, width: 2, spanGaps: true, dash: curve.dash.map((px) => px * devicePixelRatio),
                   points: {show: isShort, size: 6}, value: (_plot, value) => value === null ? "-" : number(value)});
      samples.push(sample(stroke, curve.dash));
      if (curve.low) {
        const first = columns.length;
        for (const edge of [curve.high, curve.low]) {
          columns.push(edge);
          series.push({class: "edge", stroke: "transparent", width: 0, spanGaps: true, points: {show: false}});
          samples.push("none");
        }
        bands.push({series: [first, first + 1], fill: stroke + "33"});
      }
    }
    const axis = (label) => ({label, stroke: color("--text"), grid: {stroke: color("--grid")},
                              ticks: {stroke: color("--grid")}, labelSize: 22, labelFont: "13px system-ui",
                              font: "12px system-ui"});
    // By default there would be three decimals at most, and small probabilities would all be 0.
    const tickTexts = (_plot, splits) => splits.map((split) => split === null ? "" : String(+split.toPrecision(6)));
    drawn.get(figure)?.destroy();  // else it would go on listening to the window
    drawn.set(figure, new uPlot({
      width: plot.clientWidth,
      height: Math.max(220, Math.min(360, plot.clientWidth * 0.55)),
      scales: {x: {time: false}, y: {range}},
      axes: [axis(data.xLabel), {...axis(), size: 64, values: tickTexts}],
      legend: {markers: {width: 0, fill: (_plot, i) => samples[i]}},
      series, bands,
    }, columns, plot));
  };
  const drawAll = () => document.querySelectorAll("figure.chart").forEach(draw);
  let width = document.body.clientWidth;
  drawAll();
  new ResizeObserver(() => {
    if (document.body.clientWidth !== width) {
      width = document.body.clientWidth;
      setTimeout(drawAll);  // not within the notification, which may not cause another
    }
  }).observe(document.body);
  dark.addEventListener("change", drawAll);
})();
