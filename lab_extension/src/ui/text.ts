/** Words from data: plain English from states and counts, and links that are only ever links. */

/** `waiting_approval` -> `waiting approval`. */
export function words(state: string): string {
  return state.replace(/_/g, ' ');
}

/** `a, b and 7 more`: the first ones of many. */
export function first(names: readonly string[], most: number): string {
  const more = names.length - most;
  return more > 1 ? `${names.slice(0, most).join(', ')} and ${more} more` : names.join(', ');
}

/** The address if a browser may open it from a click, else null: `javascript:` is text, not a link. */
export function webAddress(url: string | null | undefined): string | null {
  try {
    const parsed = new URL(url ?? '');
    return parsed.protocol === 'https:' || parsed.protocol === 'http:' ? parsed.href : null;
  } catch {
    return null;
  }
}
