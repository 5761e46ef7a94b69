// What a dead letter holds, and that nothing is lost when it cannot be sent.
import { ConsumerRecord, deadLetterOf, MillraceError } from '@millrace/client'
import type { RecordHeader } from '@millrace/protocol'
import { describe, expect, test } from 'vitest'
import { type ByteProducer, sendDeadLetters } from '#src/dead-letter.js'

type Bytes = Uint8Array
const bytes = (text: string): Bytes => new TextEncoder().encode(text)

class Shelf implements ByteProducer {
  readonly topic = 'orders.dead'
  readonly sent: ConsumerRecord<Bytes, Bytes>[] = []
  refusal: Error | null = null
  isFull = false

  async ready(): Promise<void> {
    if (this.isFull) throw new Error('closed while waiting')
  }

  async send(
    key: Bytes | null,
    value: Bytes | null,
    { headers, timestamp }: { readonly headers: readonly RecordHeader[]; readonly timestamp: number },
  ): Promise<void> {
    if (this.refusal !== null) throw this.refusal
    this.sent.push(recordOf(key, value, headers, timestamp))
  }
}

function recordOf(
  key: Bytes | null,
  value: Bytes | null,
  headers: readonly RecordHeader[],
  timestamp = 5,
): ConsumerRecord<Bytes, Bytes> {
  const record = new ConsumerRecord('orders', 3, 17, timestamp, key, value, null)
  Object.defineProperty(record, 'headers', { value: headers })
  return record
}

describe('a dead letter', () => {
  test('keeps key, value, timestamp and headers, and tells its story', async () => {
    const shelf = new Shelf()
    const headers: RecordHeader[] = [
      ['trace', bytes('1')],
      ['trace', null],
    ]
    const record = recordOf(bytes('k'), null, headers)
    await sendDeadLetters(shelf, [record], { error: new TypeError('no such customer'), attempts: 4, atMs: 99 })
    const letter = shelf.sent[0]!
    expect([letter.key, letter.value, letter.timestamp]).toEqual([bytes('k'), null, 5])
    expect(letter.headers.slice(0, 2)).toEqual(headers)
    expect(letter.headers.map(([name]) => name).slice(2)).toEqual(
      ['topic', 'partition', 'offset', 'error', 'message', 'attempts', 'time'].map(
        (field) => `millrace.dead-letter.${field}`,
      ),
    )
    expect(deadLetterOf(letter)).toEqual({
      topic: 'orders',
      partition: 3,
      offset: 17,
      errorName: 'TypeError',
      errorMessage: 'no such customer',
      attempts: 4,
      atMs: 99,
    })
    expect(deadLetterOf(record)).toBe(null)
  })

  test('of a dead letter tells of its last life only', async () => {
    const shelf = new Shelf()
    await sendDeadLetters(shelf, [recordOf(null, null, [])], { error: 'text', attempts: 1, atMs: 1 })
    const again = recordOf(null, null, [['own', null], ...shelf.sent[0]!.headers])
    const error = new MillraceError('ERR_MILLRACE_TIMEOUT', 'x'.repeat(5_000))
    await sendDeadLetters(shelf, [again], { error, attempts: 2, atMs: 2 })
    const letter = shelf.sent[1]!
    expect(letter.headers.length).toBe(8)
    expect(deadLetterOf(letter)).toMatchObject({ errorName: 'ERR_MILLRACE_TIMEOUT', attempts: 2, atMs: 2 })
    expect(deadLetterOf(letter)!.errorMessage.length).toBe(1_000)
    expect(deadLetterOf(shelf.sent[0]!)).toMatchObject({ errorName: 'string', errorMessage: 'text' })
  })

  test('that cannot be sent is an error that names the record', async () => {
    const shelf = new Shelf()
    const failure = { error: new Error('x'), attempts: 1, atMs: 1 }
    shelf.refusal = new Error('refused')
    const refused = { code: 'ERR_MILLRACE_DEAD_LETTER', topic: 'orders', partition: 3, offset: 17, fatal: true }
    await expect(sendDeadLetters(shelf, [recordOf(null, null, [])], failure)).rejects.toMatchObject({
      ...refused,
      cause: shelf.refusal,
    })
    shelf.isFull = true
    await expect(sendDeadLetters(shelf, [recordOf(null, null, [])], failure)).rejects.toMatchObject(refused)
  })
})
