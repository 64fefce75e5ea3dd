// Who this tab is to the server. A tab holds a lock on its name while it lives, so that the next tab
// of this browser takes over the name, and with it the leases, of one that crashed.

const TABS = 16;
const SIZE = 16;

/** Return a random id; also where ``crypto.randomUUID`` is missing, on plain HTTP from elsewhere. */
export function randomId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(SIZE));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let known = null;

/** Return the name of this tab; the same one for as long as the page lives. */
export function clientName() {
  known ??= choose();
  return known;
}

async function choose() {
  if (!navigator.locks) return kept(sessionStorage, "quintile.client");
  const browser = kept(localStorage, "quintile.browser");
  for (let number = 0; number < TABS; number += 1) {
    const name = `${browser}-${number}`;
    if (await hold(name)) return name;
  }
  return named();
}

function hold(name) {
  return new Promise((resolve) => {
    navigator.locks.request(`quintile.${name}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise(() => {}) : null;
    });
  });
}

function kept(storage, key) {
  try {
    const found = storage.getItem(key) ?? named();
    storage.setItem(key, found);
    return found;
  } catch {
    return named(); // storage is forbidden or full: a name for this page alone
  }
}

function named() {
  return `web-${randomId().slice(0, 13)}`;
}
