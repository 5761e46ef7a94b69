// An application that consumes: one session after the other, every delivery written down.
import { type Consumer, type ConsumerRecord, type From, type Mill, processEach, settle } from '@millrace/client'
import { type Observable, tap } from 'rxjs'
import { type AppContext, mustBeMillraceError } from './app-context.js'
import type { ConsumerPlan } from './options.js'
import type { OpenSession } from './recorder.js'

type BytesRecord = ConsumerRecord<Uint8Array, Uint8Array>

/** Between two sessions. */
const MEAN_PAUSE_MS = 250
const RETRY_MS = 50

export class ConsumerApp {
  /** The session that runs now. */
  current: OpenSession | null = null
  private sessions = 0
  private stopping = false
  private endSession: (() => void) | null = null

  constructor(
    private readonly context: AppContext,
    readonly name: string,
    readonly plan: ConsumerPlan,
  ) {}

  async run(mill: Mill): Promise<void> {
    const consumer = mill.consumer({ inFlightBytes: this.plan.inFlightBytes })
    while (!this.stopping) {
      await this.oneSession(consumer)
      if (this.plan.isOnce === true) break
      await this.context.sleep(this.context.random.exponential(MEAN_PAUSE_MS))
    }
    await consumer.close()
  }

  /** Ends the session that runs; no other follows. */
  stop(): void {
    this.stopping = true
    this.endSession?.()
  }

  private async oneSession(consumer: Consumer): Promise<void> {
    const { recorder, coverage, random, sleep } = this.context
    const { topic, recordedAs = topic, from, untilEnd, meanSessionMs } = this.plan
    const name = `${this.name}.${++this.sessions}`
    const session = recorder.openSession(name, recordedAs, from === 'earliest' ? 'earliest' : 'latest')
    const source = consumer.subscribe(topic, { from: this.drawFrom(), ...(untilEnd ? { until: 'end' } : {}) })
    this.current = session
    const over = this.plan.consumption === 'iterate' ? this.iterate(source, session) : this.follow(source, session)
    void sleep(random.exponential(meanSessionMs)).then(() => {
      if (this.current === session) this.endSession?.()
    })
    try {
      const how = await over
      coverage.count(how === 'completed' ? 'session completed' : 'session unsubscribed')
      session.reachedEnd = how === 'completed' && untilEnd
    } catch (error) {
      mustBeMillraceError(error)
      coverage.count('session failed')
      session.failure = error.code
      await sleep(RETRY_MS)
    }
    this.current = null
    this.endSession = null
  }

  private drawFrom(): From {
    const { random, environment } = this.context
    const { from } = this.plan
    if (from === 'offset') return { offset: random.integer(0, 20) }
    if (from === 'timestamp') return { timestamp: environment.wallMs() - random.integer(0, 1000) }
    return from
  }

  private follow(source: Observable<BytesRecord>, session: OpenSession): Promise<'completed' | 'unsubscribed'> {
    const noted = source.pipe(tap((record) => this.note(session, record)))
    return new Promise((resolve, reject) => {
      const subscription = this.finish(noted).subscribe({ error: reject, complete: () => resolve('completed') })
      this.endSession = () => {
        subscription.unsubscribe()
        resolve('unsubscribed')
      }
    })
  }

  /** In all the ways in which a record can come to be finished. */
  private finish(source: Observable<BytesRecord>): Observable<unknown> {
    const { consumption, concurrency } = this.plan
    if (consumption === 'plain') return source
    if (consumption === 'settle') return source.pipe(settle())
    return source.pipe(processEach(() => this.work(), { concurrency }))
  }

  private async iterate(
    source: AsyncIterable<BytesRecord>,
    session: OpenSession,
  ): Promise<'completed' | 'unsubscribed'> {
    const iterator = source[Symbol.asyncIterator]()
    let ended = false
    this.endSession = () => {
      ended = true
      void iterator.return?.()
    }
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
      this.note(session, next.value)
      await this.work()
    }
    return ended ? 'unsubscribed' : 'completed'
  }

  private async work(): Promise<void> {
    const { random, sleep } = this.context
    if (this.plan.meanWorkMs > 0) await sleep(random.exponential(this.plan.meanWorkMs))
  }

  private note(session: OpenSession, record: BytesRecord): void {
    const { key, value, headers, timestamp, partition, offset } = record
    this.context.recorder.read(session, partition, offset, { key, value, headers, timestamp })
  }
}
