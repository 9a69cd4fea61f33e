/** Questions before traffic moves. */
import { Dialog, InputDialog, showDialog } from '@jupyterlab/apputils';

import { Problem } from '../api/problem';
import type { Endpoint, Rollout } from '../api/types';
import { isActive, wayBack } from '../model/endpoints';

export async function confirmPromote(endpoint: Endpoint): Promise<boolean> {
  const to = `${endpoint.name}@${endpoint.candidate ?? '?'}`;
  const from = endpoint.stable ? ` @${endpoint.stable} stays loaded, to go back to.` : '';
  const answer = await showDialog({
    title: `Promote ${to}?`,
    body: `All traffic of ${endpoint.name} (${endpoint.tier}) goes to @${endpoint.candidate ?? '?'}.${from}`,
    buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Promote' })]
  });
  return answer.button.accept;
}

export async function confirmStep({ endpoint, release, steps, step }: Rollout, share: number): Promise<boolean> {
  const end = share >= 100 ? ' It becomes stable, and the release before stays loaded, to go back to.' : '';
  const answer = await showDialog({
    title: `Next step of ${endpoint}?`,
    body: `@${release} gets ${share} % of the traffic instead of ${steps[step] ?? 0} %.${end}`,
    buttons: [Dialog.cancelButton(), Dialog.okButton({ label: `Give it ${share} %` })]
  });
  return answer.button.accept;
}

/** The reason, which is kept in the audit; null when it was called off. */
export async function confirmPause({ endpoint, release, steps, step }: Rollout): Promise<string | null> {
  const answer = await InputDialog.getText({
    title: `Pause ${endpoint}?`,
    label:
      `@${release} keeps ${steps[step] ?? 0} % until a person takes the next step; a breach still goes back by itself. ` +
      'Why? The answer is kept in the audit.',
    placeholder: 'e.g. a look at the scores',
    okLabel: 'Pause'
  });
  return answer.button.accept ? (answer.value ?? '').trim() : null;
}

/** The reason, which is kept in the audit; null when it was called off. */
export async function confirmRollback(endpoint: Endpoint): Promise<string | null> {
  const { rollout, stable } = endpoint;
  const what =
    rollout && isActive(rollout)
      ? `the rollout of @${rollout.release} ends, and it gets no traffic`
      : `the release before @${stable ?? '?'} comes back, whole`;
  const answer = await InputDialog.getText({
    title: `${wayBack(endpoint)} ${endpoint.name}?`,
    label: `Then ${what}. Why? The answer is kept in the audit.`,
    placeholder: 'e.g. drift since noon',
    okLabel: wayBack(endpoint)
  });
  return answer.button.accept ? (answer.value ?? '').trim() : null;
}

export async function confirmAccept(endpoint: Endpoint): Promise<boolean> {
  const answer = await showDialog({
    title: `Accept ${endpoint.name}?`,
    body:
      `${endpoint.name} and its versions become ${endpoint.offered_to ?? ''}'s: its members may call them, ` +
      `those of ${endpoint.group} no longer.`,
    buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Accept' })]
  });
  return answer.button.accept;
}

export async function confirmRetire(endpoint: Endpoint): Promise<boolean> {
  const answer = await showDialog({
    title: `Retire ${endpoint.name}?`,
    body: `Nothing answers under ${endpoint.name} (${endpoint.tier}) any more. The name stays with ${endpoint.group}.`,
    buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Retire' })]
  });
  return answer.button.accept;
}

/** The second question, where somebody still calls: whoever ends it all the same types the name. Raises a Problem. */
export async function confirmForce(endpoint: Endpoint, refusal: Problem): Promise<boolean> {
  const answer = await InputDialog.getText({
    title: `Retire ${endpoint.name} all the same?`,
    label: `${refusal.detail} Whoever calls it gets errors from now on. To retire it all the same, type its name.`,
    placeholder: endpoint.name,
    pattern: escaped(endpoint.name),
    required: true,
    okLabel: 'Retire all the same'
  });
  if (answer.button.accept && answer.value?.trim() !== endpoint.name) {
    throw new Problem('invalid', `${endpoint.name} was not retired.`, 'Its name was typed otherwise: try again.');
  }
  return answer.button.accept;
}

/** As a pattern that matches this text only. */
function escaped(text: string): string {
  return text.replace(/[^a-z0-9]/gi, character => `\\u{${character.codePointAt(0)?.toString(16) ?? ''}}`);
}
