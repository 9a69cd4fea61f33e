/** Gates: how each was decided, and what every release must pass. */
import * as React from 'react';

import type { GateResult, Quality } from '../api/types';
import { latest } from '../model/gates';

export function Gates({ results }: { results: readonly GateResult[] }): React.JSX.Element {
  return (
    <ul className="themisto-Gates">
      {latest(results).map(result => (
        <Gate key={`${result.gate} ${result.source} ${String(result.pinned)}`} result={result} />
      ))}
    </ul>
  );
}

function Gate({ result }: { result: GateResult }): React.JSX.Element {
  const [mark, word] = result.passed === null ? ['·', 'skipped'] : result.passed ? ['✓', 'passed'] : ['✗', 'not passed'];
  const where = [result.source === 'labels' ? 'on later labels' : '', result.pinned ? 'pinned' : ''].filter(Boolean);
  return (
    <li className={result.passed === false ? 'themisto-mod-bad' : undefined}>
      <span aria-label={word} role="img">
        {mark}
      </span>
      <span>
        <code>{result.gate}</code>
        {where.length > 0 ? <span className="themisto-Faint"> {where.join(', ')}</span> : null}
        <span className="themisto-Message"> {result.says}</span>
      </span>
    </li>
  );
}

export function Pinned({ quality }: { quality: Quality }): React.JSX.Element {
  const by = quality.by.length > 0 ? `, by ${quality.by.join(', ')}` : '';
  return (
    <>
      <ul className="themisto-Gates">
        {quality.gates.map(gate => (
          <li key={gate}>
            <code>{gate}</code>
          </li>
        ))}
      </ul>
      <span className="themisto-Faint">
        on {quality.rows.toLocaleString('en')} rows, label {quality.label}
        {by}
      </span>
    </>
  );
}
