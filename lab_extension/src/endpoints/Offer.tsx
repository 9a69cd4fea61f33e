/** A name that waits for its new owner. */
import * as React from 'react';

import type { Endpoint } from '../api/types';
import { Notice } from '../ui/parts';

export function Offer(props: {
  endpoint: Endpoint;
  to: string;
  /** Null for those who may not. */
  accept: (() => void) | null;
  busy: boolean;
}): React.JSX.Element {
  const { endpoint, to, accept, busy } = props;
  return (
    <Notice
      tone="warn"
      title={`${endpoint.name} is offered to ${to}`}
      text={`By ${endpoint.group}, with all versions.${accept === null ? ' A member of that group accepts.' : ''}`}
    >
      {accept === null ? null : (
        <button
          className="jp-mod-styled jp-mod-accept themisto-Button"
          disabled={busy}
          aria-label={`Accept ${endpoint.name}`}
          onClick={accept}
        >
          Accept
        </button>
      )}
    </Notice>
  );
}
