// Draws each figure when it comes into view, in the colours of the page; again when the page turns light or dark.
(() => {
  const places = [...document.querySelectorAll(".plot")];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const painted = (value) => {
    if (Array.isArray(value)) return value.map(painted);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v)]));
    return typeof value === "string" && value.startsWith("--") ? colour(value) : value;
  };
  const draw = (place) => {
    const figure = painted(JSON.parse(document.getElementById(place.dataset.figure).textContent));
    place.textContent = "";
    place.dataset.drawn = "1";
    Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  };
  if (!window.Plotly) {
    places.forEach((place) => {
      place.textContent = "This plot needs the file " + document.body.dataset.plotly + " beside the report; `k4 report --single-file` writes a page that needs nothing.";
    });
    return;
  }
  const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
  }), { rootMargin: "400px" });
  places.forEach((place) => seen.observe(place));
  const again = () => places.filter((place) => place.dataset.drawn).forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach((d) => { d.open = true; }); places.forEach(draw); });
})();
