// The admin token, stored while this tab is open.

const NAME = "gemproxy.token";

/** The token that was entered in this tab; empty if there is none. */
export function storedToken() {
  return sessionStorage.getItem(NAME) ?? "";
}

/** Store the token, so that it survives a reload of the page. */
export function storeToken(token) {
  sessionStorage.setItem(NAME, token);
}

/** Sign out. */
export function forgetToken() {
  sessionStorage.removeItem(NAME);
}

/** Whether this daemon's admin API asks for no token at all. */
export function tokenIsNeedless() {
  return document.documentElement.dataset.token === "needless";
}
