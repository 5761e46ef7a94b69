// Interceptors: every record is seen once at each end, headers travel, and nothing that one throws loses a record.
import { type Interceptor, type MillraceError, type OutgoingRecord, processEach, topic, utf8 } from '@millrace/client'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { begin, type Setting, Texts } from './support/setting.js'
import { wrong } from './support/wrong.js'

const encoder = new TextEncoder()
const decoder = new TextDecoder()

interface Note {
  readonly hook: keyof Interceptor
  readonly record: OutgoingRecord
  readonly outcome?: unknown
}

class Recorder implements Interceptor {
  readonly notes: Note[] = []
  readonly consumed: string[] = []

  onSend(record: OutgoingRecord): void {
    this.notes.push({ hook: 'onSend', record })
  }

  onAcknowledged(record: OutgoingRecord, { partition, offset }: { partition: number; offset: number | null }): void {
    this.notes.push({ hook: 'onAcknowledged', record, outcome: [partition, offset] })
  }

  onFailed(record: OutgoingRecord, error: MillraceError): void {
    this.notes.push({ hook: 'onFailed', record, outcome: error.code })
  }

  onConsume({ partition, offset }: { partition: number; offset: number }): void {
    this.consumed.push(`${partition}/${offset}`)
  }

  count(hook: keyof Interceptor): number {
    return this.notes.filter((note) => note.hook === hook).length
  }
}

async function received({ world, mill }: Setting): Promise<(readonly [string | null, string, ...string[]])[]> {
  const seen: (readonly [string | null, string, ...string[]])[] = []
  const loop = (async () => {
    for await (const { key, value, headers } of mill.consumer().subscribe(Texts, { from: 'earliest', until: 'end' })) {
      seen.push([key, value!, ...headers.map(([name, bytes]) => `${name}=${bytes && decoder.decode(bytes)}`)])
    }
  })()
  await world.result(loop)
  return seen
}

describe('tracing', () => {
  test('a context travels from the sender to the handler in headers, as OpenTelemetry propagates it', async () => {
    // What `propagation.inject(context, carrier, setter)` and `extract(context, carrier, getter)` do with W3C headers.
    const inject = (carrier: OutgoingRecord['headers'], span: string): void => {
      carrier.push(['traceparent', encoder.encode(span)])
    }
    let spans = 0
    const open = new Map<OutgoingRecord, string>()
    const ended: string[] = []
    const handled: string[] = []
    const tracing: Interceptor = {
      onSend(record) {
        const span = `00-${++spans}`
        open.set(record, span)
        inject(record.headers, span)
      },
      onAcknowledged(record, { partition, offset }) {
        ended.push(`${open.get(record)} ${record.topic}/${partition}/${offset}`)
        open.delete(record)
      },
      onConsume(record) {
        handled.push(`consume ${decoder.decode(record.header('traceparent')!)}`)
      },
    }
    const setting = begin({ partitions: 1, interceptors: [tracing] })
    const { world, mill } = setting
    const producer = mill.producer(Texts)
    await world.result(producer.send('a', 'one', { headers: [['own', encoder.encode('kept')]] }))
    await world.result(producer.sendBatch([{ key: 'b', value: 'two' }]))
    expect(ended).toEqual(['00-1 orders/0/0', '00-2 orders/0/1'])
    expect(open.size).toBe(0)
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest', until: 'end' })
      .pipe(processEach(async (record) => handled.push(`handle ${decoder.decode(record.header('traceparent')!)}`)))
      .subscribe()
    await world.run(50)
    expect(handled).toEqual(['consume 00-1', 'handle 00-1', 'consume 00-2', 'handle 00-2'])
    expect(await received(setting)).toEqual([
      ['a', 'one', 'own=kept', 'traceparent=00-1'],
      ['b', 'two', 'traceparent=00-2'],
    ])
  })

  test('hooks see what was given to send, in the order of the list, and the list of the caller stays as it is', async () => {
    const order: string[] = []
    const first: Interceptor = {
      onSend: ({ headers }) => {
        order.push('first')
        headers.push(['one', null])
      },
    }
    const recorder = new Recorder()
    const setting = begin({ interceptors: [first, recorder] })
    const given = [['own', encoder.encode('x')]] as const
    const options = { headers: given, timestamp: 7, partition: 2 }
    await setting.world.result(setting.mill.producer(Texts).send('k', 'v', options))
    expect(order).toEqual(['first'])
    expect(given.length).toBe(1)
    expect(recorder.notes[0]?.record).toMatchObject({
      topic: 'orders',
      key: 'k',
      value: 'v',
      timestamp: 7,
      partition: 2,
      headers: [
        ['own', expect.anything()],
        ['one', null],
      ],
    })
    expect(recorder.notes.map(({ hook, outcome }) => [hook, outcome])).toEqual([
      ['onSend', undefined],
      ['onAcknowledged', [2, 0]],
    ])
  })
})

describe('each record of onSend has one end', () => {
  test('refused before it is queued, failed by the broker, unknown, or closed', async () => {
    const recorder = new Recorder()
    const setting = begin({ interceptors: [recorder], bufferBytes: 2_000 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts)
    await world.failure(producer.send('k', wrong<string>(undefined)))
    await world.failure(
      producer.sendBatch([
        { key: 'a', value: 'b' },
        { key: 'a', value: wrong<string>(7) },
      ]),
    )
    await world.failure(producer.send('k', 'v', { partition: 99 }))
    cluster.produceRule = () => ({ refuse: 'INVALID_BATCH' })
    await world.failure(producer.send('k', 'v'))
    cluster.produceRule = () => ({ silent: true })
    const left = Promise.allSettled([producer.send('k', 'x'.repeat(3_000)), producer.send('k', 'full')])
    await world.run(10)
    await world.failure(mill.close({ timeoutMs: 50 }))
    await left
    await world.failure(producer.send('k', 'closed'))
    await world.run(1)
    const ends = recorder.notes.filter(({ hook }) => hook !== 'onSend')
    expect(ends.map(({ outcome }) => outcome)).toEqual([
      'ERR_MILLRACE_SERIALIZATION',
      'ERR_MILLRACE_SERIALIZATION',
      'ERR_MILLRACE_SERIALIZATION',
      'ERR_MILLRACE_UNKNOWN_PARTITION',
      'ERR_MILLRACE_INVALID_BATCH',
      'ERR_MILLRACE_BUFFER_FULL',
      'ERR_MILLRACE_DELIVERY_UNKNOWN',
      'ERR_MILLRACE_CLOSED',
    ])
    expect(new Set(ends.map(({ record }) => record)).size).toBe(ends.length)
    expect(recorder.count('onSend')).toBe(ends.length)
  })

  test('whatever becomes of them, and however often they are sent again', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('ok', 'refuse', 'overload', 'bad', 'batch'), { minLength: 1, maxLength: 30 }),
        async (plan) => {
          const recorder = new Recorder()
          const { world, cluster, mill } = begin({ interceptors: [recorder] })
          const producer = mill.producer(Texts)
          let turn = 0
          cluster.produceRule = () => {
            const step = plan[turn++ % plan.length]
            if (step === 'refuse') return { refuse: 'INVALID_BATCH' }
            return step === 'overload' && turn % 3 === 0 ? { refuse: 'OVERLOADED' } : undefined
          }
          const sends: Promise<unknown>[] = []
          for (const [i, step] of plan.entries()) {
            if (step === 'batch')
              sends.push(
                producer.sendBatch([
                  { key: 'a', value: 'b' },
                  { key: null, value: null },
                ]),
              )
            else sends.push(producer.send(`k${i}`, step === 'bad' ? wrong<string>(1) : step))
          }
          await world.result(Promise.allSettled(sends), 600_000)
          await world.run(1)
          expect(recorder.count('onAcknowledged') + recorder.count('onFailed')).toBe(recorder.count('onSend'))
          const begun = recorder.notes.filter(({ hook }) => hook === 'onSend').map(({ record }) => record)
          const ended = recorder.notes.filter(({ hook }) => hook !== 'onSend').map(({ record }) => record)
          expect(new Set(ended)).toEqual(new Set(begun))
          // It tells of the records that failed once more.
          await Promise.allSettled([mill.close({ timeoutMs: 0 })])
        },
      ),
      { numRuns: 40 },
    )
  })
})

describe('an interceptor that misbehaves loses no record', () => {
  const trouble = new Error('out of order')
  const fail = (_after?: unknown): never => {
    throw trouble
  }

  test('throwing from every hook: a warning, at most once a minute, and the others are called', async () => {
    const recorder = new Recorder()
    const broken: Interceptor = { onSend: fail, onAcknowledged: fail, onFailed: fail, onConsume: fail }
    const setting = begin({ partitions: 1, interceptors: [broken, recorder] })
    const { world, mill } = setting
    const producer = mill.producer(Texts)
    await world.result(Promise.all([producer.send('a', '1'), producer.send('a', '2')]))
    expect(await world.failure(producer.send('a', wrong<string>(3)))).toMatchObject({
      code: 'ERR_MILLRACE_SERIALIZATION',
    })
    expect((await received(setting)).map(([, value]) => value)).toEqual(['1', '2'])
    expect([recorder.count('onSend'), recorder.count('onAcknowledged'), recorder.count('onFailed')]).toEqual([3, 2, 1])
    expect(recorder.consumed).toEqual(['0/0', '0/1'])
    expect(world.warnings.map(({ code }) => code)).toEqual(['MILLRACE_INTERCEPTOR'])
    expect(world.warnings[0]!.message).toContain('onSend of an interceptor failed: out of order')
    await world.run(61_000)
    await world.result(producer.send('a', '3'))
    expect(world.warnings.length).toBe(2)
  })

  test('asynchronous hooks are not waited for, and their failure ends no process', async () => {
    const broken: Interceptor = { onSend: wrong(async () => fail()) }
    const { world, mill } = begin({ interceptors: [broken] })
    await world.result(mill.producer(Texts).send('a', '1'))
    await world.run(1)
    expect(world.warnings.map(({ code }) => code)).toEqual(['MILLRACE_INTERCEPTOR'])
  })

  test.each<readonly [string, (record: OutgoingRecord) => void]>([
    ['added before it threw', ({ headers }) => fail(headers.push(['half', null]))],
    ['of a wrong type', ({ headers }) => void headers.push(wrong(['trace', 'a string']))],
    ['without a name', ({ headers }) => void headers.push(wrong([7, null]))],
    ['too many', ({ headers }) => void headers.push(...Array.from({ length: 300 }, () => ['h', null] as const))],
    ['too large', ({ headers }) => void headers.push(['h', new Uint8Array(70_000)])],
  ])('headers %s: the record goes without them', async (_what, onSend) => {
    const setting = begin({ partitions: 1, interceptors: [{ onSend }] })
    const { world, mill } = setting
    await world.result(mill.producer(Texts).send('a', '1', { headers: [['own', encoder.encode('kept')]] }))
    expect(await received(setting)).toEqual([['a', '1', 'own=kept']])
    expect(world.warnings.map(({ code }) => code)).toEqual(['MILLRACE_INTERCEPTOR'])
  })

  test('a record that just fits still does', async () => {
    const onSend = ({ headers }: OutgoingRecord): void => void headers.push(['trace', new Uint8Array(1_000)])
    const setting = begin({ partitions: 1, interceptors: [{ onSend }] })
    const { world, mill } = setting
    const producer = mill.producer(topic('orders', { key: utf8, value: utf8 }))
    await world.result(producer.send(null, 'x'.repeat(4 * 1024 * 1024 - 100)))
    expect((await received(setting)).map((record) => record.length)).toEqual([2])
  })

  test('a hook may send, also from within an answer', async () => {
    const sent: Promise<unknown>[] = []
    const again: Interceptor = {
      onAcknowledged: ({ value }) => {
        if (value === 'first') sent.push(producer.send('a', 'second'))
      },
    }
    const setting = begin({ partitions: 1, interceptors: [again] })
    const producer = setting.mill.producer(Texts)
    await setting.world.result(producer.send('a', 'first'))
    await setting.world.run(20)
    await setting.world.result(Promise.all(sent))
    expect((await received(setting)).map(([, value]) => value)).toEqual(['first', 'second'])
  })
})

test('a list of interceptors is checked', () => {
  for (const interceptors of ['x', [null], [{}], [{ onSend: 'x' }]]) {
    expect(() => begin({ interceptors: wrong(interceptors) })).toThrow('interceptors')
  }
})

test('headers of the application are checked by type', async () => {
  const { world, mill } = begin()
  const producer = mill.producer(Texts)
  for (const headers of ['x', [['h', 'text']], ['h'], [[1, null]]]) {
    expect(await world.failure(producer.send('a', 'b', { headers: wrong(headers) }))).toMatchObject({
      code: 'ERR_MILLRACE_SERIALIZATION',
      outcome: 'failed',
    })
  }
})
