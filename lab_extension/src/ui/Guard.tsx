/** A guard around each section: one that cannot be drawn does not take the others with it. */
import * as React from 'react';

import { Notice } from './parts';

interface State {
  readonly broken: boolean;
}

export class Guard extends React.Component<{ title: string; children: React.ReactNode }, State> {
  static getDerivedStateFromError(): State {
    return { broken: true };
  }

  override state: State = { broken: false };

  override componentDidCatch(error: unknown): void {
    console.warn(`themisto: ${this.props.title} could not be drawn`, error);
  }

  override render(): React.ReactNode {
    if (!this.state.broken) {
      return this.props.children;
    }
    return (
      <Notice
        tone="bad"
        title={`${this.props.title} cannot be shown.`}
        text="The panel and the control plane may be of different versions: reload the page, then tell the platform team."
      />
    );
  }
}
