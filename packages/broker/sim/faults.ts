// Breaks things at times of the seed's choosing, until it is told to stop; then everything is made whole again.
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { BrokerNode } from './broker-node.js'
import type { Coverage, RareState } from './coverage.js'
import type { FaultPlan, TopicOptions } from './options.js'
import { movePartition } from './partition-moves.js'
import { type PartitionKind, type Partitions, shuffled } from './partitions.js'
import { goodNetwork } from './pipe.js'
import type { SeededRandom } from './random.js'
import type { Scheduler } from './scheduler.js'
import { healthyDisk } from './simulated-disk.js'
import type { SimulatedNetwork } from './simulated-network.js'

export interface FaultTargets {
  readonly scheduler: Scheduler
  readonly network: SimulatedNetwork
  readonly nodes: readonly BrokerNode[]
  readonly partitions: Partitions
  readonly coverage: Coverage
  readonly topics: readonly TopicOptions[]
  onPowerCut(nodeId: number): void
  killSomeClient(random: SeededRandom): boolean
}

export type Moment = 'write completed' | 'flush submitted' | 'bytes arrived'

interface Awaited {
  readonly moment: Moment
  readonly come: () => void
}

/** A planned change of leaders takes less, as long as nothing comes in between. */
const HAND_OVER_MS = 500
/** How long a strike waits for its moment. */
const PATIENCE_MS = 300

export class Faults {
  private active = true
  private readonly moments: Awaited[] = []

  constructor(
    private readonly targets: FaultTargets,
    private readonly plan: FaultPlan,
    private readonly random: SeededRandom,
  ) {}

  begin(): void {
    const { plan } = this
    this.every(plan.killMs, 'kill', (random) => this.kill(random))
    this.every(plan.powerCutMs, 'power', (random) => this.cutPower(random))
    this.every(plan.gracefulStopMs, 'stop', (random) => this.stopInOrder(random))
    this.every(plan.connectionLossMs, 'loss', (random) => this.loseConnection(random))
    this.every(plan.silenceMs, 'silence', (random) => this.silence(random))
    this.every(plan.slowDiskMs, 'slow disk', (random) => this.slowDisk(random))
    this.every(plan.diskErrorMs, 'disk error', (random) => this.diskErrors(random))
    this.every(plan.fullDiskMs, 'full disk', (random) => this.fullDisk(random))
    this.every(plan.stallMs, 'stall', (random) => this.stall(random))
    this.every(plan.clockJumpMs, 'clock', (random) => this.setClock(random))
    this.every(plan.clientKillMs, 'client kill', (random) => this.killClient(random))
    this.every(plan.partitionMs, 'partition', (random) => this.partition(random))
    this.every(plan.clogMs, 'clog', (random) => this.clog(random))
    this.every(plan.transferMs, 'transfer', (random) => this.transfer(random))
    this.every(plan.moveMs, 'move', (random) => movePartition(this.targets, random))
  }

  /** No more faults; what is broken stays as it is. */
  stop(): void {
    this.active = false
  }

  /** No more faults; what is broken is repaired and what is off is started. */
  heal(): void {
    this.stop()
    const { network, nodes } = this.targets
    Object.assign(network.conditions, goodNetwork())
    network.heal()
    for (const node of nodes) this.repair(node)
  }

  /** One broker works again, on a disk that does. */
  repair(node: BrokerNode): void {
    Object.assign(node.machine.diskConditions, healthyDisk())
    node.restoreDisk()
    if (node.machine.environment !== null) this.targets.scheduler.resume(node.machine.environment.process)
    // A volume that has met an error takes no writes until its broker starts anew.
    if (this.failedDisks.has(node)) node.kill()
    node.start()
  }

  private readonly failedDisks = new Set<BrokerNode>()

  private every(meanGapMs: number | null, name: string, strike: (random: SeededRandom) => void): void {
    if (meanGapMs === null) return
    const random = this.random.split(name)
    const next = () => {
      this.later(random.exponential(meanGapMs), `fault ${name}`, () =>
        this.atBadMoment(random, () => {
          strike(random)
          next()
        }),
      )
    }
    next()
  }

  /**
   * Blind strikes mostly hit an idle system. Most wait for something to happen on the disk or the network, and come
   * shortly after: between a write and its flush, between a request and its answer.
   */
  private atBadMoment(random: SeededRandom, strike: () => void): void {
    const moment = random.pick<Moment | 'any'>(['any', 'write completed', 'flush submitted', 'bytes arrived'])
    if (moment === 'any') {
      strike()
      return
    }
    let struck = false
    const once = (delayMs: number) =>
      this.later(delayMs, 'strike', () => {
        if (struck) return
        struck = true
        strike()
      })
    this.moments.push({ moment, come: () => once(random.chance(0.5) ? 0 : random.logBetween(0.01, 10)) })
    once(PATIENCE_MS)
  }

  /** Called as things happen in the simulated world. */
  notice(moment: Moment): void {
    for (let i = this.moments.length - 1; i >= 0; i--) {
      if (this.moments[i]!.moment !== moment) continue
      const [{ come }] = this.moments.splice(i, 1) as [Awaited]
      come()
    }
  }

  private later(delayMs: number, name: string, work: () => void): void {
    this.targets.scheduler.schedule(null, delayMs, name, () => {
      if (this.active) work()
    })
  }

  /** One broker, or all of them. */
  private victims(random: SeededRandom): readonly BrokerNode[] {
    const { nodes } = this.targets
    if (this.plan.allAtOnceRate === 0 || !random.chance(this.plan.allAtOnceRate)) return [random.pick(nodes)]
    this.targets.coverage.count('every broker struck at once')
    return nodes
  }

  private kill(random: SeededRandom): void {
    for (const node of this.victims(random)) this.killNow(node, random)
  }

  private killNow(node: BrokerNode, random: SeededRandom): void {
    if (node.state === 'off') return
    this.targets.coverage.count(node.state === 'starting' ? 'broker killed while starting' : 'broker killed')
    node.kill()
    this.restartLater(node, random)
  }

  /** Now and then the disk is slow before: what was acknowledged early is then far from being durable. */
  private cutPower(random: SeededRandom): void {
    const victims = this.victims(random)
    if (random.chance(0.4)) {
      for (const { machine } of victims) machine.diskConditions.slowness = random.logBetween(5, 300)
      this.later(random.logBetween(0.5, 100), 'power', () => {
        for (const node of victims) {
          Object.assign(node.machine.diskConditions, healthyDisk())
          this.cutPowerNow(node, random)
        }
      })
    } else for (const node of victims) this.cutPowerNow(node, random)
  }

  private cutPowerNow(node: BrokerNode, random: SeededRandom): void {
    const { coverage } = this.targets
    if (node.state === 'off') return
    coverage.count(node.state === 'starting' ? 'power cut while starting' : 'power cut')
    if (node.machine.disk.hasUnflushed) coverage.count('power cut with unflushed pages')
    this.targets.onPowerCut(node.nodeId)
    node.cutPower(this.plan.tear)
    this.restartLater(node, random)
  }

  private stopInOrder(random: SeededRandom): void {
    const node = random.pick(this.targets.nodes)
    node.stop(() => {
      this.targets.coverage.count('broker stopped in order')
      if (this.active) this.restartLater(node, random)
      else node.start()
    })
  }

  /** Now and then at once, and now and then in the middle of the start that follows another crash does. */
  private restartLater(node: BrokerNode, random: SeededRandom): void {
    const downMs = random.chance(0.3) ? 0 : random.between(0, this.plan.longestDownMs)
    this.later(downMs, 'start', () => node.start())
    if (random.chance(0.3)) {
      const again = random.chance(0.5) ? this.killNow : this.cutPowerNow
      this.later(downMs + random.logBetween(0.1, 30), 'crash again', () => again.call(this, node, random))
    }
  }

  /** Now and then while the disk is slow: then retries meet their originals on the way to it. */
  private loseConnection(random: SeededRandom): void {
    const connections = [...this.targets.network.connections]
    if (connections.length === 0) return
    if (random.chance(0.3)) this.slowDisk(random)
    this.targets.coverage.count('connection lost')
    if (random.chance(0.2)) for (const connection of connections) connection.lose()
    else random.pick(connections).lose()
  }

  private silence(random: SeededRandom): void {
    const connections = [...this.targets.network.connections]
    if (connections.length === 0) return
    this.targets.coverage.count('connection went silent')
    random.pick(connections).goSilent(this.targets.scheduler)
  }

  private slowDisk(random: SeededRandom): void {
    this.window(random.pick(this.targets.nodes), random, 'disk slow', { slowness: random.logBetween(10, 1000) })
  }

  private diskErrors(random: SeededRandom): void {
    const rate = random.logBetween(0.01, 0.5)
    const rates = random.pick([
      { writeErrorRate: rate },
      { flushErrorRate: rate },
      { readErrorRate: rate },
      { writeErrorRate: rate, flushErrorRate: rate },
    ])
    const node = random.pick(this.targets.nodes)
    this.failedDisks.add(node)
    this.window(node, random, 'disk error', rates)
    this.later(2000, 'replace after disk error', () => {
      if (node.state !== 'off') node.kill()
      node.start()
    })
  }

  private fullDisk(random: SeededRandom): void {
    this.window(random.pick(this.targets.nodes), random, 'disk full', { full: true })
  }

  /** Bad conditions for some time. */
  private window(
    node: BrokerNode,
    random: SeededRandom,
    state: RareState,
    bad: Partial<ReturnType<typeof healthyDisk>>,
  ): void {
    const conditions = node.machine.diskConditions
    this.targets.coverage.count(state)
    Object.assign(conditions, bad)
    this.later(random.logBetween(10, 1500), 'disk heals', () => Object.assign(conditions, healthyDisk()))
  }

  private stall(random: SeededRandom): void {
    const process = random.pick(this.targets.nodes).machine.environment?.process
    if (process === undefined) return
    this.targets.coverage.count('event loop stalled')
    this.targets.scheduler.stall(process, random.logBetween(50, 5000))
  }

  private setClock(random: SeededRandom): void {
    this.targets.coverage.count('wall clock set')
    const dayMs = 24 * 60 * 60 * 1000
    const offset = random.chance(0.3) ? random.between(-dayMs, dayMs) : random.between(-500, 500)
    random.pick(this.targets.nodes).machine.setWallClock(Math.round(offset))
  }

  private killClient(random: SeededRandom): void {
    if (this.targets.killSomeClient(random)) this.targets.coverage.count('client killed')
  }

  /** Healed at once, or one path after the other. */
  private partition(random: SeededRandom): void {
    const { partitions, coverage, network } = this.targets
    const kind: PartitionKind = random.pick(partitions.kinds())
    coverage.count(`partition: ${kind}`)
    partitions.cut(kind, random)
    const lengthMs = random.logBetween(50, Math.max(60, this.plan.longestPartitionMs))
    if (random.chance(0.7)) this.later(lengthMs, 'partition heals', () => network.heal())
    else {
      for (const path of shuffled(network.brokenPaths, random)) {
        this.later(random.between(lengthMs / 2, lengthMs), 'path heals', () => path.heal())
      }
    }
  }

  private clog(random: SeededRandom): void {
    const { nodes, network, coverage } = this.targets
    if (nodes.length < 2) return
    const [from, to] = shuffled(nodes, random)
    coverage.count('path clogged')
    const path = network.path(from!.host, to!.host)
    path.extraLatencyMs = random.logBetween(10, 2000)
    this.later(random.logBetween(100, 5000), 'path clears', () => {
      path.extraLatencyMs = 0
    })
  }
  /** Planned, but not for what may come: now and then the one that is about to lead, or the one that led, dies of it. */
  private transfer(random: SeededRandom): void {
    const { nodes, coverage, scheduler } = this.targets
    const led = nodes.flatMap((node) => leaderships(node).map((group) => ({ node, group })))
    if (led.length === 0) return
    const { node, group } = random.pick(led)
    const { environment } = node.machine
    const [heir] = shuffled(group.core.configuration.voters, random).filter((nodeId) => nodeId !== node.nodeId)
    if (environment === null || heir === undefined) return
    scheduler.schedule(environment.process, 0, 'transfer', () => {
      if (group.core.role !== 'leader' || group.transferTo(heir) !== null) return
      coverage.count('leader asked to hand over')
      scheduler.schedule(null, HAND_OVER_MS, 'handed over', () => {
        const { topicId, partition } = group.key
        const leads = ({ key }: ReplicaGroup) => key.topicId === topicId && key.partition === partition
        const next = nodes.find(({ nodeId }) => nodeId === heir)
        if (next !== undefined && leaderships(next).some(leads)) coverage.count('leader handed over')
      })
    })
    if (random.chance(0.2)) {
      const victim = random.chance(0.5) ? node : (nodes.find(({ nodeId }) => nodeId === heir) ?? node)
      this.later(random.logBetween(0.1, 100), 'kill while handing over', () => this.killNow(victim, random))
    }
  }
}

/** Groups with others that a broker leads. */
function leaderships({ broker }: BrokerNode): ReplicaGroup[] {
  const replicas = broker === null ? [] : [...broker.replicas()]
  return replicas.filter(({ core }) => core.role === 'leader' && core.configuration.voters.length > 1)
}
