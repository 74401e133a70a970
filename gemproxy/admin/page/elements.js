// Elements, made one by one: text is never read as markup, whoever wrote it.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children. A function as attribute listens to the event of that
 * name, `true` stands for an empty attribute, `null` and `false` for none.
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in a drawing. */
export function drawing(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/**
 * A name or a message of somebody else's: marks for right-to-left text within it do not reach what
 * stands around it, and what the layout clips can be read in the title.
 */
export function foreign(text, name = "bdi", attributes = {}) {
  return element(name, { dir: "auto", title: text.length > 16 ? text : null, ...attributes }, text);
}

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Change a text, and leave alone one that is right: screen readers tell what has changed. */
export function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

const shown = new WeakMap();

/** Fill a node with what `make` gives, unless it shows the same `value` already. */
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
