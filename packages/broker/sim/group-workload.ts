// A consumer group that rides along in a run: its members consume while everything else befalls the cluster, and have troubles of
// their own. When nothing is broken any more everything must have been given to somebody, be finished, and be committed.
import { GROUPS_TOPIC } from '@millrace/protocol'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { BrokerNode } from './broker-node.js'
import { checkGroup } from './checker/check-groups.js'
import type { GroupDelivery, GroupWork } from './checker/group-history.js'
import { GROUP, GroupApp } from './group-app.js'
import type { GroupPlan } from './group-plan.js'
import { GroupWatch } from './group-watch.js'
import type { SeededRandom } from './random.js'
import type { RunContext } from './run-context.js'
import { stackOf } from './simulation-result.js'

const MOST_MEMBERS = 6
const FEWEST_MEMBERS = 1
const LONGEST_CUT_MS = 4_000
const LONGEST_BEFORE_CUT_MS = 100
const LONGEST_DOWN_MS = 2_000
/** How long a strike waits for a commit to be on its way. */
const PATIENCE_MS = 400
const CALLS_PER_LOOK = 4

interface CoordinatorSeen {
  readonly node: BrokerNode
  readonly replica: ReplicaGroup
}

export class GroupWorkload {
  private readonly random: SeededRandom
  private readonly watch: GroupWatch
  readonly deliveries: GroupDelivery[] = []
  private readonly work: GroupWork[] = []
  private apps: GroupApp[] = []
  /** Also those that are about to go. */
  private readonly everybody: GroupApp[] = []
  private namesGiven = 0
  private wasCommitting = false
  private calls = 0

  constructor(
    private readonly run: RunContext,
    private readonly plan: GroupPlan,
  ) {
    this.random = run.random.split('group')
    this.watch = new GroupWatch({
      nodes: run.cluster.nodes,
      fail: (invariant, message) => run.fail(invariant, message),
    })
  }

  get topic(): string {
    return this.plan.topic
  }

  begin(): void {
    for (const name of this.plan.memberNames) this.addMember(name)
    const { troubles } = this.plan
    this.every(troubles.killMs, 'kill', () => this.killMember())
    this.every(troubles.cutMs, 'cut', (random) => this.cutMember(random))
    this.every(troubles.restMs, 'rest', () => this.restMember())
    this.every(troubles.resizeMs, 'resize', (random) => this.resize(random))
    this.every(troubles.replaceMs, 'replace', (random) => this.replaceMember(random))
    this.every(troubles.coordinatorMs, 'coordinator', (random) => this.strikeCoordinator(random))
  }

  /** Called after every few events; looks at some of them. */
  look(): void {
    if (this.calls++ % CALLS_PER_LOOK !== 0) return
    const { watch, run } = this
    const changes = watch.coordinatorChanges
    watch.look()
    if (watch.coordinatorChanges > changes) {
      run.coverage.count('group: coordinator changed')
      if (this.wasCommitting) run.coverage.count('group: coordinator changed during a commit')
    }
    // What was seen of a coordinator that is gone stands until there is another.
    const coordinator = this.coordinator()
    if (coordinator !== null) this.wasCommitting = isCommitting(coordinator)
  }

  /** @param ends the offset after the last record of each partition. */
  async end(ends: readonly number[]): Promise<void> {
    const { run, deliveries, work } = this
    const isDone = (): boolean => {
      const committed = this.committed()
      return ends.every((end, partition) => (committed[partition] ?? 0) >= end)
    }
    await run.until(
      () => `the group has committed everything: ${this.committed().join(', ')} of ${ends.join(', ')}`,
      () => run.hasFailed || isDone(),
    )
    if (isDone()) run.coverage.count('group: has committed everything')
    const committed = this.committed()
    for (const { invariant, message } of checkGroup({ deliveries, work, ends, committed })) run.fail(invariant, message)
    const again = deliveries.length - new Set(deliveries.map(({ partition, offset }) => `${partition}/${offset}`)).size
    for (let i = 0; i < again; i++) run.coverage.count('group: record given again')
    for (const app of this.everybody) if (app.client.alive) await this.stop(app)
  }

  // -------------------------------------------------------------- troubles

  killMember(): void {
    const app = this.random.pick(this.apps)
    this.run.coverage.count('group: member killed')
    app.client.kill()
    this.apps = this.apps.filter((other) => other !== app)
    this.addMember(app.memberName)
  }

  /** From whoever may answer, or from one broker alone, which may be its coordinator. */
  cutMember(random: SeededRandom): void {
    this.run.coverage.count('group: member cut off')
    const { hosts } = this.run.cluster
    const some = random.chance(0.5) ? hosts : [this.coordinator()?.node.host ?? random.pick(hosts)]
    const app = random.pick(this.apps)
    const lengthMs = random.between(200, LONGEST_CUT_MS)
    if (random.chance(0.6)) app.slowFor(lengthMs)
    // What it works on then may outlive its lease.
    this.later(random.between(0, LONGEST_BEFORE_CUT_MS), () => this.cutFrom(app, some, lengthMs))
  }

  restMember(): void {
    this.run.coverage.count('group: member rested')
    void this.random.pick(this.apps).rest()
  }

  resize(random: SeededRandom): void {
    const { apps, run } = this
    if (apps.length <= FEWEST_MEMBERS || (apps.length < MOST_MEMBERS && random.chance(0.5))) {
      run.coverage.count('group: member added')
      this.addMember(null)
      return
    }
    const app = random.pick(apps)
    run.coverage.count('group: member gone for good')
    this.apps = apps.filter((other) => other !== app)
    if (random.chance(0.5)) app.client.kill()
    else void app.stop()
  }

  /** The new process comes while the old one cannot be told. */
  replaceMember(random: SeededRandom): void {
    const named = this.apps.filter(({ memberName }) => memberName !== null)
    if (named.length === 0) return
    const app = random.pick(named)
    this.run.coverage.count('group: member replaced under its name')
    this.cutFrom(app, this.run.cluster.hosts, random.between(100, LONGEST_CUT_MS))
    app.replace()
    this.apps = this.apps.filter((other) => other !== app)
    this.addMember(app.memberName)
  }

  async strikeCoordinator(random: SeededRandom): Promise<void> {
    const { run } = this
    const untilMs = run.scheduler.nowMs + PATIENCE_MS
    let coordinator = this.coordinator()
    while (run.scheduler.nowMs < untilMs && (coordinator === null || !isCommitting(coordinator))) {
      await run.scheduler.sleep(random.between(0.1, 1))
      coordinator = this.coordinator()
    }
    if (coordinator === null || run.isPeaceful) return
    if (random.chance(0.5)) this.handOver(coordinator, random)
    else this.killCoordinator(coordinator, random)
  }

  private handOver(coordinator: CoordinatorSeen, random: SeededRandom): void {
    const { node, replica } = coordinator
    const others = replica.core.configuration.voters.filter((nodeId) => nodeId !== node.nodeId)
    const { environment } = node.machine
    if (others.length === 0 || environment === null) return
    const heir = random.pick(others)
    this.run.scheduler.schedule(environment.process, 0, 'transfer', () => {
      const commits = isCommitting(coordinator)
      if (replica.core.role !== 'leader' || replica.transferTo(heir) !== null || !commits) return
      this.run.coverage.count('group: coordinator asked to hand over during a commit')
    })
  }

  private killCoordinator(coordinator: CoordinatorSeen, random: SeededRandom): void {
    const { node } = coordinator
    if (isCommitting(coordinator)) this.run.coverage.count('group: coordinator killed during a commit')
    this.run.coverage.count('broker killed')
    node.kill()
    this.later(random.between(0, LONGEST_DOWN_MS), () => node.start())
  }

  private every(meanGapMs: number | null, name: string, strike: (random: SeededRandom) => void | Promise<void>): void {
    if (meanGapMs === null) return
    const random = this.random.split(name)
    const next = (): void =>
      this.later(random.exponential(meanGapMs), () => {
        Promise.resolve(strike(random)).then(next, (error: unknown) => this.run.fail('exception', stackOf(error)))
      })
    next()
  }

  /** Not once there is peace: what is broken then is the trial's. */
  private later(delayMs: number, work: () => void): void {
    this.run.scheduler.schedule(null, delayMs, 'group', () => {
      if (!this.run.isPeaceful) work()
    })
  }

  private cutFrom({ client }: GroupApp, hosts: readonly string[], lengthMs: number): void {
    const { network } = this.run.cluster
    for (const host of hosts) {
      network.cut(host, client.name)
      network.cut(client.name, host)
    }
    this.later(lengthMs, () => {
      for (const host of hosts) {
        network.path(host, client.name).heal()
        network.path(client.name, host).heal()
      }
    })
  }

  // -------------------------------------------------------------- members

  private addMember(memberName: string | null): void {
    const { run, plan, deliveries, work } = this
    const { scheduler, coverage } = run
    const random = this.random.split(`member-${++this.namesGiven}`)
    const world = { plan, scheduler, coverage, random, deliveries, work }
    const app = new GroupApp(run.population.newClient(), memberName, world)
    this.apps.push(app)
    this.everybody.push(app)
    app.run().catch((error: unknown) => run.fail('exception', stackOf(error)))
  }

  /** As whoever coordinates the group in the newest term has it; nothing while nobody does. */
  private committed(): readonly number[] {
    const committed: number[] = []
    const { state } = this.serving() ?? {}
    for (const { partition, offset } of state?.describe(GROUP)?.offsets ?? []) committed[partition] = offset
    return committed
  }

  private serving() {
    const served = this.run.cluster.nodes.flatMap((node) =>
      [...(node.broker?.coordination.served() ?? [])].map((one) => ({ node, ...one })),
    )
    const mine = served.filter(({ state }) => state.describe(GROUP) !== null)
    return mine.sort((a, b) => b.term - a.term)[0] ?? null
  }

  private coordinator(): CoordinatorSeen | null {
    const serving = this.serving()
    if (serving === null) return null
    const { node, partition } = serving
    const { broker } = node
    const topicId = broker?.metadata.state.topicByName(GROUPS_TOPIC)?.topicId
    for (const replica of broker?.replicas() ?? []) {
      if (replica.key.partition === partition && replica.key.topicId === topicId) return { node, replica }
    }
    return null
  }

  private async stop(app: GroupApp): Promise<void> {
    app.stop().catch((error: unknown) => this.run.fail('exception', stackOf(error)))
    await this.run.until(`${app.client.name} has left the group`, () => app.isOver)
  }
}

/** Commands are in its log that are not committed yet. */
function isCommitting({ replica: { core } }: CoordinatorSeen): boolean {
  return core.lastIndex > core.commitIndex
}
