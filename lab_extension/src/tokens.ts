/** What other extensions may ask for: the model of the workbench. */
import { Token } from '@lumino/coreutils';
import type { ISignal } from '@lumino/signaling';

import type { Endpoint, Run, Schedule } from './api/types';
import type { Connection } from './model/live';
import type { Known } from './model/resource';

export interface IWorkbench {
  /** Emitted after each change of what is known. */
  readonly changed: ISignal<IWorkbench, void>;
  readonly connection: Connection;
  readonly endpoints: { readonly known: Known<Endpoint[]> };
  readonly runs: { readonly known: Known<Run[]> };
  readonly schedules: { readonly known: Known<Schedule[]> };
}

export const IWorkbench = new Token<IWorkbench>(
  'themisto-lab:IWorkbench',
  'Endpoints, runs and schedules of the workbench, kept fresh while the panel is open.'
);
