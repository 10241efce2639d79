// Builds elements. Text from telemetry is untrusted, so text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `h("p", {class: "note"}, "text", child)`; null children are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Set text only when it differs, so that a selection in it survives. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Keeps children in step with a list by key: what stays is updated in place, so that focus, open
 * details and selections survive. `make(item)` returns an element, `update(element, item)` fills it.
 */
export class KeyedList {
  constructor(parent, key, make, update) {
    Object.assign(this, { parent, key, make, update, elements: new Map() });
  }

  show(items) {
    const kept = new Map();
    let previous = null;
    for (const item of items) {
      const key = this.key(item);
      if (kept.has(key)) continue;
      const element = this.elements.get(key) ?? this.make(item);
      this.update(element, item);
      const next = previous ? previous.nextSibling : this.parent.firstChild;
      if (next !== element) this.parent.insertBefore(element, next);
      kept.set(key, element);
      previous = element;
    }
    for (const [key, element] of this.elements) if (!kept.has(key)) element.remove();
    this.elements = kept;
  }
}
