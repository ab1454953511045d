// One comparison in the browser: honest times, zoom of all images at once, a ranking as it grows, the next images fetched early. Without it the page
// still works: its buttons are the page's own.

// what was measured so far, kept where Streamlit runs this function again for the same page
let page = { key: null };
let stop = () => {};

export default function ({ data: [data], setTriggerValue }) {
  stop();
  if (page.key !== data.key) {
    page = {
      key: data.key, arrived: performance.now(), shown: null, hiddenSince: null, hidden: 0, losses: 0, sent: -Infinity,
      seen: new Set(), order: data.pressed.split(" ").filter(Boolean), told: new Set([data.pressed]), lost: new Set(),
    };
  }
  if (page.fresh !== data.key) {
    page.fresh = data.key;
    document.documentElement.classList.remove("study-moved");
  }
  if (!page.told.has(data.pressed)) {
    // a button was faster than this script: what it did counts
    page.order = data.pressed.split(" ").filter(Boolean);
    page.told.add(data.pressed);
  }
  document.documentElement.lang = data.language;
  const listening = new AbortController();
  const on = (target, event, listener, options = {}) =>
    target.addEventListener(event, listener, { ...options, signal: listening.signal });
  stop = () => listening.abort();

  const { lost } = page;
  const places = Object.values(data.choices).filter((choice) => !["cannot_tell", "both_bad"].includes(choice));

  const note = (name, text) => {
    if (document.querySelector(`.${name}`)) return;
    const added = Object.assign(document.createElement("div"), { className: `study-said ${name}`, role: "alert" });
    added.append(Object.assign(document.createElement("span"), { textContent: text }));
    document.querySelector(".study-top").append(added);
  };

  // each image was half in sight at some time since the page came, and one is now; a bar of buttons at the bottom hides what is below it
  const sight = () => {
    const bar = document.querySelector(".st-key-answers");
    const fixed = bar && getComputedStyle(bar).position === "fixed";
    const bottom = fixed ? bar.getBoundingClientRect().top : window.innerHeight;
    return [...document.querySelectorAll(`.study-pair[data-page="${data.key}"] .view`)].map((view) => {
      const { top, bottom: end, height } = view.getBoundingClientRect();
      return Math.max(0, Math.min(end, bottom) - Math.max(top, 0)) / Math.max(1, Math.min(height, bottom));
    });
  };
  const look = () => sight().forEach((share, number) => share >= 0.5 && page.seen.add(number));
  const inSight = () => {
    look();
    const shares = sight();
    return shares.length > 0 && shares.every((_, number) => page.seen.has(number)) && shares.some((share) => share >= 0.25);
  };
  on(window, "scroll", look, { capture: true, passive: true });
  on(window, "resize", look);
  // the button under a mouse that has not moved since the page came must not look chosen
  on(window, "pointermove", (event) => {
    if (event.movementX !== 0 || event.movementY !== 0) document.documentElement.classList.add("study-moved");
  }, { passive: true });

  const answer = (choice, confirmed = false) => {
    const now = performance.now();
    const part = data.ranks && !confirmed && choice !== "cannot_tell";
    // a second press within a moment is a slip; after it, a try again
    if (!part && (now - page.arrived < data.minimum_ms || now - page.sent < 2000)) return;
    // nothing is judged unseen
    if (lost.size > 0) return;
    if (!part && !inSight()) {
      note("study-unseen", data.unseen);
      return;
    }
    if (!part) page.sent = now;
    const away = page.hidden + (page.hiddenSince === null ? 0 : now - page.hiddenSince);
    setTriggerValue("answer", {
      choice,
      confirmed,
      reaction_ms: page.shown === null ? null : Math.round(now - page.shown),
      loaded_ms: page.shown === null ? null : Math.round(page.shown - page.arrived),
      hidden_ms: Math.round(away),
      focus_losses: page.losses,
    });
  };

  const rank = () => {
    for (const figure of document.querySelectorAll(`.study-pair[data-page="${data.key}"] .place`)) {
      const number = page.order.indexOf(figure.dataset.place);
      figure.dataset.rank = number < 0 ? "" : data.ranks[number];
    }
  };

  // a place of a ranking comes next, and the last one left follows by itself; one that is in it goes out with all after it
  const press = (choice) => {
    if (!data.ranks || choice === "cannot_tell") {
      answer(choice);
      return;
    }
    if (page.order.includes(choice)) page.order = page.order.slice(0, page.order.indexOf(choice));
    else page.order.push(choice);
    if (page.order.length === places.length - 1 && page.order.includes(choice)) {
      page.order.push(...places.filter((place) => !page.order.includes(place)));
    }
    rank();
    page.told.add(page.order.join(" "));
    answer(page.order.join(" "));
  };

  const confirm = () => data.form ? answer("", true) : page.order.length === places.length && answer(page.order.join(" "), true);

  on(window, "click", (event) => {
    if (!(event.target instanceof Element)) return;
    const button = event.target.closest(".st-key-answers button, .st-key-confirm button");
    const choice = button && Object.values(data.choices).find((name) => button.closest(`.st-key-${name}-${data.key}`));
    const confirms = button && button.closest(`.st-key-confirm-${data.key}`);
    if (!choice && !confirms) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (confirms) confirm();
    else press(choice);
  }, { capture: true });

  const away = () => {
    const gone = document.hidden || !document.hasFocus();
    if (gone && page.hiddenSince === null) {
      page.hiddenSince = performance.now();
      page.losses += 1;
    } else if (!gone && page.hiddenSince !== null) {
      page.hidden += performance.now() - page.hiddenSince;
      page.hiddenSince = null;
    }
  };
  on(document, "visibilitychange", away);
  on(window, "blur", away);
  on(window, "focus", away);

  const tellOfLost = () => {
    const note = document.querySelector(".study-missing");
    if (lost.size === 0) note?.remove();
    if (lost.size === 0 || note) return;
    const added = Object.assign(document.createElement("div"), { className: "study-said study-missing", role: "alert" });
    added.append(Object.assign(document.createElement("span"), { textContent: data.lost }));
    document.querySelector(".study-top").append(added);
  };

  // wait for an image to load; a failed one is requested repeatedly
  const arrive = async (picture) => {
    for (;;) {
      await picture.decode().catch(() => null);
      if (listening.signal.aborted) return;
      const came = picture.naturalWidth > 0;
      if (came) lost.delete(picture.src);
      else lost.add(picture.src);
      tellOfLost();
      if (came) return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      picture.src = picture.src;
    }
  };

  const found = () => document.querySelector(`.study-pair[data-page="${data.key}"]`);
  const begin = () => {
    if (listening.signal.aborted) return;
    const pair = found();
    if (!pair) {
      requestAnimationFrame(begin);
      return;
    }
    const view = zoom(pair, on);
    if (data.ranks) rank();
    on(window, "keydown", (event) => keys(event, view), { capture: true });
    const images = [...document.querySelectorAll(".study-concept img"), ...pair.querySelectorAll("img")];
    Promise.all(images.map(arrive)).then(() => {
      requestAnimationFrame(() => requestAnimationFrame(() => {
        if (listening.signal.aborted) return;
        if (page.shown === null) page.shown = performance.now();
        page.early = data.upcoming.map((url) => Object.assign(new Image(), { src: url }));
      }));
    });
    if (document.activeElement === document.body) {
      document.querySelector(".study-question")?.focus({ preventScroll: true });
    }
    const waiting = data.minimum_ms - (performance.now() - page.arrived);
    const buttons = () => document.querySelectorAll(".st-key-answers button, .st-key-confirm button");
    if (waiting > 0) {
      buttons().forEach((button) => button.setAttribute("aria-disabled", "true"));
      const timer = setTimeout(() => buttons().forEach((button) => button.removeAttribute("aria-disabled")), waiting);
      listening.signal.addEventListener("abort", () => clearTimeout(timer));
    }
  };

  const keys = (event, view) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // what is typed or moved in a field is the field's
    if (event.target instanceof Element && event.target.closest("input, textarea, [role='slider'], [role='radiogroup']")) return;
    const place = data.choices[event.key];
    // on a button, Enter presses that button
    const confirms = data.ranks && event.key === "Enter" && !(event.target instanceof Element && event.target.closest("button"));
    if (place || confirms) {
      event.preventDefault();
      event.stopImmediatePropagation();
      // a key held down answers one page only
      if (!event.repeat && place) press(place);
      if (!event.repeat && confirms) confirm();
      return;
    }
    const step = 0.1;
    const move = {
      "+": () => view.zoom(1.4, 0.5, 0.5), "=": () => view.zoom(1.4, 0.5, 0.5), "-": () => view.zoom(1 / 1.4, 0.5, 0.5),
      0: () => view.reset(), ArrowLeft: () => view.move(step, 0), ArrowRight: () => view.move(-step, 0),
      ArrowUp: () => view.move(0, step), ArrowDown: () => view.move(0, -step),
    }[event.key];
    if (!move || (event.key.startsWith("Arrow") && !view.enlarged())) return;
    event.preventDefault();
    move();
  };

  begin();
  // Streamlit ends this and begins it anew whenever something on the page changes; a key pressed in between must not be lost
  return () => setTimeout(() => listening.abort(), 1000);
}

// Zoom and shift all images alike: by wheel, two fingers, dragging, double click and keys. Places are shares of an image's box.
function zoom(pair, on) {
  const images = [...pair.querySelectorAll("img")];
  let scale = 1, x = 0, y = 0;
  const draw = () => {
    x = Math.min(0, Math.max(1 - scale, x));
    y = Math.min(0, Math.max(1 - scale, y));
    for (const image of images) {
      image.style.transformOrigin = "0 0";
      image.style.transform = scale === 1 ? "" : `translate(${100 * x}%, ${100 * y}%) scale(${scale})`;
      image.parentElement.style.touchAction = scale === 1 ? "pan-y" : "none";
      image.parentElement.style.cursor = scale === 1 ? "zoom-in" : "grab";
    }
  };
  const view = {
    enlarged: () => scale > 1,
    reset: () => { scale = 1; x = 0; y = 0; draw(); },
    move: (dx, dy) => { x += dx; y += dy; draw(); },
    zoom: (factor, atX, atY) => {
      const next = Math.min(12, Math.max(1, scale * factor));
      x = atX - (atX - x) * (next / scale);
      y = atY - (atY - y) * (next / scale);
      scale = next;
      draw();
    },
  };
  const share = (box, clientX, clientY) => {
    const edges = box.getBoundingClientRect();
    return [(clientX - edges.left) / edges.width, (clientY - edges.top) / edges.height];
  };
  for (const image of images) {
    const box = image.parentElement;
    const fingers = new Map();
    const spread = () => {
      const [first, second] = [...fingers.values()];
      return Math.hypot(first.x - second.x, first.y - second.y);
    };
    on(box, "wheel", (event) => {
      event.preventDefault();
      view.zoom(Math.exp(-event.deltaY / 400), ...share(box, event.clientX, event.clientY));
    }, { passive: false });
    on(box, "dblclick", (event) => (scale > 1 ? view.reset() : view.zoom(3, ...share(box, event.clientX, event.clientY))));
    on(box, "pointerdown", (event) => {
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      box.setPointerCapture(event.pointerId);
    });
    on(box, "pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const wide = fingers.size === 2 ? spread() : 0;
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (fingers.size === 2) {
        const [first, second] = [...fingers.values()];
        if (wide > 0) view.zoom(spread() / wide, ...share(box, (first.x + second.x) / 2, (first.y + second.y) / 2));
      } else if (scale > 1) {
        const { width, height } = box.getBoundingClientRect();
        view.move((event.clientX - before.x) / width, (event.clientY - before.y) / height);
      }
    });
    for (const event of ["pointerup", "pointercancel"]) on(box, event, (ended) => fingers.delete(ended.pointerId));
  }
  draw();
  return view;
}
