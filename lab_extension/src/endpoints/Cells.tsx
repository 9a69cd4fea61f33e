/** Buttons that put a ready cell into the notebook one works in; running it is the person's to do. */
import * as React from 'react';

import type { Endpoint } from '../api/types';
import { cellsFor } from '../notebook/cells';
import { useAction } from '../ui/hooks';
import { ProblemNotice } from '../ui/parts';

/** Puts a cell below the active one. Raises a Problem where no notebook is open. */
export type InsertCell = (source: string) => Promise<void>;

export function Cells({ endpoint, insertCell }: { endpoint: Endpoint; insertCell: InsertCell }): React.JSX.Element {
  const { busy, problem, run } = useAction();
  return (
    <>
      <div className="themisto-Row">
        {cellsFor(endpoint).map(({ label, hint, source }) => (
          <button
            key={label}
            className="jp-mod-styled themisto-Button themisto-mod-small"
            disabled={busy}
            title={`${hint}\n${source}`}
            aria-label={`Insert a cell, ${label}: ${hint}`}
            onClick={() => run(() => insertCell(source))}
          >
            {label}
          </button>
        ))}
      </div>
      {problem === null ? null : <ProblemNotice problem={problem} />}
    </>
  );
}
