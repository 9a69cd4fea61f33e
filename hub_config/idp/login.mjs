// The login form: shown for an interaction of the provider, answered by name and password.
import { loginPage, page } from './pages.mjs';

const PATH = /^\/interaction\/([\w-]{1,64})$/;
const MOST_BYTES = 4096;

/** Answer a request below /interaction/; false if it is none. */
export async function handleInteraction(provider, users, req, res) {
  if (!PATH.test(req.url.split('?')[0])) return false;
  let details;
  try {
    details = await provider.interactionDetails(req, res);
  } catch {
    send(res, 400, page('Start again', '<p>This login has ended. Go back to the workbench and log in from there.</p>'));
    return true;
  }
  if (req.method === 'GET') {
    send(res, 200, loginPage(req.url, clientName(details), ''));
  } else if (req.method === 'POST') {
    await answer(provider, users, req, res, details);
  } else {
    send(res, 405, page('Not here', '<p>Only a form is answered here.</p>'));
  }
  return true;
}

async function answer(provider, users, req, res, details) {
  const origin = req.headers.origin;
  if (origin && origin !== new URL(provider.issuer).origin) {
    send(res, 403, page('Not from there', '<p>The form must be sent from this page.</p>'));
    return;
  }
  const form = await readForm(req);
  const name = form.get('login')?.trim() ?? '';
  const { person, reason } = await users.check(name, form.get('password') ?? '');
  if (!person) {
    console.warn(`idp: login refused for ${JSON.stringify(name.slice(0, 80))}`);
    send(res, 401, loginPage(req.url, clientName(details), reason, name));
    return;
  }
  console.log(`idp: ${person.name} logged in for ${details.params.client_id}`);
  await provider.interactionFinished(req, res, { login: { accountId: person.name, remember: false } });
}

function clientName(details) {
  return details.params.client_id === 'themisto-review' ? 'the review page' : 'the workbench';
}

async function readForm(req) {
  const parts = [];
  let size = 0;
  for await (const part of req) {
    size += part.length;
    if (size > MOST_BYTES) throw new Error('the form is too long');
    parts.push(part);
  }
  return new URLSearchParams(Buffer.concat(parts).toString('utf8'));
}

function send(res, status, html) {
  res.writeHead(status, {
    'Content-Type': 'text/html; charset=utf-8',
    'Cache-Control': 'no-store',
    // No form-action: Chromium applies it to the redirects after the form, which lead to the client.
    'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    'X-Frame-Options': 'DENY',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'same-origin',
  });
  res.end(html);
}
