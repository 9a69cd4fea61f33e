/** Times as people say them. */
const FORMAT = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' });
const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60]
];

/** `5 min. ago`, `in 3 hr.`; within a minute, `now`. */
export function relative(iso: string, nowMs: number): string {
  const seconds = (Date.parse(iso) - nowMs) / 1000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size) {
      return FORMAT.format(Math.round(seconds / size), unit);
    }
  }
  return 'now';
}

/** `14:05:09`, in the reader's own time zone; with the day where it is not today. */
export function clock(iso: string, nowMs: number): string {
  const moment = new Date(iso);
  const time = moment.toLocaleTimeString('en-GB');
  const today = moment.toDateString() === new Date(nowMs).toDateString();
  return today ? time : `${moment.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })} ${time}`;
}

/** The whole moment, in the reader's own time zone, for a tooltip. */
export function exact(iso: string): string {
  return new Date(iso).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'long' });
}
