/** Server-sent events (WHATWG HTML 9.2), read from a fetch: an EventSource cannot send Jupyter's XSRF header. */

export interface ServerEvent {
  readonly kind: string;
  readonly data: unknown;
}

/** The events in a stream of text; comments (heartbeats) are dropped, data that is no JSON becomes null. */
export async function* parseEvents(chunks: AsyncIterable<string>): AsyncGenerator<ServerEvent> {
  let rest = '';
  for await (const chunk of chunks) {
    const blocks = (rest + chunk).replace(/\r\n?/g, '\n').split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const event = parseBlock(block);
      if (event !== null) {
        yield event;
      }
    }
  }
}

/** The text of a body, as it comes; the body is cancelled when the reader stops. */
export async function* readText(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function parseBlock(block: string): ServerEvent | null {
  let kind = 'message';
  const data: string[] = [];
  for (const line of block.split('\n')) {
    const [, field, value = ''] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === 'event') {
      kind = value;
    } else if (field === 'data') {
      data.push(value);
    }
  }
  return data.length > 0 ? { kind, data: json(data.join('\n')) } : null;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
