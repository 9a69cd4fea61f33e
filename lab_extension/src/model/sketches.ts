/** A feature's spread as bars, and in words for those who do not see them. */
import type { FeatureSketch } from '../api/types';

export interface Bar {
  readonly x: number;
  readonly y: number;
  readonly height: number;
}

/** One bar a bin, from the bottom of a box of `width` x `height`; a bin with anything in it is seen. */
export function bars(counts: readonly number[], width: number, height: number): Bar[] {
  const most = Math.max(0, ...counts);
  return counts.map((count, place) => {
    const tall = count === 0 ? 0 : Math.max(1, (count / most) * height);
    return { x: (place * width) / counts.length, y: height - tall, height: tall };
  });
}

/** `-3.1 to 17`, `412 values`, `personal`, and how much is missing. */
export function inWords(sketch: FeatureSketch, rows: number): string {
  const said = [range(sketch)];
  if (sketch.nulls > 0) {
    said.push(`${share(sketch.nulls, rows)} missing`);
  }
  return said.filter(Boolean).join(', ');
}

function range({ personal, distinct, least, greatest }: FeatureSketch): string {
  if (personal) {
    return 'personal: not shown';
  }
  if (typeof least === 'number' && typeof greatest === 'number') {
    return least === greatest ? `always ${short(least)}` : `${short(least)} to ${short(greatest)}`;
  }
  return distinct ? `about ${distinct.toLocaleString('en')} ${distinct === 1 ? 'value' : 'values'}` : '';
}

function share(part: number, whole: number): string {
  const percent = whole > 0 ? (100 * part) / whole : 0;
  return percent < 0.1 ? 'under 0.1 %' : `${Number(percent.toPrecision(percent > 99 ? 3 : 2))} %`;
}

function short(value: number): string {
  return Math.abs(value) >= 1e6 || (value !== 0 && Math.abs(value) < 1e-3)
    ? value.toExponential(1)
    : value.toLocaleString('en', { maximumSignificantDigits: 4 });
}
