/** The connection: how fresh what is shown can be, and what to do where it is not. */
import * as React from 'react';

import type { Connection } from '../model/live';
import { Notice } from '../ui/parts';

const LABELS: Readonly<Record<Connection['state'], string>> = {
  connecting: 'Connecting…',
  live: 'Live',
  polling: 'Not live, asking now and then',
  offline: 'Offline',
  alone: 'No workbench'
};

/** A dot and a word, read out when it changes. */
export function ConnectionLine({ connection }: { connection: Connection }): React.JSX.Element {
  return (
    <span className={`themisto-Connection themisto-mod-${connection.state}`} role="status">
      <span className="themisto-Dot" aria-hidden="true" />
      {LABELS[connection.state]}
    </span>
  );
}

/** Why the line is down. */
export function ConnectionNotice({ connection }: { connection: Connection }): React.JSX.Element | null {
  if (connection.state === 'alone') {
    return (
      <Notice tone="info" title={connection.problem.detail} text={connection.problem.remedy}>
        <span>Track, features and pipeline work on local files meanwhile.</span>
      </Notice>
    );
  }
  if (connection.state === 'offline') {
    return <Notice tone="bad" title={connection.problem.detail} text={connection.problem.remedy} />;
  }
  return null;
}
