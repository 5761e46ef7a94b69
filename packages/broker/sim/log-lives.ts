// The real log store on the simulated disk, crashed again and again: each crash is an image, each start a check.

import { readBatchHeader } from '@millrace/protocol'
import type { Block, Volume } from '#src/environment.js'
import { type LogStore, type PartitionLog, StorageError } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { storageLimits } from '#src/storage/storage-limits.js'
import { compareBatches, judgeEnd, judgeVotes, nameOf } from './log-lives-judge.js'
import { drawBatch, HashState, LogModel } from './log-lives-model.js'
import { CheckFailed, type LogLivesFailure, type LogLivesResult } from './log-lives-result.js'
import { drawStorage } from './options.js'
import { goodNetwork } from './pipe.js'
import { SeededRandom } from './random.js'
import { Scheduler } from './scheduler.js'
import { healthyDisk } from './simulated-disk.js'
import { type SimulatedEnvironment, SimulatedMachine } from './simulated-environment.js'
import { SimulatedNetwork } from './simulated-network.js'

const KIB = 1024
const MIB = 1024 * KIB
const CRASHES = 6
const IDENTITY = { clusterId: 'c'.repeat(32), nodeId: 1, diskId: 'd'.repeat(32) }

interface OpenLog {
  readonly model: LogModel
  readonly state: HashState
  readonly log: PartitionLog
}

/** One machine with one store, through several lives. */
class LogLives {
  readonly coverage: Record<string, number> = {}
  readonly scheduler = new Scheduler()
  images = 0
  private readonly random: SeededRandom
  private readonly machine: SimulatedMachine
  private readonly models = new Map<string, LogModel>()
  private readonly logs: OpenLog[] = []
  private environment!: SimulatedEnvironment
  private store!: LogStore
  private term = 0
  private sequence = 0
  private misuse: Error | null = null
  private flushHasFailed = false
  private readonly limits

  constructor(seed: number) {
    this.random = new SeededRandom(`crash/${seed}`)
    const plan = drawStorage(this.random.split('storage'))
    this.limits = storageLimits({
      ...plan,
      slotBytes: this.random.pick([
        [128 * KIB, 512 * KIB, MIB],
        [256 * KIB, MIB],
      ]),
      maxGroupBytes: 256 * KIB,
      gatherBytes: Math.min(plan.gatherBytes, 64 * KIB),
      extentBytes: 64 * KIB,
      appendMemoryBytes: 8 * MIB,
      cacheBytes: 4 * MIB,
      frameBytes: 64 * KIB,
      voteAreaBytes: 16 * KIB,
      maxUnflushedBytes: this.random.pick([256 * KIB, 2 * MIB]),
      quickRollMs: this.random.pick([0, 1, 10_000]),
    })
    const network = new SimulatedNetwork(this.scheduler, goodNetwork(), this.random.split('network'))
    this.machine = new SimulatedMachine(this.scheduler, network, this.random.split('machine'), {
      host: 'broker',
      diskBytes: 256 * MIB,
      memoryBytes: 64 * MIB,
      onLog: () => {},
      onMisuse: (_, misuse) => {
        this.misuse = misuse
      },
      watcher: {
        onFlush: () => this.count('flush'),
        onError: () => {
          this.count('failed flush')
          this.flushHasFailed = true
        },
      },
    })
  }

  async run(): Promise<void> {
    for (let life = 0; life <= CRASHES; life++) {
      if (!(await this.boot(life < CRASHES))) continue
      await this.checkAll()
      if (life === CRASHES) break
      // Errors come in the middle of a life: the store latches, and the next start has to cope with what is there.
      const failing = this.random.chance(0.2)
      await this.work(this.random.integer(5, 60))
      if (failing) {
        this.machine.diskConditions.flushErrorRate = this.random.logBetween(0.05, 0.7)
        await this.work(this.random.integer(5, 40))
      }
      this.crash()
      Object.assign(this.machine.diskConditions, healthyDisk())
      this.flushHasFailed = false
    }
    await this.turn('closing', this.store.close())
    this.mustBeClean()
  }

  /** Opens everything; false when the machine was crashed again before it had finished. */
  private async boot(mayCrash: boolean): Promise<boolean> {
    this.environment = this.machine.start()
    this.logs.length = 0
    this.term++
    const crashAfter = mayCrash && this.random.chance(0.25) ? this.random.integer(1, 60) : Number.POSITIVE_INFINITY
    const opening = this.openAll()
    let opened = false
    let failed: unknown = null
    opening.then(
      () => {
        opened = true
      },
      (error: unknown) => {
        failed = error
      },
    )
    const lastEvent = this.scheduler.eventsRun + crashAfter
    const over = () => opened || failed !== null || this.scheduler.eventsRun >= lastEvent
    await this.runUntil('opening', over)
    if (failed !== null) throw failed
    if (opened) return true
    this.count('crash during recovery')
    this.crash()
    return false
  }

  private async openAll(): Promise<void> {
    const volume: Volume = await this.environment.disk.openVolume('/data', { requireDirect: true })
    this.store = await openLogStore(this.environment, volume, IDENTITY, this.limits)
    for (const model of this.models.values()) judgeVotes(model, this.store.votes.find(model.key))
    for (const key of [...this.store.found]) {
      const model = this.models.get(nameOf(key))
      if (model === undefined) throw new CheckFailed('phantom', `recovery found a log nobody made: ${nameOf(key)}`)
      if (model.dropped) await this.store.drop(key)
      else await this.openOne(model)
    }
    for (const model of this.models.values()) {
      if (!model.dropped && !this.logs.some((open) => open.model === model)) await this.openOne(model)
    }
  }

  private async openOne(model: LogModel): Promise<OpenLog> {
    const state = new HashState()
    const log = await this.store.open(model.key, state)
    const open = { model, state, log }
    this.logs.push(open)
    log.onAdvance = () => {
      model.written = Math.max(model.written, log.writtenIndex)
      model.flushed = Math.max(model.flushed, log.flushedIndex)
    }
    return open
  }

  // ------------------------------------------------------------ what is done to the store

  private async work(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      const draw = this.random.fraction()
      if (this.logs.length === 0 || (draw < 0.05 && this.models.size < 6)) await this.makeLog()
      else if (draw < 0.85) this.append(this.random.pick(this.logs))
      else if (draw < 0.9) await this.readSome(this.random.pick(this.logs))
      else if (draw < 0.92) void this.random.pick(this.logs).log.flush().catch(ignoreStorage)
      else if (draw < 0.93 && this.logs.length > 1) this.dropLog()
      else if (draw < 0.94) this.beginAnew(this.random.pick(this.logs))
      else if (draw < 0.965) this.vote(this.random.pick(this.logs).model)
      else await this.advance(this.random.exponential(this.random.pick([0.05, 1, 30])))
    }
    if (this.random.chance(0.5)) await this.advance(this.random.exponential(5))
  }

  private async makeLog(): Promise<void> {
    const key = { topicId: this.models.size + 1, partition: 0, lane: 0 }
    const model = new LogModel(key)
    this.models.set(nameOf(key), model)
    await this.turn('making a log', this.openOne(model))
  }

  private append({ model, state, log }: OpenLog): void {
    const bytes = drawBatch(this.random, model.key, this.sequence++, this.random.pick([100, 5000, 30_000]))
    if (!log.hasRoom(bytes.byteLength)) {
      this.count('no room')
      return
    }
    const { memory } = this.environment
    const source = memory.allocate(bytes.byteLength)
    if (source === null) throw new CheckFailed('memory', 'the run has used up its memory')
    source.bytes.set(bytes)
    const header = readBatchHeader(source.view, 0)
    const index = log.filled.index + 1
    const stamp = { term: this.term, baseOffset: model.nextOffset, index, appendTime: 5 }
    try {
      if (!log.append(source, 0, header, stamp, this.random.chance(0.6) ? 'flush' : 'write')) {
        throw new CheckFailed('state', 'a good batch was refused for its checksum')
      }
      model.batches.push({
        index,
        baseOffset: stamp.baseOffset,
        recordCount: header.recordCount,
        term: this.term,
        bytes,
      })
      state.add(index, header.checksum)
      this.count('append')
    } catch (error) {
      ignoreStorage(error)
    } finally {
      memory.release(source)
    }
  }

  private dropLog(): void {
    const [open] = this.logs.splice(this.random.integer(0, this.logs.length - 1), 1)
    open!.model.dropped = true
    this.count('drop')
    void this.store.drop(open!.model.key).catch(ignoreStorage)
  }

  private beginAnew({ model, log }: OpenLog): void {
    if (model.beginning !== null || log.failure !== null) return
    // No other log of this history ever began or ended there.
    const index = log.filled.index + this.random.integer(0, 20)
    const base = { index, offset: model.nextOffset + this.random.integer(1000, 100_000), hash: this.random.uint32() }
    model.beginning = base
    const start = { index: index + 1, offset: base.offset, previousTerm: this.term }
    log.installStart(start, HashState.encode(base)).then(() => {
      model.begun()
      this.count('began anew')
    }, ignoreStorage)
  }

  private vote(model: LogModel): void {
    const { term, votedFor } = model.votes.at(-1) ?? { term: 0, votedFor: 1 }
    const given = model.votes.push(votedFor === 0 ? { term, votedFor: 2 } : { term: term + 1, votedFor: 0 })
    this.store.votes.save(model.key, model.votes[given - 1]!).then(() => {
      model.votesSaved = Math.max(model.votesSaved, given)
      this.count('vote')
    }, ignoreStorage)
  }

  private crash(): void {
    this.images++
    if (this.random.chance(0.35)) {
      this.count('process killed')
      this.machine.killProcess()
      // What was written survives the process, unless a failed flush has taken it.
      for (const model of this.models.values()) {
        model.written = this.flushHasFailed ? model.flushed : Math.max(model.written, model.flushed)
      }
      return
    }
    this.count('power cut')
    for (const model of this.models.values()) model.written = model.flushed
    this.machine.cutPower({
      garbage: this.random.pick([0, 0.05]),
      zero: this.random.pick([0, 0.05]),
      newer: this.random.pick([0.1, 0.5, 0.9]),
    })
  }

  // ------------------------------------------------------------ what must be true

  private async checkAll(): Promise<void> {
    const { damaged } = this.store.recovery
    if (damaged.length > 0)
      throw new CheckFailed('damage-claimed', `whole data is called damaged: ${damaged[0]?.reason}`)
    for (const open of this.logs) await this.check(open)
  }

  private async check({ model, state, log }: OpenLog): Promise<void> {
    // Whether a log that was asked to begin anew has done so is for its start to tell.
    if (log.startOffset === model.beginning?.offset) model.begun()
    model.beginning = null
    const { index } = log.filled
    if (index < model.lastIndex) this.count('unpromised tail lost')
    if (index > model.written) this.count('unpromised tail kept')
    judgeEnd(model, state, log.filled)
    await this.readAndCompare(model, log, 0, model.batches.length)
    // As the broker does: what was found counts again once it is flushed.
    await this.turn('flushing', log.flush())
    model.flushed = index
    model.written = index
  }

  private async readSome({ model, log }: OpenLog): Promise<void> {
    if (model.batches.length === 0) return
    const from = this.random.integer(0, model.batches.length - 1)
    await this.readAndCompare(model, log, from, model.batches.length)
  }

  private async readAndCompare(model: LogModel, log: PartitionLog, from: number, to: number): Promise<void> {
    let next = from
    while (next < to) {
      const read = await this.turn(
        'reading',
        log.read(model.batches[next]!.baseOffset, this.random.pick([1, 65_536, MIB]), model.base.index + to),
      )
      const bytes = Buffer.concat(read.pieces.map(({ block, offset, length }) => view(block, offset, length)))
      read.release()
      if (read.batchCount === 0)
        throw new CheckFailed(
          'lost',
          `log ${nameOf(model.key)}: reading stops before batch ${model.base.index + next + 1}`,
        )
      next = compareBatches(model, bytes, next)
    }
  }

  private mustBeClean(): void {
    this.environment.memory.check()
    if (this.misuse !== null) throw this.misuse
  }

  // ------------------------------------------------------------ turning the world

  private count(what: string): void {
    this.coverage[what] = (this.coverage[what] ?? 0) + 1
  }

  private async runUntil(what: string, done: () => boolean): Promise<void> {
    const deadlineMs = this.scheduler.nowMs + 600_000
    const end = await this.scheduler.run(() => done() || this.misuse !== null, { deadlineMs, events: 500_000 })
    if (this.misuse !== null) throw this.misuse
    if (end !== 'done') throw new CheckFailed('stuck', `${what} never comes to an end (${end})`)
  }

  private async turn<T>(what: string, promise: Promise<T>): Promise<T> {
    let settled = false
    const mark = () => {
      settled = true
    }
    promise.then(mark, mark)
    await this.runUntil(what, () => settled)
    return promise
  }

  private advance(delayMs: number): Promise<void> {
    return this.turn('waiting', this.scheduler.sleep(delayMs))
  }
}

function view(block: Block, offset: number, length: number): Uint8Array {
  return block.bytes.subarray(offset, offset + length)
}

function ignoreStorage(error: unknown): void {
  if (!(error instanceof StorageError)) throw error
}

export async function liveThrough(seed: number): Promise<LogLivesResult> {
  const run = new LogLives(seed)
  let failure: LogLivesFailure | null = null
  try {
    await run.run()
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
    failure =
      error instanceof CheckFailed
        ? { invariant: error.invariant, message: error.message }
        : { invariant: 'exception', message }
  }
  return { seed, images: run.images, failure, coverage: run.coverage, traceHash: run.scheduler.trace.digest() }
}
