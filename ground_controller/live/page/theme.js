"use strict";
// Before anything is drawn: the theme that was chosen here last, else what the system prefers.
(function () {
  const kept = localStorage.getItem("theme");
  const dark = kept ? kept === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
