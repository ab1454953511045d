// Reports the size of the page on load and after every change.
export default function ({ setStateValue }) {
  const listening = new AbortController();
  let told = "";
  const tell = () => {
    const page = { width: window.innerWidth, height: window.innerHeight, pixel_ratio: window.devicePixelRatio };
    if (JSON.stringify(page) === told) return;
    told = JSON.stringify(page);
    setStateValue("page", page);
  };
  tell();
  let waiting;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(tell, 200);
  };
  window.addEventListener("resize", later, { signal: listening.signal });
  return () => {
    clearTimeout(waiting);
    listening.abort();
  };
}
