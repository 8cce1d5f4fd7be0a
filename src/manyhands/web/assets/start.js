// What begins when the page is loaded: as a file, or with the token of its address.

import { Live, Stored } from "./source.js";
import { byId } from "./dom.js";
import { open, themes } from "./app.js";

const TOKEN = "manyhands-token";

/** The token of the address, which is then taken out of what the address bar shows. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get("token");
  if (token) {
    sessionStorage.setItem(TOKEN, token);
    given.delete("token");
    history.replaceState(null, "", `${location.pathname}#${given}`);
  }
  return sessionStorage.getItem(TOKEN) ?? "";
}

themes();
if (document.getElementById("stored-events")) {
  const file = new Stored();
  open(file, file.about.run);
} else {
  const token = takeToken();
  if (token) open(new Live(token), "");
  else {
    byId("trouble").hidden = false;
    byId("trouble").textContent = "The address has no token. Open the one that `manyhands ui` printed.";
  }
}
