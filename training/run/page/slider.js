// Shows one of several pictures in figure.samples; which one is chosen by a slider, with mouse, fingers or arrow keys.
(() => {
  for (const figure of document.querySelectorAll("figure.samples")) {
    const frames = JSON.parse(figure.querySelector("script").textContent);
    const image = figure.querySelector("img");
    const slider = figure.querySelector("input");
    const label = figure.querySelector(".moment");
    const show = () => {
      const frame = frames[slider.value];
      image.src = frame.source;
      image.alt = frame.alt;
      label.textContent = frame.label;
      slider.setAttribute("aria-valuetext", frame.label);
    };
    slider.addEventListener("input", show);
    show();
  }
})();
