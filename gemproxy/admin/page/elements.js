// Creates elements without parsing markup, so that foreign text cannot become markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children. A function is a listener for the event of the
 * attribute's name, `true` sets an empty attribute, `null` and `false` set none.
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function drawing(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/**
 * Foreign text: its direction marks have no effect on the surrounding text, and its title shows
 * what the layout clips.
 */
export function foreign(text, name = "bdi", attributes = {}) {
  return element(name, { dir: "auto", title: text.length > 16 ? text : null, ...attributes }, text);
}

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Set a text only if it differs: screen readers announce each change. */
export function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

const shown = new WeakMap();

/** Fill a node with the result of `make`, unless it shows the same `value` already. */
export function show(node, value, make) {
  const mark = JSON.stringify(value);
  if (shown.get(node) !== mark) {
    shown.set(node, mark);
    node.replaceChildren(...[make(value)].flat());
  }
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      node.addEventListener(name, value);
    } else if (value !== null && value !== false && value !== undefined) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
