// People and groups, read from one YAML file and read again whenever it changes.
import crypto from 'node:crypto';
import fs from 'node:fs';
import { promisify } from 'node:util';
import { parse } from 'yaml';

const scrypt = promisify(crypto.scrypt);
const NOBODY = 'scrypt$16384$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=';
const ATTEMPTS = 5; // wrong passwords in a row, then every further one waits
const PAUSE_MS = 30_000;

export class Users {
  #file;
  #stamp = '';
  #people = new Map();
  #failures = new Map();

  constructor(file) {
    this.#file = file;
    this.#people = this.#read() ?? new Map();
  }

  /** The enabled person of that name, or undefined (never null: the provider takes that for a fault). */
  find(name) {
    this.#refresh();
    const person = this.#people.get(name);
    return person && !person.disabled ? person : undefined;
  }

  /** The person, if the password is hers: `{person}`, else `{reason}` in words for her. */
  async check(name, password) {
    const failed = this.#failures.get(name);
    if (failed && failed.count >= ATTEMPTS && Date.now() < failed.until) {
      return { reason: 'Too many wrong passwords. Wait half a minute.' };
    }
    const person = this.find(name);
    const right = await matches(password, person?.password ?? NOBODY); // as slow for a name that does not exist
    if (person && right) {
      this.#failures.delete(name);
      return { person };
    }
    if (this.#failures.size > 10_000) this.#failures.clear();
    this.#failures.set(name, { count: (failed?.count ?? 0) + 1, until: Date.now() + PAUSE_MS });
    return { reason: 'Name or password is wrong.' };
  }

  #refresh() {
    let stamp;
    try {
      const { mtimeNs, ctimeNs, size, ino } = fs.statSync(this.#file, { bigint: true });
      stamp = `${mtimeNs} ${ctimeNs} ${size} ${ino}`;
    } catch {
      return; // being replaced: the people last read go on
    }
    if (stamp === this.#stamp) return;
    const people = this.#read();
    if (people) this.#people = people;
    this.#stamp = stamp;
  }

  #read() {
    try {
      const { users } = parse(fs.readFileSync(this.#file, 'utf8'));
      return new Map(Object.entries(users).map(([name, entry]) => [name, checked(name, entry)]));
    } catch (error) {
      console.error(`idp: ${this.#file} cannot be used, the people last read go on: ${error.message}`);
      return undefined;
    }
  }
}

function checked(name, entry) {
  const groups = entry.groups ?? [];
  if (!Array.isArray(groups) || groups.some((group) => typeof group !== 'string')) {
    throw new Error(`${name}: groups must be a list of names`);
  }
  if (typeof entry.password !== 'string' || !entry.password.startsWith('scrypt$')) {
    throw new Error(`${name}: password must be a scrypt hash`);
  }
  return {
    name,
    fullName: String(entry.name ?? name),
    email: String(entry.email ?? `${name}@localhost`),
    groups,
    password: entry.password,
    disabled: entry.disabled === true,
  };
}

async function matches(password, hash) {
  const [, cost, block, parallel, salt, key] = hash.split('$');
  const wanted = Buffer.from(key, 'base64');
  const got = await scrypt(password, Buffer.from(salt, 'base64'), wanted.length, {
    N: Number(cost),
    r: Number(block),
    p: Number(parallel),
    maxmem: 256 * Number(cost) * Number(block),
  });
  return crypto.timingSafeEqual(wanted, got);
}
