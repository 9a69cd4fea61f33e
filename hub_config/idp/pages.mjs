// The provider's few pages; everything that comes from outside is escaped.
import crypto from 'node:crypto';

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;background:#f4f5f7;color:#1c2733;display:grid;place-items:center;min-height:95vh;margin:0}
main{background:#fff;border:1px solid #d9dee5;border-radius:8px;padding:2rem;width:20rem}
h1{font-size:1.3rem;margin:0 0 1rem}label{display:block;margin:.8rem 0 .2rem}
input{width:100%;box-sizing:border-box;padding:.5rem;font:inherit;border:1px solid #8a96a3;border-radius:4px}
button{margin-top:1.2rem;width:100%;padding:.6rem;font:inherit;color:#fff;background:#1f5fa8;border:0;border-radius:4px;cursor:pointer}
.error{color:#a5121d}footer{margin-top:1.5rem;font-size:.8rem;color:#5a6673}`;
const NOTICE = 'This identity provider is for a workbench on one machine only. Elsewhere, use your organisation’s own.';
const SUBMIT = "document.forms[0].requestSubmit(document.querySelector('button'))";
const SUBMIT_HASH = crypto.createHash('sha256').update(SUBMIT).digest('base64');

export function page(title, body) {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(title)} · themisto</title><style>${STYLE}</style></head>
<body><main><h1>${escape(title)}</h1>${body}<footer>${NOTICE}</footer></main></body></html>`;
}

export function loginPage(action, client, error, name = '') {
  const alert = error ? `<p class="error" role="alert">${escape(error)}</p>` : '';
  return page(
    'Log in',
    `<p>to ${escape(client)}</p>${alert}<form method="post" action="${escape(action)}">
<label for="login">Name</label><input id="login" name="login" value="${escape(name)}" autocomplete="username" autofocus required>
<label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button></form>`,
  );
}

export async function logoutPage(ctx, form) {
  ctx.set('Content-Security-Policy', `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${SUBMIT_HASH}'; frame-ancestors 'none'`);
  ctx.body = page(
    'Log out',
    `${form}<button form="op.logoutForm" type="submit" name="logout" value="yes">Log out</button><script>${SUBMIT}</script>`,
  );
}

export async function loggedOutPage(ctx) {
  ctx.body = page('Logged out', '<p>You are logged out.</p>');
}

export async function errorPage(ctx, out) {
  const said = Object.entries(out).map(([key, value]) => `<p><b>${escape(key)}</b>: ${escape(value)}</p>`);
  ctx.type = 'html';
  ctx.body = page('That did not work', said.join(''));
}

function escape(text) {
  return String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
