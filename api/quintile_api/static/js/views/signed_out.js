// Nobody is signed in: how to get in.

import { h } from "../dom.js";
import { command } from "../parts.js";

export function signedOutView() {
  return h("div", { class: "welcome" },
    location.hash === "#/link-used" ? h("p", { class: "note", role: "alert" }, "That link was used before, or is older than ten minutes.") : null,
    h("h1", null, "Label a fifth, certify the rest, train on all of it."),
    h("p", { class: "lead" }, "This instance wants to know who you are. There are no passwords: you sign in with a link that works once."),
    h("ol", null,
      h("li", null, "Open the link that ", h("code", null, "quintile up"), " printed when it started. It is good for ten minutes."),
      h("li", null, "Used it before, or too late? Make a new one on the machine that runs Quintile:", command("quintile link")),
      h("li", null, "On a shared instance, ask its admin for a link.")),
  );
}
