// The embedded OpenID Connect provider: logins for a workbench on one machine, and for nothing else.
//
// Settings: IDP_ISSUER, IDP_PORT, IDP_USERS (YAML), IDP_STATE (folder), IDP_HUB_REDIRECT, IDP_HUB_SECRET,
// IDP_HUB_LOGOUT, IDP_REVIEW_REDIRECT, IDP_REVIEW_SECRET.
import http from 'node:http';
import path from 'node:path';
import Provider from 'oidc-provider';
import { configuration } from './configuration.mjs';
import { handleInteraction } from './login.mjs';
import { openStore } from './store.mjs';
import { Users } from './users.mjs';

const NAMES = ['ISSUER', 'PORT', 'USERS', 'STATE', 'HUB_REDIRECT', 'HUB_SECRET', 'REVIEW_REDIRECT', 'REVIEW_SECRET'];
const missing = NAMES.filter((name) => !process.env[`IDP_${name}`]);
if (missing.length) {
  console.error(`idp: set ${missing.map((name) => `IDP_${name}`).join(', ')}.`);
  process.exit(2);
}
const settings = Object.fromEntries([...NAMES, 'HUB_LOGOUT'].map((name) => [name, process.env[`IDP_${name}`] ?? '']));

process.umask(0o077);
const users = new Users(settings.USERS);
const store = openStore(path.join(settings.STATE, 'idp.db'));
const provider = new Provider(settings.ISSUER, configuration(settings, users, store));
provider.on('server_error', (ctx, error) => console.error(`idp: ${ctx.method} ${ctx.path}: ${error.stack}`));
provider.on('grant.error', (ctx, error) => console.warn(`idp: token refused: ${error.error_description ?? error.message}`));

const oidc = provider.callback();
async function answer(req, res) {
  try {
    if (!(await handleInteraction(provider, users, req, res))) oidc(req, res);
  } catch (error) {
    console.error(`idp: ${req.method} ${req.url.split('?')[0]}: ${error.stack}`);
    if (!res.headersSent) res.writeHead(500, { 'Content-Type': 'text/plain' });
    res.end('The identity provider failed; its log says why.\n');
  }
}

// Loopback only. `localhost` may mean ::1 first, so both are served where both exist.
const servers = ['127.0.0.1', '::1'].map((host) => {
  const server = http.createServer({ requestTimeout: 30_000, headersTimeout: 10_000 }, answer);
  server.on('error', (error) => {
    if (host === '::1') return;
    console.error(`idp: port ${settings.PORT}: ${error.message}`);
    process.exit(1);
  });
  server.listen(Number(settings.PORT), host);
  return server;
});
console.log(`idp: ${settings.ISSUER}, for one machine only: plain HTTP on loopback, users from a file`);

const sweep = setInterval(() => store.sweep(), 600_000);
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    clearInterval(sweep);
    for (const server of servers) {
      server.close();
      server.closeAllConnections();
    }
    store.close();
    process.exit(0);
  });
}
