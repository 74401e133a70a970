// The admin token, for as long as this tab is open.

const NAME = "gemproxy.token";

/** The token that was given in this tab; empty where there is none. */
export function storedToken() {
  return sessionStorage.getItem(NAME) ?? "";
}

/** Keep it over a reload of the page. */
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
