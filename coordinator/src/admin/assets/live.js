// Keeps a page true without a reload: asks for the same page again and takes over the parts that changed. Focus and the
// place on the page stay where they are; what is news is said to screen readers once. A part is on the page from the
// beginning, even if there is nothing to show in it yet.
"use strict";
(() => {
  const PAUSE_MS = 2000;
  const link = document.getElementById("link");
  const said = document.getElementById("said");
  const news = new Map();

  const parts = () => document.querySelectorAll("[data-live]");

  function tell(part) {
    const now = part.dataset.news ?? "";
    if (news.has(part.id) && news.get(part.id) !== now) said.textContent = now;
    news.set(part.id, now);
  }

  function take(page) {
    const [left, top] = [window.scrollX, window.scrollY];
    for (const part of parts()) {
      const next = page.getElementById(part.id);
      if (!next || part.isEqualNode(next)) continue;
      const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
      part.replaceWith(document.adoptNode(next));
      if (focused) {
        // What had the focus may be gone, like a checkpoint that was dropped: then its part has it.
        next.tabIndex = -1;
        (document.getElementById(focused) ?? next).focus({ preventScroll: true });
      }
      tell(next);
    }
    if (document.title !== page.title) document.title = page.title;
    window.scrollTo(left, top);
  }

  async function look() {
    if (!document.hidden) {
      try {
        const answer = await fetch(location.pathname, { cache: "no-store" });
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
        link.textContent = "";
      } catch {
        if (!link.textContent) link.textContent = `no answer since ${new Date().toLocaleTimeString()}: what stands here is old`;
      }
    }
    setTimeout(look, PAUSE_MS);
  }

  parts().forEach(tell);
  setTimeout(look, PAUSE_MS);
})();
