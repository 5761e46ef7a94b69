// The environment of a simulated broker process, and the machine whose disk outlives it.
import type { Environment, LogFields, Logger } from '#src/environment.js'
import { nodeCrypto } from '#src/io/node-crypto.js'
import { DiskImage } from './disk-image.js'
import type { TearOdds } from './file-image.js'
import type { SeededRandom } from './random.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'
import { SimulatedClock, SimulatedRandom } from './simulated-clock.js'
import { type DiskConditions, type DiskWatcher, healthyDisk, SimulatedDisk } from './simulated-disk.js'
import { type MemoryMisuse, SimulatedMemory } from './simulated-memory.js'
import type { SimulatedNetwork } from './simulated-network.js'
import { SimulatedNetworkSide } from './simulated-stream.js'

export interface SimulatedEnvironment extends Environment {
  readonly process: SimulatedProcess
  readonly memory: SimulatedMemory
  readonly clock: SimulatedClock
}

export interface LogEntry {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly fields: LogFields
  readonly message: string
}

export interface MachineOptions {
  readonly host: string
  readonly diskBytes: number
  readonly memoryBytes: number
  /** How fast its monotonic clock runs; 1 when left out. */
  readonly clockRate?: number
  readonly onLog: (process: SimulatedProcess, entry: LogEntry) => void
  readonly onMisuse: (process: SimulatedProcess, misuse: MemoryMisuse) => void
  readonly watcher: DiskWatcher
}

/** A machine that runs one broker process at a time on its disk. */
export class SimulatedMachine {
  private inserted: DiskImage
  readonly diskConditions: DiskConditions = healthyDisk()
  /** Kept over restarts: a wrong wall clock stays wrong. */
  wallOffsetMs = 0
  private running: SimulatedEnvironment | null = null
  private incarnation = 0
  private boots = 1

  constructor(
    private readonly scheduler: Scheduler,
    private readonly network: SimulatedNetwork,
    private readonly random: SeededRandom,
    private readonly options: MachineOptions,
  ) {
    this.inserted = new DiskImage(options.diskBytes)
    network.addHost(options.host)
  }

  get environment(): SimulatedEnvironment | null {
    return this.running
  }

  get disk(): DiskImage {
    return this.inserted
  }

  /** While the machine is off, another disk is put in. @returns the one that was there. */
  swapDisk(disk: DiskImage): DiskImage {
    if (this.running !== null) throw new Error(`${this.options.host} is running`)
    const before = this.inserted
    this.inserted = disk
    return before
  }

  /** A new process on this machine, with the disk as the last one left it. */
  start(): SimulatedEnvironment {
    if (this.running?.process.alive) throw new Error(`${this.options.host} is running`)
    this.network.darkHosts.delete(this.options.host)
    const { scheduler, options } = this
    const random = this.random.split(`incarnation-${++this.incarnation}`)
    const process = scheduler.spawn(`${options.host}#${this.incarnation}`)
    const memory = new SimulatedMemory(options.memoryBytes, (misuse) => options.onMisuse(process, misuse))
    const clock = new SimulatedClock(scheduler, process, random.split('clock'), options.clockRate)
    clock.wallOffsetMs = this.wallOffsetMs
    const network = new SimulatedNetworkSide(scheduler, this.network, options.host, process, memory)
    const disk = new SimulatedDisk(
      scheduler,
      process,
      memory,
      this.disk,
      this.diskConditions,
      random.split('disk'),
      options.watcher,
    )
    this.running = {
      kind: 'simulated',
      process,
      clock,
      random: new SimulatedRandom(random.split('product')),
      memory,
      disk,
      network,
      crypto: nodeCrypto,
      cores: { self: 0, count: 1 },
      bootId: `${options.host}-boot-${this.boots}`,
      log: logger((entry) => options.onLog(process, entry)),
      async close() {
        await network.close()
        await disk.close()
      },
    }
    return this.running
  }

  setWallClock(offsetMs: number): void {
    this.wallOffsetMs = offsetMs
    if (this.running !== null) this.running.clock.wallOffsetMs = offsetMs
  }

  /** SIGKILL: nothing of the process runs any more; what the disk had completed stays. */
  killProcess(): void {
    const process = this.stop()
    this.disk.processDied(this.random)
    this.network.processDied(process)
  }

  /** The power fails: besides, what was not flushed is torn, and peers hear nothing. */
  cutPower(odds: TearOdds): void {
    const process = this.stop()
    this.boots++
    this.disk.lostPower(odds, this.random)
    this.network.hostDied(process)
    this.network.darkHosts.add(this.options.host)
  }

  /** The process has ended by itself, after closing its environment. */
  ended(): void {
    this.stop()
    this.disk.processDied(this.random)
  }

  private stop(): SimulatedProcess {
    if (this.running === null) throw new Error(`${this.options.host} is not running`)
    const { process } = this.running
    process.alive = false
    this.running = null
    return process
  }
}

function logger(take: (entry: LogEntry) => void): Logger {
  const at = (level: LogEntry['level']) => (fields: LogFields, message: string) => take({ level, fields, message })
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}
