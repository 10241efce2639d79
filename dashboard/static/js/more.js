// What an entry shows on request: stacks and steps, behind a button so that the list stays short.

import { h } from "./dom.js";

/** A button that shows and hides the `.inside` of its entry. */
export function moreButton() {
  return h("button", { type: "button", class: "link more-button", "aria-expanded": "false", hidden: "", onclick: toggle }, "stack");
}

function toggle(event) {
  const button = event.currentTarget;
  const isOpen = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(isOpen));
  button.closest(".entry").querySelector(".inside").hidden = !isOpen;
}

/** Fill an entry's `.inside`; what has not changed stays, so that a selection in it survives. */
export function setInside(entry, blocks) {
  entry.querySelector(".more-button").hidden = !blocks.length;
  const inside = entry.querySelector(".inside");
  const key = blocks.map((block) => block.textContent).join("\n");
  if (inside.dataset.key !== key) {
    inside.dataset.key = key;
    inside.replaceChildren(...blocks);
  }
}
