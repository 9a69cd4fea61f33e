/** Endpoints: what answers, what is on its way, and what waits for a person. */
import * as React from 'react';

import type { Endpoint } from '../api/types';
import { attention } from '../model/attention';
import { type Family, familiesOf, isGone } from '../model/families';
import { lossesInWords } from '../model/losses';
import type { Workbench } from '../model/workbench';
import { useNow } from '../ui/hooks';
import { Chip, Empty, Moment, Section } from '../ui/parts';
import { EndpointCard } from './EndpointCard';
import type { InsertCell } from './Cells';

export function EndpointsPanel(props: { model: Workbench; insertCell: InsertCell }): React.JSX.Element {
  const { model, insertCell } = props;
  const endpoints = model.endpoints.value ?? [];
  return (
    <Section
      title="Endpoints"
      known={model.endpoints.known}
      count={endpoints.length}
      note={<Attention endpoints={endpoints} />}
    >
      {known => {
        const families = familiesOf(known);
        const gone = families.filter(isGone);
        return (
          <>
            <Losses model={model} />
            {families.length === 0 ? <Empty>None yet. Deploy a model with %%deploy NAME --sample X.</Empty> : null}
            <Families families={families.filter(family => !isGone(family))} {...{ model, insertCell }} />
            {gone.length === 0 ? null : (
              <details className="themisto-More">
                <summary>{gone.length} retired</summary>
                <Families families={gone} {...{ model, insertCell }} />
              </details>
            )}
          </>
        );
      }}
    </Section>
  );
}

/** A name is one card, with its versions one below the other. */
function Families(props: { families: Family[]; model: Workbench; insertCell: InsertCell }): React.JSX.Element {
  const { families, model, insertCell } = props;
  return (
    <ul className="themisto-List">
      {families.map(({ name, versions }) => (
        <li key={name} className="themisto-Card">
          {versions.map(endpoint => (
            <EndpointCard key={endpoint.name} {...{ endpoint, model, insertCell }} />
          ))}
        </li>
      ))}
    </ul>
  );
}

const TONES = { waits: 'warn', 'went back': 'bad', moves: 'busy' } as const;

/** How much of it concerns a person now; seen also where the section is closed. */
function Attention({ endpoints }: { endpoints: readonly Endpoint[] }): React.JSX.Element {
  const now = useNow();
  return (
    <span className="themisto-Attention">
      {attention(endpoints, now).map(([kind, count]) => (
        <Chip key={kind} tone={TONES[kind]}>
          {count} {count === 1 ? kind : PLURAL[kind]}
        </Chip>
      ))}
    </span>
  );
}

const PLURAL = { waits: 'wait', 'went back': 'went back', moves: 'move' } as const;

/** Traffic never waits for the prediction log: where the disk was slow or full, it has gaps. */
function Losses({ model }: { model: Workbench }): React.JSX.Element | null {
  const losses = model.losses.value;
  const words = losses === null ? null : lossesInWords(losses);
  if (losses === null || words === null) {
    return null;
  }
  return (
    <p className="themisto-Faint" role="note">
      ⚠ The prediction log has gaps: {words}
      {losses.last_at ? (
        <>
          , last <Moment at={losses.last_at} />
        </>
      ) : null}
      .
    </p>
  );
}
