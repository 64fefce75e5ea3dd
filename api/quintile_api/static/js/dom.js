// Making nodes and patching them in place, so that a refresh keeps focus, scroll and selection.

const SVG = "http://www.w3.org/2000/svg";
const HANDLERS = Symbol("handlers");

function fill(node, properties, children) {
  node[HANDLERS] = [];
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) {
      node[name] = value;
      node[HANDLERS].push(name);
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** Make an HTML element: h("a", {href: "#/"}, "text", node, [more]). */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Make an SVG element. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function alike(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return false;
  if (old.nodeType !== Node.ELEMENT_NODE) return true;
  return old.getAttribute("data-key") === fresh.getAttribute("data-key");
}

function patch(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.tagName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of old[HANDLERS] ?? []) old[name] = null;
  for (const name of fresh[HANDLERS] ?? []) old[name] = fresh[name];
  old[HANDLERS] = fresh[HANDLERS];
  morph(old, [...fresh.childNodes]);
}

/** Make the children of ``parent`` equal to ``wanted``, reusing nodes that are alike. */
export function morph(parent, wanted) {
  let at = parent.firstChild;
  for (const fresh of wanted) {
    if (at && alike(at, fresh)) {
      patch(at, fresh);
      at = at.nextSibling;
    } else {
      parent.insertBefore(fresh, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** Tell a screen reader. */
export function say(text) {
  document.getElementById("say").textContent = text;
}
