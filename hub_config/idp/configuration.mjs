// What the provider allows: two first-party clients, PKCE always, groups as a claim, refresh that outlives logout.
import crypto from 'node:crypto';
import { errorPage, loggedOutPage, logoutPage } from './pages.mjs';

const MINUTE = 60;
const DAY = 24 * 60 * MINUTE;
export const HUB = 'themisto-hub';
export const REVIEW = 'themisto-review';

export function configuration(settings, users, store) {
  return {
    adapter: store.Adapter,
    jwks: { keys: [store.secret('jwk', signingKey)] },
    cookies: { keys: [store.secret('cookies', () => crypto.randomBytes(32).toString('base64url'))] },
    clients: clients(settings),
    claims: {
      openid: ['sub', 'auth_time'],
      profile: ['name', 'preferred_username'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
    },
    conformIdTokenClaims: false, // groups in the id token as well, not at userinfo alone
    scopes: ['openid', 'profile', 'email', 'groups', 'offline_access'],
    responseTypes: ['code'],
    pkce: { required: () => true },
    findAccount: (ctx, sub) => account(users.find(sub)),
    loadExistingGrant: firstPartyGrant,
    // Jobs run for people who are logged out: the hub's grant outlives the session. Disabling the person ends it.
    issueRefreshToken: async (ctx, client) => client.clientId === HUB,
    expiresWithSession: async (ctx, token) => token.clientId !== HUB,
    ttl: {
      AccessToken: 10 * MINUTE,
      AuthorizationCode: MINUTE,
      IdToken: 60 * MINUTE,
      Interaction: 30 * MINUTE,
      Session: 1 * DAY,
      RefreshToken: 90 * DAY,
      Grant: 3 * 365 * DAY, // not extended by a refresh: at least the longest life of a schedule without a login
    },
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource: logoutPage, postLogoutSuccessSource: loggedOutPage },
    },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    renderError: errorPage,
  };
}

function clients(settings) {
  const common = { grant_types: ['authorization_code'], response_types: ['code'], token_endpoint_auth_method: 'client_secret_basic' };
  return [
    {
      ...common,
      client_id: HUB,
      client_secret: settings.HUB_SECRET,
      client_name: 'themisto',
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: [settings.HUB_REDIRECT],
      post_logout_redirect_uris: settings.HUB_LOGOUT ? [settings.HUB_LOGOUT] : [],
    },
    {
      ...common,
      client_id: REVIEW,
      client_secret: settings.REVIEW_SECRET,
      client_name: 'review of releases',
      redirect_uris: [settings.REVIEW_REDIRECT],
      require_auth_time: true,
    },
  ];
}

function account(person) {
  return person && {
    accountId: person.name,
    claims: async () => ({
      sub: person.name,
      preferred_username: person.name,
      name: person.fullName,
      email: person.email,
      email_verified: true,
      groups: person.groups,
    }),
  };
}

/** Our own two clients need no consent page: the grant is there as soon as somebody logs in. */
async function firstPartyGrant(ctx) {
  const { provider, session, client, params } = ctx.oidc;
  const known = session.grantIdFor(client.clientId);
  const grant = (known && (await provider.Grant.find(known))) ?? new provider.Grant({ accountId: session.accountId, clientId: client.clientId });
  grant.addOIDCScope(params.scope);
  await grant.save();
  return grant;
}

function signingKey() {
  const { privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: crypto.randomBytes(8).toString('hex') };
}
