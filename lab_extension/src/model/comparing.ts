/** Comparing two releases: what can be compared, and what came out in words. The numbers are the control plane's. */
import type { Agreement, Apart, Column, Effect, Endpoint, Release } from '../api/types';

/** A metric that the log itself holds, as the API names it. */
export interface Metric {
  readonly name: string;
  readonly label: string;
}

/** States of a rollout that had, or may have had, traffic. */
const ANSWERED: readonly string[] = ['running', 'done', 'rolled_back'];

/** Where a shadow gets copies, or got them last. */
export function hasShadow({ rollout }: Endpoint): boolean {
  return rollout?.strategy === 'shadow' && ANSWERED.includes(rollout.state);
}

/** Where two releases share the traffic, or shared it last. */
export function hasSplit({ rollout }: Endpoint): boolean {
  const shared = rollout?.strategy === 'ab' || rollout?.strategy === 'canary';
  return shared && rollout.release > 1 && ANSWERED.includes(rollout.state);
}

/** Latency, errors, and each output that is one number a row. */
export function metricsOf(release: Release | null): Metric[] {
  const outputs = release?.signature.outputs ?? [];
  return [
    { name: 'latency_ms', label: 'latency (ms)' },
    { name: 'errors', label: 'errors (share)' },
    ...outputs.filter(isNumber).map(({ name }) => ({ name: `outputs.${name}`, label: `output ${name}` }))
  ];
}

function isNumber({ dtype, shape, logical }: Column): boolean {
  const time = logical === 'datetime' || logical === 'date' || logical === 'duration';
  return dtype !== 'BYTES' && shape.length === 1 && shape[0] === 1 && !time;
}

/** `+2.88 (+92 %)`; without the percentage where control's mean is 0. */
export function differenceInWords({ difference, control }: Effect): string {
  const relative = control.mean === 0 ? '' : ` (${signed((100 * difference) / Math.abs(control.mean), 2)} %)`;
  return `${signed(difference)}${relative}`;
}

/** `95 %: +1.2 to +4.5` */
export function intervalInWords({ confidence, low, high }: Effect): string {
  return `${Math.round(100 * confidence)}\u00a0%: ${signed(low)} to ${signed(high)}`;
}

/** Where interval, difference and 0 lie on a line from 0 to 1, with some air at both ends. */
export function placesOf({ low, high, difference }: Effect): { low: number; high: number; at: number; zero: number } {
  const [from, to] = [Math.min(low, 0), Math.max(high, 0)];
  const width = to - from || 1;
  const place = (value: number): number => 0.04 + (0.92 * (value - from)) / width;
  return { low: place(low), high: place(high), at: place(difference), zero: place(0) };
}

/** `98.1 % of 2,000 rows agree`; never rounded up to 100 where one does not. */
export function agreementInWords({ agree, rows }: Agreement): string {
  const percent = agree < 1 ? Math.min(99.9, Math.round(1000 * agree) / 10) : 100;
  return `${percent} % of ${rows.toLocaleString('en')} ${rows === 1 ? 'row agrees' : 'rows agree'}`;
}

export interface Gap {
  readonly output: string;
  readonly ours: string;
  readonly shadow: string;
}

const OUTPUTS = 4;

/** The outputs of a row that are not the same, the first few. */
export function gapsOf({ ours, shadow }: Apart): Gap[] {
  return Object.keys(ours)
    .map(output => ({ output, ours: told(ours[output]), shadow: told(shadow[output]) }))
    .filter(gap => gap.ours !== gap.shadow)
    .slice(0, OUTPUTS);
}

/** A number of four digits that count; `1e-9` for very small ones. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined) {
    return '–';
  }
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e9)
    ? value.toExponential(2)
    : value.toLocaleString('en', { maximumSignificantDigits: 4 });
}

function signed(value: number, digits = 4): string {
  const text = digits === 4 ? number(value) : value.toLocaleString('en', { maximumSignificantDigits: digits });
  return value > 0 ? `+${text}` : text.replace('-', '−');
}

const LONGEST = 60;

function told(value: unknown): string {
  const text = typeof value === 'number' ? number(value) : typeof value === 'string' ? value : JSON.stringify(value ?? null);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
