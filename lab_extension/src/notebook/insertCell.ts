/** A ready cell, put below the active cell of the notebook that the person works in. */
import type { JupyterFrontEnd } from '@jupyterlab/application';

import { isRecord, Problem } from '../api/problem';

/** What is used of a notebook's widget. Its package is not depended on: 175 packages more, for one type. */
interface NotebookPanel {
  readonly content: {
    readonly activeCell: {
      readonly model: { readonly sharedModel: { getSource: () => string; setSource: (source: string) => void } };
    };
    mode: string;
  };
}

const INSERT = 'notebook:insert-cell-below';
const AS_CODE = 'notebook:change-cell-to-code';

/**
 * Insert it, show the notebook, and leave the cursor in the cell. Nothing runs: that is the person's to do.
 *
 * Lab's own command knows which notebook is the current one, and makes it undoable.
 */
export async function insertCell(app: JupyterFrontEnd, source: string): Promise<void> {
  const { commands, shell } = app;
  const before = commands.hasCommand(INSERT) ? shell.currentWidget : null;
  const cellBefore = isNotebookPanel(before) ? before.content.activeCell : null;
  if (commands.hasCommand(INSERT)) {
    await commands.execute(INSERT);
  }
  const panel = shell.currentWidget;
  if (!isNotebookPanel(panel) || panel.content.activeCell === cellBefore) {
    throw new Problem('invalid', 'No notebook is open.', `Open one and try again, or type ${source} yourself.`);
  }
  await commands.execute(AS_CODE);
  panel.content.activeCell.model.sharedModel.setSource(source);
  panel.content.mode = 'edit';
}

function isNotebookPanel(widget: unknown): widget is NotebookPanel {
  return isRecord(widget) && isRecord(widget.content) && isRecord(widget.content.activeCell) && 'mode' in widget.content;
}
