/** One list or document of the control plane, as far as the panel knows it. */
import { Problem } from '../api/problem';

export type Known<T> =
  | { readonly state: 'loading' }
  | { readonly state: 'absent' }
  | { readonly state: 'failed'; readonly problem: Problem }
  | { readonly state: 'ready'; readonly value: T; readonly stale: Problem | null };

/** Fetches a resource, the newest request winning; what was known stays shown while a refresh fails. */
export class Resource<T> {
  constructor(
    private readonly fetch: () => Promise<T>,
    private readonly changed: () => void,
    private readonly merge: (known: T, fetched: T) => T = (_, fetched) => fetched
  ) {}

  get known(): Known<T> {
    return this._known;
  }

  /** The value, if there is one. */
  get value(): T | null {
    return this._known.state === 'ready' ? this._known.value : null;
  }

  /** Ask again; the problem, if it did not work. A 404 means that this workbench has no such resource. */
  async refresh(): Promise<Problem | null> {
    const turn = ++this._turn;
    try {
      const fetched = await this.fetch();
      if (turn === this._turn) {
        const before = this.value;
        this.set(before === null ? fetched : this.merge(before, fetched));
      }
      return null;
    } catch (error) {
      const problem = Problem.of(error);
      if (turn === this._turn) {
        this.fail(problem);
      }
      return problem.status === 404 ? null : problem;
    }
  }

  /** Something newer came by another way. */
  set(value: T): void {
    this._known = { state: 'ready', value, stale: null };
    this.changed();
  }

  private fail(problem: Problem): void {
    if (problem.status === 404) {
      this._known = { state: 'absent' };
    } else if (this._known.state === 'ready') {
      this._known = { ...this._known, stale: problem };
    } else if (this._known.state !== 'absent') {
      this._known = { state: 'failed', problem };
    }
    this.changed();
  }

  private _known: Known<T> = { state: 'loading' };
  private _turn = 0;
}
