/** One endpoint: its releases with their share of the traffic, and what can be done about it. */
import * as React from 'react';

import type { Endpoint } from '../api/types';
import { allowed } from '../model/endpoints';
import type { Workbench } from '../model/workbench';
import { useAction } from '../ui/hooks';
import { Chip, ProblemNotice } from '../ui/parts';
import { Actions } from './Actions';
import type { InsertCell } from './Cells';
import { confirmAccept } from './confirm';
import { Details } from './Details';
import { Offer } from './Offer';
import { Review, RolloutLine } from './RolloutLine';
import { Traffic } from './Traffic';

export function EndpointCard(props: {
  endpoint: Endpoint;
  model: Workbench;
  insertCell: InsertCell;
}): React.JSX.Element {
  const { endpoint, model, insertCell } = props;
  const action = useAction();
  const { busy, problem, run } = action;
  const may = allowed(endpoint, model.who.value);
  const rollout = endpoint.rollout ?? null;

  const accept = async (): Promise<void> => {
    if (await confirmAccept(endpoint)) {
      await model.accept(endpoint);
    }
  };

  return (
    <div className="themisto-Endpoint" role="group" aria-label={`endpoint ${endpoint.name}`}>
      <header className="themisto-Card-head">
        <strong className="themisto-Card-name" title={`owned by ${endpoint.group}`}>
          {endpoint.name}
        </strong>
        <Chip tone={endpoint.tier === 'prod' ? 'warn' : 'plain'}>{endpoint.tier}</Chip>
        {endpoint.retired ? <Chip>retired</Chip> : null}
      </header>
      <Traffic endpoint={endpoint} />
      {rollout === null ? null : <RolloutLine endpoint={endpoint} rollout={rollout} />}
      {rollout?.state === 'waiting_approval' ? <Review rollout={rollout} me={model.who.value?.name} /> : null}
      {endpoint.offered_to ? (
        <Offer endpoint={endpoint} to={endpoint.offered_to} accept={may.accept ? () => run(accept) : null} busy={busy} />
      ) : null}
      <Actions {...{ endpoint, model, may, action }} />
      {problem === null ? null : <ProblemNotice problem={problem} />}
      {may.look || rollout !== null ? <Details {...{ endpoint, model, may, insertCell }} /> : null}
    </div>
  );
}
