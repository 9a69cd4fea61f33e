/** Names and their versions: `credit` and `credit.v2` have one owner, and one place in the panel. */
import type { Endpoint } from '../api/types';

export interface Family {
  readonly name: string;
  /** By version, oldest first. */
  readonly versions: readonly Endpoint[];
}

/** The part of a name that is claimed, handed over and retired as one: `credit` of `credit.v2`. */
export function baseOf(name: string): string {
  return name.split('.', 1)[0] ?? name;
}

/** 1 for the name itself. */
export function versionOf(name: string): number {
  return Number(/\.v(\d+)$/.exec(name)?.[1] ?? 1);
}

/** Endpoints, gathered under their names. */
export function familiesOf(endpoints: readonly Endpoint[]): Family[] {
  const byName = new Map<string, Endpoint[]>();
  for (const endpoint of endpoints) {
    const name = baseOf(endpoint.name);
    byName.set(name, [...(byName.get(name) ?? []), endpoint]);
  }
  return [...byName]
    .map(([name, versions]) => ({ name, versions: versions.sort((a, b) => versionOf(a.name) - versionOf(b.name)) }))
    .sort((a, b) => a.name.localeCompare(b.name));
}

/** True where nothing of it answers and nobody is asked to take it over. */
export function isGone(family: Family): boolean {
  return family.versions.every(endpoint => endpoint.retired && !endpoint.offered_to);
}
