// Update the dashboard in place, so that its reader loses neither the scroll position nor the focus.
const seconds = Number(document.getElementById("live").dataset.seconds);
setInterval(async () => {
  if (document.hidden) return;
  const answer = await fetch("/admin").catch(() => null);
  // the visit is over
  if (answer?.status === 401) location.reload();
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.getElementById("live").replaceWith(page.getElementById("live"));
}, 1000 * seconds);
