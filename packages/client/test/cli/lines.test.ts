// Lines out of chunks, however the chunks are cut.
import { describe, expect, it } from 'vitest'
import { type Line, readLines } from '#src/cli/lines.js'

async function* inChunks(text: string, size: number): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function linesOf(text: string, chunkSize: number, maxBytes = 1000): Promise<readonly (string | null)[]> {
  const lines: Line[] = []
  for await (const group of readLines(inChunks(text, chunkSize), maxBytes)) lines.push(...group)
  expect(lines.map((line) => line.number)).toEqual(lines.map((_, at) => at + 1))
  return lines.map((line) => (line.bytes === null ? null : Buffer.from(line.bytes).toString()))
}

describe('lines', () => {
  it.each([1, 2, 3, 5, 100])('come whole out of chunks of %i bytes', async (size) => {
    expect(await linesOf('one\n\nthree ü\r\nlast', size)).toEqual(['one', '', 'three ü\r', 'last'])
    expect(await linesOf('one\ntwo\n', size)).toEqual(['one', 'two'])
    expect(await linesOf('\n', size)).toEqual([''])
    expect(await linesOf('', size)).toEqual([])
  })

  it.each([1, 3, 4, 50])('that are too long are skipped and counted, in chunks of %i bytes', async (size) => {
    expect(await linesOf('1234\n12345\n1\n12345678901\n1234', size, 4)).toEqual(['1234', null, '1', null, '1234'])
    expect(await linesOf('12345', size, 4)).toEqual([null])
  })
})
