// Consumer groups on simulated machines: coordinators are killed and cut off while members commit, fall silent and come back.
import { describe, expect, it } from 'vitest'
import { GroupMember } from '../../sim/group-member.js'
import { GroupWatch } from '../../sim/group-watch.js'
import { host, ORDERS, play, type Stage } from './stage.js'

const LIMIT = { timeout: 60_000 }
const GROUP = 'billing'
const TOPIC = { ...ORDERS, partitions: 4 }

/** Members of one group, watched every few milliseconds until they have left. */
class Members {
  readonly watch: GroupWatch
  readonly members: GroupMember[] = []
  private isOver = false

  constructor(private readonly stage: Stage) {
    const { run } = stage
    this.watch = new GroupWatch({
      nodes: stage.nodes,
      fail: (invariant, message) => run.fail(invariant, message),
    })
    void this.look()
  }

  /** So many members of a group that is under way: so many commits are acknowledged. */
  static async committing(stage: Stage, count: number, commits: number): Promise<Members> {
    const members = new Members(stage)
    members.add(count)
    await members.untilCommitted(commits)
    return members
  }

  private async look(): Promise<void> {
    while (!this.isOver) {
      this.watch.look()
      await this.stage.pass(5)
    }
  }

  add(count: number): void {
    const { run } = this.stage
    for (let i = 0; i < count; i++) {
      const { environment } = run.population.newClient()
      const member = new GroupMember({
        environment,
        random: run.random.split(`member-${this.members.length}`),
        watch: this.watch,
        hosts: () => run.cluster.hosts,
        group: GROUP,
        topicId: 1,
        sleep: (ms) => this.stage.pass(ms),
      })
      this.members.push(member)
      void member.run()
    }
  }

  get commits(): number {
    return this.members.reduce((sum, member) => sum + member.commits, 0)
  }

  /** Somebody coordinates, and so many commits more are acknowledged. */
  async untilCommitted(more: number): Promise<void> {
    const least = this.commits + more
    await this.stage.run.until(
      () => `${least} commits, there are ${this.commits}`,
      () => this.commits >= least,
    )
  }

  /** The node that coordinates the group, in the newest term. */
  get coordinator() {
    const { nodes } = this.stage
    const serving = nodes.flatMap((node) =>
      [...(node.broker?.coordination.served() ?? [])]
        .filter(({ state }) => state.describe(GROUP) !== null)
        .map(({ term }) => ({ node, term })),
    )
    return serving.sort((a, b) => b.term - a.term)[0]?.node
  }

  async end(): Promise<void> {
    for (const member of this.members) member.stop()
    await this.stage.run.until('all members have left', () => this.members.every(({ isDone }) => isDone))
    this.isOver = true
  }
}

describe('a group', () => {
  it('goes on when its coordinator is killed, time and again', LIMIT, async () => {
    await play(TOPIC, async (stage) => {
      const members = await Members.committing(stage, 3, 20)
      for (let round = 0; round < 2; round++) {
        const coordinator = members.coordinator!
        coordinator.kill()
        await members.untilCommitted(10)
        coordinator.start()
        await members.untilCommitted(5)
      }
      await members.end()
      expect(members.watch.coordinatorChanges).toBeGreaterThan(0)
    })
  })

  it('obeys one coordinator when another one is cut off and still hears its members', LIMIT, async () => {
    await play(TOPIC, async (stage) => {
      const members = await Members.committing(stage, 3, 20)
      for (let round = 0; round < 2; round++) {
        const coordinator = members.coordinator!
        const others = stage.nodes.filter((node) => node !== coordinator)
        stage.separate([host(coordinator)], others.map(host))
        await members.untilCommitted(20)
        stage.heal()
        await members.untilCommitted(5)
      }
      await members.end()
    })
  })

  it(
    'gives the partitions of a member that falls silent to others, who lose nothing of what it has committed',
    LIMIT,
    async () => {
      await play(TOPIC, async (stage) => {
        const members = await Members.committing(stage, 2, 10)
        members.add(1)
        await members.untilCommitted(10)
        await members.members[0]!.fallSilent()
        await members.untilCommitted(20)
        const coordinator = members.coordinator!
        stage.cutPower(coordinator)
        await members.members[1]!.fallSilent()
        await members.untilCommitted(20)
        coordinator.start()
        await members.untilCommitted(10)
        await members.end()
      })
    },
  )
})
