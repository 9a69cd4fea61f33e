/** What is done about traffic every day: promote, step, pause, go back. Each asks first, one at a time. */
import * as React from 'react';

import type { Endpoint, Rollout } from '../api/types';
import { type Allowed, nextShare, wayBack } from '../model/endpoints';
import type { Workbench } from '../model/workbench';
import type { Action } from '../ui/hooks';
import { confirmPause, confirmPromote, confirmRollback, confirmStep } from './confirm';

interface Props {
  readonly endpoint: Endpoint;
  readonly model: Workbench;
  readonly may: Allowed;
  readonly action: Action;
}

export function Actions({ endpoint, model, may, action }: Props): React.JSX.Element | null {
  const { busy, run } = action;
  const rollout = endpoint.rollout ?? null;
  const back = wayBack(endpoint);
  const promote = async (): Promise<void> => {
    if (await confirmPromote(endpoint)) {
      await model.promote(endpoint);
    }
  };
  const rollback = async (): Promise<void> => {
    const reason = await confirmRollback(endpoint);
    if (reason !== null) {
      await model.rollback(endpoint, reason);
    }
  };
  if (!may.promote && !may.rollback) {
    return null;
  }
  return (
    <div className="themisto-Row">
      {may.promote ? (
        <button
          className="jp-mod-styled jp-mod-accept themisto-Button"
          disabled={busy}
          aria-label={`Promote ${endpoint.name}@${rollout?.release ?? ''}`}
          onClick={() => run(promote)}
        >
          Promote
        </button>
      ) : null}
      {may.rollback ? (
        <button
          className="jp-mod-styled jp-mod-reject themisto-Button"
          disabled={busy}
          aria-label={`${back} ${endpoint.name}`}
          onClick={() => run(rollback)}
        >
          {back}
        </button>
      ) : null}
      {may.step && rollout !== null ? <Steps {...{ rollout, model, action }} /> : null}
    </div>
  );
}

function Steps({ rollout, model, action }: { rollout: Rollout; model: Workbench; action: Action }): React.JSX.Element {
  const { busy, run } = action;
  const share = nextShare(rollout);
  const step = async (): Promise<void> => {
    if (await confirmStep(rollout, share)) {
      await model.step(rollout);
    }
  };
  const pause = async (): Promise<void> => {
    const reason = await confirmPause(rollout);
    if (reason !== null) {
      await model.pause(rollout, reason);
    }
  };
  return (
    <>
      <button
        className="jp-mod-styled themisto-Button"
        disabled={busy}
        aria-label={`Next step of ${rollout.endpoint}: ${share} %`}
        onClick={() => run(step)}
      >
        Step to {share} %
      </button>
      <button
        className="jp-mod-styled themisto-Button"
        disabled={busy}
        aria-label={`${rollout.manual ? 'Resume' : 'Pause'} ${rollout.endpoint}`}
        onClick={() => run(rollout.manual ? () => model.resume(rollout) : pause)}
      >
        {rollout.manual ? 'Resume' : 'Pause'}
      </button>
    </>
  );
}
