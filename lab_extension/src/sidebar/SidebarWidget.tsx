/** The sidebar as Lab's widget: it lets the model know whether somebody looks. */
import { ReactWidget } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import * as React from 'react';

import type { Job } from '../api/types';
import type { InsertCell } from '../endpoints/Cells';
import { themistoIcon } from '../icon';
import type { Workbench } from '../model/workbench';
import { Sidebar } from './Sidebar';

export class SidebarWidget extends ReactWidget {
  constructor(
    private readonly model: Workbench,
    private readonly openJob: (job: Job) => Promise<void>,
    private readonly insertCell: InsertCell
  ) {
    super();
    this.id = 'themisto-sidebar';
    this.title.icon = themistoIcon;
    this.title.caption = 'themisto: endpoints, schedules, runs';
    this.addClass('themisto-Sidebar');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'themisto');
    document.addEventListener('visibilitychange', this.look);
  }

  override dispose(): void {
    document.removeEventListener('visibilitychange', this.look);
    this.model.dispose();
    super.dispose();
  }

  protected override render(): React.JSX.Element {
    return <Sidebar model={this.model} openJob={this.openJob} insertCell={this.insertCell} />;
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.look();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.look();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.look();
  }

  /** A hidden tab keeps no line open, so that an idle server can be culled. */
  private readonly look = (): void => {
    this.model.watch(this.isVisible && document.visibilityState === 'visible');
  };
}
