// Where peers meet in tests: a simulated network, or the loopback of this machine under either real environment.
import type { Environment, Logger } from '#src/environment.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { createRingEnvironment } from '#src/io/ring/ring-environment.js'
import { probeRing } from '#src/io/ring/ring-probe.js'
import { goodNetwork } from '../../sim/pipe.js'
import { SeededRandom } from '../../sim/random.js'
import { Scheduler, settle } from '../../sim/scheduler.js'
import { SimulatedMachine } from '../../sim/simulated-environment.js'
import { SimulatedNetwork } from '../../sim/simulated-network.js'
import { eventually } from '../contract/fixture.js'

export const WORLD_MEMORY_BYTES = 64 * 1024 * 1024

export interface LoggedLine {
  readonly level: string
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
}

/** A process of its own for a node: environment, address, and what it logs. */
export interface Place {
  readonly environment: Environment
  readonly host: string
  readonly lines: LoggedLine[]
}

export interface World {
  /** A place for a node; the second one under a name is the same machine after the first process has ended. */
  place(nodeId: number): Place
  until(what: string, holds: () => boolean): Promise<void>
  sleep(ms: number): Promise<void>
  /** Milliseconds of this world's time. */
  nowMs(): number
  close(): Promise<void>
}

/** What only a simulated world can do. */
export interface SimulatedWorld extends World {
  readonly network: SimulatedNetwork
  /** Deterministic chance of this world. */
  readonly random: SeededRandom
  /** Cuts the way between two nodes in both directions. */
  split(one: number, other: number): void
  kill(nodeId: number): void
  cutPower(nodeId: number): void
  /** Nothing of the node runs for so long, as after SIGSTOP. */
  stall(nodeId: number, ms: number): void
  /** Bytes of memory that a node has handed out. */
  usedBytes(nodeId: number): number
}

function recorder(lines: LoggedLine[]): Logger {
  const at = (level: string) => (fields: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ level, message, fields })
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

export function simulatedWorld(seed: number): SimulatedWorld {
  const random = new SeededRandom(`peers-${seed}`)
  const scheduler = new Scheduler()
  const network = new SimulatedNetwork(scheduler, goodNetwork(), random.split('network'))
  const machines = new Map<number, { machine: SimulatedMachine; lines: LoggedLine[] }>()
  const misuses: unknown[] = []
  const watcherProcess = scheduler.spawn('test')
  let stopped = false
  // The test awaits promises of the simulated world, so that world turns in the background, one event at a time.
  const turning = (async () => {
    while (!stopped) {
      await scheduler.run(() => stopped, { deadlineMs: Number.POSITIVE_INFINITY, events: 1 })
      await settle()
    }
  })()
  const sleep = (ms: number): Promise<void> =>
    new Promise((resolve) => scheduler.schedule(watcherProcess, ms, 'sleep', resolve))
  return {
    network,
    random: random.split('test'),
    split(one, other) {
      network.cut(`broker-${one}`, `broker-${other}`)
      network.cut(`broker-${other}`, `broker-${one}`)
    },
    stall(nodeId, ms) {
      const running = machines.get(nodeId)?.machine.environment
      if (running != null) scheduler.stall(running.process, ms)
    },
    usedBytes: (nodeId) => machines.get(nodeId)?.machine.environment?.memory.usedBytes ?? 0,
    place(nodeId) {
      const host = `broker-${nodeId}`
      let known = machines.get(nodeId)
      if (known === undefined) {
        const lines: LoggedLine[] = []
        const machine = new SimulatedMachine(scheduler, network, random.split(host), {
          host,
          diskBytes: 1024 * 1024,
          memoryBytes: WORLD_MEMORY_BYTES,
          onLog: (_process, { level, fields, message }) => void lines.push({ level, fields, message }),
          onMisuse: (_process, misuse) => void misuses.push(misuse),
          watcher: { onFlush: () => {}, onError: () => {} },
        })
        known = { machine, lines }
        machines.set(nodeId, known)
      }
      return { environment: known.machine.start(), host, lines: known.lines }
    },
    kill: (nodeId) => machines.get(nodeId)!.machine.killProcess(),
    cutPower: (nodeId) => machines.get(nodeId)!.machine.cutPower({ garbage: 0, zero: 0, newer: 0 }),
    sleep,
    nowMs: () => scheduler.nowMs,
    async until(what, holds) {
      const deadline = scheduler.nowMs + 10_000
      while (!holds()) {
        if (scheduler.nowMs > deadline) throw new Error(`never became true: ${what}`)
        await sleep(1)
      }
    },
    async close() {
      for (const { machine } of machines.values()) machine.environment?.memory.check()
      stopped = true
      await turning
      if (misuses.length > 0) throw misuses[0]
    },
  }
}

function realWorld(create: (logger: Logger) => Environment): World {
  const environments: Environment[] = []
  const own = createPortableEnvironment({ memoryBytes: 1024 * 1024, logger: recorder([]) })
  return {
    place() {
      const lines: LoggedLine[] = []
      const environment = create(recorder(lines))
      environments.push(environment)
      return { environment, host: '127.0.0.1', lines }
    },
    sleep: (ms) => new Promise((resolve) => own.clock.timer(ms, resolve)),
    nowMs: () => own.clock.monotonicMs(),
    until: (what, holds) => eventually(own, what, holds),
    async close() {
      await Promise.all(environments.map((environment) => environment.close()))
      await own.close()
    },
  }
}

const memoryBytes = WORLD_MEMORY_BYTES

/** Every kind of world there is on this machine. */
export const WORLDS: readonly (readonly [string, () => World])[] = [
  ['simulated', () => simulatedWorld(1)],
  ['portable', () => realWorld((logger) => createPortableEnvironment({ memoryBytes, logger }))],
  ...(probeRing().ring.available
    ? [['ring', () => realWorld((logger) => createRingEnvironment({ memoryBytes, logger }))] as const]
    : []),
]
