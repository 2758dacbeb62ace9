// SPDX-License-Identifier: Apache-2.0

// Elements of the page, made without markup: what comes from containers' names stays text.

export const byId = (id) => document.getElementById(id);

// el returns an element with properties and children. A property with a hyphen, and role, is an attribute.
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-') || name === 'role' || name === 'scope') element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((c) => c !== undefined && c !== null));
  return element;
}

// setText writes a text, if it is another one: what stays the same costs no layout.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// once returns a function that calls f soon, in the next frame, however often it is called before.
export function once(f) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      f();
    });
  };
}
