/** Words from data: plain English from states and counts, and links that are only ever links. */

/** `waiting_approval` -> `waiting approval`. */
export function words(state: string): string {
  return state.replace(/_/g, ' ');
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
