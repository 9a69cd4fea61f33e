/** The analysis of a step in numbers: each rate of the candidate beside stable's. */
import * as React from 'react';

import type { StepVerdict } from '../api/types';

const FOUND = { worse: 'worse', open: 'not decided', fine: 'fine' } as const;

export function Measured({ verdict }: { verdict: StepVerdict }): React.JSX.Element | null {
  if (verdict.measured.length === 0) {
    return null;
  }
  return (
    <table className="themisto-Table themisto-mod-numbers">
      <thead>
        <tr>
          <th scope="col">Rate</th>
          <th scope="col">Candidate</th>
          <th scope="col">Stable</th>
        </tr>
      </thead>
      <tbody>
        {verdict.measured.map(({ what, detail, candidate, stable, finding }) => (
          <tr key={`${what} ${detail}`}>
            <td>
              {what}: {FOUND[finding]}
              {detail ? <div className="themisto-Faint">{detail}</div> : null}
            </td>
            <td>{share(candidate)}</td>
            <td>{share(stable)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function share({ hits, of }: { hits: number; of: number }): string {
  return `${hits.toLocaleString('en')} of ${of.toLocaleString('en')}`;
}
