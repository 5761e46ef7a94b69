// Cuts a stream of bytes into lines without ever holding more than a chunk and one line of the longest allowed length.

export interface Line {
  /** 1 for the first line. */
  readonly number: number
  /** Without its line end; null when the line was longer than allowed, and then it has been skipped. */
  readonly bytes: Uint8Array | null
}

const LINE_END = 0x0a

/**
 * Lines in groups: all that one chunk completes. The last line needs no line end; an empty line is a line.
 * @param maxBytes a longer line comes as `bytes: null`.
 */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<readonly Line[], void, undefined> {
  let number = 0
  let begun: Uint8Array[] = []
  let begunBytes = 0
  const complete = (tail: Uint8Array): Line => {
    number++
    const total = begunBytes + tail.length
    const bytes = total > maxBytes ? null : begun.length === 0 ? tail : Buffer.concat([...begun, tail], total)
    begun = []
    begunBytes = 0
    return { number, bytes }
  }
  for await (const chunk of chunks) {
    const lines: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(LINE_END); end >= 0; end = chunk.indexOf(LINE_END, start)) {
      lines.push(complete(chunk.subarray(start, end)))
      start = end + 1
    }
    if (start < chunk.length) {
      begunBytes += chunk.length - start
      // Of a line that is too long only its length is kept.
      if (begunBytes > maxBytes) begun = []
      else begun.push(chunk.subarray(start))
    }
    if (lines.length > 0) yield lines
  }
  if (begunBytes > 0) yield [complete(new Uint8Array(0))]
}
