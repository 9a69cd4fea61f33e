/** A job's output, opened as a notebook in one click, at the cell that failed. */
import type { Contents } from '@jupyterlab/services';
import type { CommandRegistry } from '@lumino/commands';

import type { ControlPlane } from '../api/client';
import { isRecord, Problem } from '../api/problem';
import type { Job } from '../api/types';
import { failingCell, outputPath } from './failure';

/** What is used of a notebook's widget. Its package is not depended on: 175 packages more, for one type. */
interface NotebookPanel {
  readonly revealed: Promise<void>;
  readonly context: { readonly ready: Promise<void> };
  readonly content: {
    activeCellIndex: number;
    scrollToItem?: (index: number, align?: string) => Promise<void>;
  };
}

/**
 * Save the output into the person's files, unless it is there, and open it.
 *
 * What she may have changed in it is not overwritten. Its outputs stay untrusted: Lab sanitises them.
 */
export async function openJob(
  api: ControlPlane,
  contents: Contents.IManager,
  commands: CommandRegistry,
  job: Job
): Promise<void> {
  const path = outputPath(job);
  const notebook = (await read(contents, path)) ?? (await save(contents, path, await api.output(job)));
  const opened: unknown = await commands.execute('docmanager:open', { path, factory: 'Notebook' });
  const index = failingCell(notebook, job);
  if (index !== null && isNotebookPanel(opened)) {
    await opened.context.ready;
    await opened.revealed;
    opened.content.activeCellIndex = index;
    await opened.content.scrollToItem?.(index, 'center');
  }
}

async function read(contents: Contents.IManager, path: string): Promise<unknown> {
  try {
    const model = await contents.get(path, { type: 'notebook', content: true });
    return model.content as unknown;
  } catch (error) {
    if (isRecord(error) && isRecord(error.response) && error.response.status === 404) {
      return null;
    }
    throw new Problem('failed', `The file ${path} cannot be read.`, 'Move or remove it, and try again.');
  }
}

async function save(contents: Contents.IManager, path: string, notebook: unknown): Promise<unknown> {
  try {
    await contents.save('jobs', { type: 'directory' });
    await contents.save(path, { type: 'notebook', format: 'json', content: notebook });
  } catch {
    throw new Problem('failed', `The output could not be saved as ${path}.`, 'Is your disk full, or `jobs` a file?');
  }
  return notebook;
}

function isNotebookPanel(widget: unknown): widget is NotebookPanel {
  return (
    isRecord(widget) &&
    isRecord(widget.context) &&
    isRecord(widget.content) &&
    typeof widget.content.activeCellIndex === 'number'
  );
}
