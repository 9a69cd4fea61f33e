// What the provider must remember (sessions, grants, tokens, signing key), in one SQLite file.
import { DatabaseSync } from 'node:sqlite';

const GRANTABLE = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken', 'DeviceCode', 'BackchannelAuthenticationRequest']);

export function openStore(file) {
  const db = new DatabaseSync(file);
  db.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA busy_timeout = 5000;
    CREATE TABLE IF NOT EXISTS entry (
      model TEXT NOT NULL, id TEXT NOT NULL, payload TEXT NOT NULL, grant_id TEXT, uid TEXT, user_code TEXT,
      expires_at INTEGER, PRIMARY KEY (model, id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS entry_grant ON entry (grant_id);
    CREATE INDEX IF NOT EXISTS entry_uid ON entry (uid);
    CREATE TABLE IF NOT EXISTS secret (name TEXT PRIMARY KEY, value TEXT NOT NULL);
  `);
  const live = 'model = ? AND (expires_at IS NULL OR expires_at > unixepoch())';
  const sql = {
    put: db.prepare('INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, unixepoch() + ?)'),
    get: db.prepare(`SELECT payload FROM entry WHERE ${live} AND id = ?`),
    byUid: db.prepare(`SELECT payload FROM entry WHERE ${live} AND uid = ?`),
    byUserCode: db.prepare(`SELECT payload FROM entry WHERE ${live} AND user_code = ?`),
    consume: db.prepare("UPDATE entry SET payload = json_set(payload, '$.consumed', unixepoch()) WHERE model = ? AND id = ?"),
    destroy: db.prepare('DELETE FROM entry WHERE model = ? AND id = ?'),
    // Its own model only: interactions carry a grant id too, and must survive "sign in as somebody else".
    revoke: db.prepare('DELETE FROM entry WHERE model = ? AND grant_id = ?'),
    sweep: db.prepare('DELETE FROM entry WHERE expires_at <= unixepoch()'),
    secret: db.prepare('SELECT value FROM secret WHERE name = ?'),
    keep: db.prepare('INSERT OR IGNORE INTO secret VALUES (?, ?)'),
  };
  const read = (row) => (row ? JSON.parse(row.payload) : undefined);

  class Adapter {
    constructor(model) {
      this.model = model;
    }
    async upsert(id, payload, expiresIn) {
      const grant = GRANTABLE.has(this.model) ? (payload.grantId ?? null) : null;
      const uid = this.model === 'Session' ? (payload.uid ?? null) : null;
      sql.put.run(this.model, id, JSON.stringify(payload), grant, uid, payload.userCode ?? null, expiresIn ?? null);
    }
    async find(id) {
      return read(sql.get.get(this.model, id));
    }
    async findByUid(uid) {
      return read(sql.byUid.get(this.model, uid));
    }
    async findByUserCode(code) {
      return read(sql.byUserCode.get(this.model, code));
    }
    async consume(id) {
      sql.consume.run(this.model, id);
    }
    async destroy(id) {
      sql.destroy.run(this.model, id);
    }
    async revokeByGrantId(grantId) {
      sql.revoke.run(this.model, grantId);
    }
  }

  return {
    Adapter,
    /** The secret of that name, made once by `make`. */
    secret(name, make) {
      if (!sql.secret.get(name)) sql.keep.run(name, JSON.stringify(make()));
      return JSON.parse(sql.secret.get(name).value);
    },
    sweep: () => sql.sweep.run(),
    close: () => db.close(),
  };
}
