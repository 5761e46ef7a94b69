// retryOrDeadLetter: work that is tried again, a limited number of times, and whose record then goes to a dead-letter topic,
// so that one bad record neither blocks its partition for ever nor is lost.
import { abortError, onAbort } from '../abort.js'
import { Backoff } from '../backoff.js'
import { type ByteProducer, sendDeadLetters } from '../dead-letter.js'
import type { ClientEnvironment } from '../environment.js'
import { invalidArgument, reasonOf } from '../errors.js'
import { MAX_TIMER_MS } from '../limits.js'
import { integer, onlyKnown, type RetryOptions } from '../options.js'
import { checkTopicName } from '../topic.js'
import { isPromise, Job, NO_RESULT, type NoResult, type Work, type WorkContext } from './worker.js'

export interface RetryOrDeadLetterOptions {
  /** How often a record is tried in all, 1 for no second time. Default 3. */
  readonly attempts?: number
  /**
   * Milliseconds between attempts: doubling with full jitter (default 100 up to 10,000), or a function of the number of
   * attempts made and the last error.
   */
  readonly backoff?: Partial<RetryOptions> | ((attemptsMade: number, error: unknown) => number)
  /** Whether it is worth trying again after this error. Default: it always is. */
  readonly retryIf?: (error: unknown) => boolean
  /** Where records go whose work has failed for good. The topic must exist; they are sent by the client they came from. */
  readonly topic?: string
  /** Sends them instead, such as one of another client or with other options: `mill.producer('orders.dead', …)`. */
  readonly producer?: ByteProducer
}

interface Policy {
  readonly attempts: number
  readonly retryIf: (error: unknown) => boolean
  waits(environment: ClientEnvironment): (attemptsMade: number, error: unknown) => number
  producerFor(job: Job<unknown>): ByteProducer
}

const MAX_ATTEMPTS = 1_000_000
const KEYS = [
  'attempts',
  'backoff',
  'retryIf',
  'topic',
  'producer',
] as const satisfies readonly (keyof RetryOrDeadLetterOptions)[]

/**
 * Work for processEach(), processByKey() and processByPartition(): `work`, tried again when it throws or rejects, up to
 * `attempts` times. A record that failed every time is sent to the dead-letter topic with its key, value, timestamp and
 * headers as they were and headers that tell its origin and error (`deadLetterOf`); only when that is acknowledged is it
 * settled, and nothing is emitted for it. Those behind it in its lane wait meanwhile, others go on. A batch is tried as a
 * whole, and all its records become dead letters.
 *
 * The stream errors with DEAD_LETTER when the dead letter cannot be sent. `status$` tells of each as `dead-lettered`. The
 * wait for another attempt ends at once when the subscription ends without waiting for its work.
 * @throws MillraceError INVALID_ARGUMENT.
 */
export function retryOrDeadLetter<T, R>(work: Work<T, R>, options: RetryOrDeadLetterOptions): Work<T, R> {
  const policy = resolve(options)
  return (value, context) => {
    if (!(context instanceof Job)) {
      throw invalidArgument('retryOrDeadLetter() is work for processEach(), processByKey() or processByPartition()')
    }
    let result: Promise<R | NoResult> | R | NoResult
    try {
      result = work(value, context)
    } catch (error) {
      return tryAgain(work, value, context, policy, error)
    }
    return isPromise(result) ? result.catch((error) => tryAgain(work, value, context, policy, error)) : result
  }
}

async function tryAgain<T, R>(
  work: Work<T, R>,
  value: T,
  job: WorkContext & Job<unknown>,
  policy: Policy,
  firstError: unknown,
): Promise<R | NoResult> {
  const { environment } = job.claim.client
  const wait = policy.waits(environment)
  let error = firstError
  let attempts = 1
  while (attempts < policy.attempts && policy.retryIf(error)) {
    await sleep(environment, integer('backoff', wait(attempts, error), 0, MAX_TIMER_MS), job.signal)
    attempts++
    try {
      return await work(value, job)
    } catch (again) {
      error = again
    }
  }
  await bury(job, policy, error, attempts)
  return NO_RESULT
}

async function bury(job: Job<unknown>, policy: Policy, error: unknown, attempts: number): Promise<void> {
  const { client, topic, partition, offset } = job.claim
  const producer = policy.producerFor(job)
  const failure = { error, attempts, atMs: client.environment.wallMs() }
  await sendDeadLetters(producer, job.records(), failure)
  const message = `${topic}/${partition} at offset ${offset} went to ${producer.topic} after ${attempts} attempts: ${reasonOf(error)}`
  client.report('dead-lettered', message, { topic, partition, offset })
}

/** @throws MillraceError ABORTED, at once. */
function sleep(environment: ClientEnvironment, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((wake, reject) => {
    let stop = (): void => {}
    const timer = environment.timer(delayMs, () => {
      stop()
      wake()
    })
    stop = onAbort(signal, () => {
      timer.cancel()
      reject(abortError(signal))
    })
  })
}

function resolve(options: RetryOrDeadLetterOptions): Policy {
  onlyKnown('retryOrDeadLetter()', options, KEYS)
  const { backoff = {}, retryIf = () => true, topic, producer } = options
  if (typeof retryIf !== 'function') throw invalidArgument('retryIf must be a function')
  return {
    attempts: integer('attempts', options.attempts ?? 3, 1, MAX_ATTEMPTS),
    retryIf,
    waits: resolveBackoff(backoff),
    producerFor: resolveTarget(topic, producer),
  }
}

function resolveBackoff(backoff: NonNullable<RetryOrDeadLetterOptions['backoff']>): Policy['waits'] {
  if (typeof backoff === 'function') return () => backoff
  onlyKnown('backoff', backoff, ['initialMs', 'maxMs'])
  const initialMs = integer('backoff.initialMs', backoff.initialMs ?? 100, 1, MAX_TIMER_MS)
  const maxMs = integer('backoff.maxMs', backoff.maxMs ?? Math.max(10_000, initialMs), initialMs, MAX_TIMER_MS)
  return (environment) => {
    const waits = new Backoff(environment, { initialMs, maxMs })
    return () => waits.next()
  }
}

function resolveTarget(topic: string | undefined, producer: ByteProducer | undefined): Policy['producerFor'] {
  if (producer !== undefined) {
    if (topic !== undefined && topic !== producer.topic)
      throw invalidArgument(`topic is ${topic}, and producer sends to ${producer.topic}: give one of them`)
    return () => producer
  }
  if (topic === undefined) throw invalidArgument('retryOrDeadLetter() needs the topic that dead letters go to')
  checkTopicName(topic)
  return (job) => job.claim.client.byteProducer(topic)
}
