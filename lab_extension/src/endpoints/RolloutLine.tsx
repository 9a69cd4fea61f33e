/** What moves, how far it is, and why it went back. */
import * as React from 'react';

import type { Endpoint, Rollout } from '../api/types';
import { isUndecided, standingOf } from '../model/attention';
import { isActive, stepOf } from '../model/endpoints';
import { gatesInWords } from '../model/gates';
import { useNow } from '../ui/hooks';
import { Moment, Notice, OutLink, StateChip } from '../ui/parts';

const FINDINGS = { worse: 'Worse than stable', open: 'Not decided yet', fine: 'As good as stable' } as const;

export function RolloutLine({ endpoint, rollout }: { endpoint: Endpoint; rollout: Rollout }): React.JSX.Element {
  const now = useNow();
  if (standingOf(endpoint, now) === 'went back') {
    return <WentBack rollout={rollout} />;
  }
  const step = stepOf(rollout);
  const gates = isActive(rollout) ? gatesInWords(rollout.gates) : null;
  const verdict = rollout.state === 'running' ? rollout.verdict : null;
  return (
    <div className="themisto-Rollout">
      <span className="themisto-Row">
        <StateChip state={rollout.state} />
        <span className="themisto-Faint">
          @{rollout.release} <Moment at={rollout.updated_at} />
        </span>
      </span>
      {step === null ? null : (
        <span className="themisto-Faint">
          {step}
          {rollout.step_since ? (
            <>
              {' '}
              since <Moment at={rollout.step_since} />
            </>
          ) : null}
        </span>
      )}
      {isUndecided(rollout) ? (
        <Notice tone="warn" title="Too few answers to decide: it waits for a person" text={rollout.message} />
      ) : isActive(rollout) && rollout.message ? (
        <span className="themisto-Message">{rollout.message}</span>
      ) : null}
      {verdict ? (
        <span className="themisto-Message themisto-Verdict" title={verdict.words}>
          <b>{FINDINGS[verdict.finding]}.</b> {verdict.words}
        </span>
      ) : null}
      {gates === null ? null : <span className="themisto-Faint">{gates}</span>}
    </div>
  );
}

const ENDS: Readonly<Record<string, string>> = { failed: 'failed', refused: 'was refused', rolled_back: 'went back' };

function WentBack({ rollout }: { rollout: Rollout }): React.JSX.Element {
  return (
    <Notice tone="bad" quiet title={`@${rollout.release} ${ENDS[rollout.state] ?? rollout.state}`} text={rollout.message}>
      <span className="themisto-Faint">
        <Moment at={rollout.updated_at} />
      </span>
    </Notice>
  );
}

/** The decision is made on the control plane's own page, after a login there; here is only the way to it. */
export function Review({ rollout, me }: { rollout: Rollout; me: string | undefined }): React.JSX.Element {
  const own = rollout.requested_by === me;
  return (
    <Notice
      tone="warn"
      title={`${rollout.endpoint}@${rollout.release} waits for approval`}
      text={own ? 'You asked for it: another person has to approve.' : `Asked for by ${rollout.requested_by}.`}
    >
      <OutLink
        href={rollout.review_url}
        className="themisto-LinkButton"
        label={`Review ${rollout.endpoint}@${rollout.release} in a new tab`}
      >
        Review ↗
      </OutLink>
    </Notice>
  );
}
