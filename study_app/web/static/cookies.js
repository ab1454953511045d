// Tells a visitor whose browser takes no cookies that they are needed.
export default function ({ data: [data] }) {
  if (navigator.cookieEnabled || document.querySelector(".study-cookies")) return;
  const added = Object.assign(document.createElement("p"), { className: "study-problem study-cookies", textContent: data.sentence });
  added.setAttribute("role", "alert");
  document.querySelector(".study-prose")?.append(added);
}
