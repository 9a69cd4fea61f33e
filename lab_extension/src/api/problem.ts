/** What went wrong, in words a person can act on: RFC 9457 problem documents and broken lines alike. */

export class Problem extends Error {
  constructor(
    /** Last part of the problem's type: `refused`, `unavailable`, `missing-setting` … */
    readonly slug: string,
    readonly detail: string,
    readonly remedy = '',
    readonly status = 0
  ) {
    super(`${detail} ${remedy}`.trim());
    this.name = 'Problem';
  }

  /** The problem that an answer with an error status carries. */
  static async in(response: Response): Promise<Problem> {
    const body: unknown = await response.json().catch(() => null);
    const { type, detail, remedy } = isRecord(body) ? body : {};
    return new Problem(
      text(type).split(':').pop() || 'error',
      text(detail) || `The server answered HTTP ${response.status}.`,
      text(remedy),
      response.status
    );
  }

  /** Whatever was thrown, as a problem. A stack never reaches the panel. */
  static of(error: unknown): Problem {
    if (error instanceof Problem) {
      return error;
    }
    if (error instanceof DOMException && error.name === 'TimeoutError') {
      return new Problem('unavailable', 'The Jupyter server did not answer in time.', 'The panel tries again by itself.');
    }
    console.warn('themisto:', error);
    return new Problem(
      'unavailable',
      'The Jupyter server cannot be reached.',
      'If it has been stopped, start it again from the hub; else the panel tries again by itself.'
    );
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
