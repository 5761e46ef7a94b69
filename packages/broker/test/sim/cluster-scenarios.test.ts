// Histories of a cluster with names: each is played by the product's own code on simulated machines, and then everything
// that a run is asked at its end is asked: nothing lost, nothing twice, replicas that agree, nothing left over.
import { describe, expect, it } from 'vitest'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { BrokerNode } from '../../sim/broker-node.js'
import type { TopicOptions } from '../../sim/options.js'
import type { SimulatedClient } from '../../sim/simulated-client.js'
import { createTopic } from '../../sim/topic-admin.js'
import { host, ORDERS, play, SHORT_ORDERS, type Stage } from './stage.js'

const LIMIT = { timeout: 60_000 }
/** Records of this size fill a small slot in no time. */
const LARGE = { largestValueBytes: 8 * 1024, batchBytes: 16 * 1024, burst: 20 }
const MANY = 300

/** A leader that is cut off from its followers goes on writing: until its log has what nobody else has. */
async function suffixOfItsOwn(
  stage: Stage,
  client: SimulatedClient,
  leader: BrokerNode,
): Promise<{ isDone: () => boolean }> {
  const during = stage.produce(client, 40)
  const committed = stage.replica(leader)!.core.commitIndex
  await stage.run.until('the old leader has a suffix of its own', () => {
    return (stage.replica(leader)?.log.flushedIndex ?? 0) > committed
  })
  return during
}

describe('a group that has just begun', () => {
  const LATE: TopicOptions = { name: 'late', partitions: 1, durability: 'flushed' }

  it(
    'has a leader although one of three is gone, and another has voted, had no batch, and was restarted',
    LIMIT,
    async () => {
      await play(ORDERS, async (stage) => {
        const { population, recorder, scheduler } = stage.run
        const client = population.newClient()
        const replicas = (): { node: BrokerNode; replica: ReplicaGroup }[] =>
          stage.nodes.flatMap((node) => {
            const found = [...(node.broker?.replicas() ?? [])].find(({ key }) => key.topicId === 2)
            return found === undefined ? [] : [{ node, replica: found }]
          })
        recorder.incarnations.push(LATE)
        let isMade = false
        void createTopic(population.adminOf(client), LATE).then(() => {
          isMade = true
        })
        // Whoever stands for election is heard no more once it was heard: it wins, and nobody else gets its first batch.
        let first: BrokerNode | undefined
        while (first === undefined) {
          await scheduler.sleep(0.02)
          const asked = replicas().filter(({ replica }) => replica.core.term > 0)
          if (asked.length > 1) first = asked.find(({ replica }) => replica.core.role !== 'follower')?.node
        }
        const others = stage.nodes.filter((node) => node !== first)
        for (const other of others) stage.run.cluster.network.cut(host(first), host(other))
        await stage.run.until('it leads', () => replicas().some(({ node, replica }) => node === first && replica.leads))
        const voter = replicas().find(({ node, replica }) => node !== first && replica.core.term > 0)!
        expect(voter.replica.log.filled.index).toBe(0)
        first.kill()
        voter.node.kill()
        voter.node.start()
        await stage.run.until('one of the others leads', () => replicas().some(({ replica }) => replica.isServing))
        expect(replicas().every(({ replica }) => !replica.core.isRepairing)).toBe(true)
        stage.heal()
        first.start()
        await stage.run.until('the topic is made', () => isMade)
      })
    },
  )
})

describe('a leader that is cut off', () => {
  it('with a client acknowledges nothing, and shows it nothing that is not committed', LIMIT, async () => {
    const { records } = await play(ORDERS, async (stage) => {
      const { population, recorder } = stage.run
      const [inside, outside] = [population.newClient(), population.newClient()]
      await stage.send(inside, 20)
      await stage.send(outside, 20)
      const { leader, followers } = await stage.untilLed()
      const readInside = stage.consume(inside)
      await stage.run.until('the client inside has read', () => readInside() === 40)
      stage.separate([host(leader), inside.name], [...followers.map(host), outside.name])
      const before = recorder.countOf('acknowledged')
      const lost = stage.produce(inside, 30, { deliveryTimeoutMs: 1500 })
      await stage.untilLedByOther(leader)
      await stage.send(outside, 25)
      await stage.run.until('the sends inside are settled', lost.isDone)
      expect(recorder.countOf('acknowledged')).toBe(before + 25)
      expect(readInside()).toBe(40)
      stage.heal()
      await stage.run.until('the client inside has caught up', () => readInside() >= 65)
    })
    expect(records.unknown + records.failed).toBe(30)
  })

  it('comes back with a suffix that nobody else has, and gives it up', LIMIT, async () => {
    const { coverage, records } = await play(ORDERS, async (stage) => {
      const client = await stage.clientThatSent(20)
      await stage.untilEqual()
      const { leader, followers } = await stage.untilLed()
      // It hears its client and is not heard by its followers.
      stage.separate([host(leader)], followers.map(host))
      const during = await suffixOfItsOwn(stage, client, leader)
      await stage.untilLedByOther(leader)
      stage.heal()
      await stage.run.until('everything sent is settled', during.isDone)
      await stage.untilEqual()
    })
    expect(coverage['replica cut off a tail']).toBeGreaterThan(0)
    expect(records.acknowledged).toBe(60)
  })

  it('comes back from its disk with such a suffix, and gives it up', LIMIT, async () => {
    const { records } = await play(ORDERS, async (stage) => {
      const client = await stage.clientThatSent(20)
      const { leader, followers } = await stage.untilLed()
      stage.separate([host(leader)], followers.map(host))
      const during = await suffixOfItsOwn(stage, client, leader)
      stage.cutPower(leader)
      await stage.untilLedByOther(leader)
      stage.heal()
      leader.start()
      await stage.run.until('everything sent is settled', during.isDone)
      await stage.untilEqual()
    })
    expect(records.acknowledged).toBe(60)
  })
})

describe('a follower behind the start of the log', () => {
  /** It is off until the others have given up what it would need next. */
  async function leaveBehind(stage: Stage) {
    const client = await stage.clientThatSent(20)
    await stage.untilEqual()
    const { followers } = await stage.untilLed()
    const late = followers[0]!
    const last = stage.replica(late)!.log.flushedIndex
    late.kill()
    await stage.send(client, MANY, LARGE)
    await stage.run.until('the others have given up what it lacks', () => {
      const { leader } = stage
      return leader !== undefined && stage.replica(leader)!.log.start.index > last + 1
    })
    return { client, late, last }
  }

  it('takes over the state, and has everything that a leader needs', LIMIT, async () => {
    const { coverage } = await play(SHORT_ORDERS, async (stage) => {
      const { client, late, last } = await leaveBehind(stage)
      late.start()
      await stage.run.until('it begins later', () => (stage.replica(late)?.log.start.index ?? 0) > last + 1)
      await stage.untilEqual()
      const { leader } = await stage.untilLed()
      stage.replica(leader)!.transferTo(late.nodeId)
      await stage.run.until('it leads', () => stage.leader === late)
      await stage.send(client, 30)
    })
    expect(coverage['replica took over a state']).toBeGreaterThan(0)
  })

  it('loses its power twice while it takes over the state', LIMIT, async () => {
    await play(SHORT_ORDERS, async (stage) => {
      const { client, late, last } = await leaveBehind(stage)
      for (const slowness of [200, 50]) {
        late.machine.diskConditions.slowness = 1
        late.start()
        // The core has let go of the old log, and the new one is not durable yet.
        await stage.run.until('it begins to take over', () => {
          const replica = stage.replica(late)
          late.machine.diskConditions.slowness = replica === undefined ? 1 : slowness
          return replica !== undefined && replica.core.start.index > last + 1 && replica.log.start.index <= last + 1
        })
        stage.cutPower(late)
      }
      late.machine.diskConditions.slowness = 1
      late.start()
      await stage.untilEqual()
      await stage.send(client, 30)
    })
  })
})

describe('a disk', () => {
  it('that is full on the leader makes producers wait, and loses nothing', LIMIT, async () => {
    const { records, coverage } = await play(ORDERS, async (stage) => {
      const client = await stage.clientThatSent(20)
      const { leader } = await stage.untilLed()
      leader.machine.diskConditions.full = true
      const during = stage.produce(client, MANY, LARGE)
      await stage.pass(3000)
      expect(during.isDone()).toBe(false)
      leader.machine.diskConditions.full = false
      await stage.run.until('everything sent is settled', during.isDone)
    })
    // What did not fit into the client's buffer was refused at once.
    expect(records).toMatchObject({ failed: coverage['buffer full'] ?? 0, unknown: 0 })
    expect(records.acknowledged).toBeGreaterThan(100)
  })

  it('that was wiped is noticed: its node is kept out, and the others go on', LIMIT, async () => {
    const { records } = await play(ORDERS, async (stage) => {
      const client = await stage.clientThatSent(20)
      await stage.untilEqual()
      await stage.run.until('every disk is known', () =>
        stage.nodes.every((node) => node.broker?.status().isRegistered),
      )
      const { leader, followers } = await stage.untilLed()
      const wiped = followers[0]!
      const other = followers[1]!
      wiped.wipeDisk()
      wiped.start()
      const isRefused = () => stage.lines.some((line) => /WRONG_DISK|has disk [0-9a-f]+, not [0-9a-f]+/.test(line))
      await stage.run.until('the others notice', isRefused)
      await stage.send(client, 30)
      // It must not help anybody to a majority: what it has acknowledged once it does not have any more.
      leader.kill()
      await stage.pass(5000)
      expect(stage.replica(wiped)).toBeUndefined()
      expect(stage.replica(other)?.isServing).toBe(false)
      leader.start()
      await stage.send(client, 30)
      expect(wiped.broker?.status().isReady).toBe(false)
      // Whoever has the right disk is let in again.
      wiped.restoreDisk()
      wiped.start()
      await stage.untilEqual()
    })
    expect(records.acknowledged).toBe(80)
  })
})

describe('a planned change of leaders', () => {
  it('fails no send, however often it comes', LIMIT, async () => {
    const { records, coverage } = await play(ORDERS, async (stage) => {
      const client = stage.run.population.newClient()
      const during = stage.produce(client, 2000, { meanGapMs: 5 })
      for (let i = 0; i < 6; i++) {
        const { leader, followers } = await stage.untilLed()
        const heir = followers[i % 2]!
        await stage.run.until('the heir leads', () => {
          stage.replica(leader)?.transferTo(heir.nodeId)
          return stage.leader === heir
        })
        await stage.pass(100)
      }
      await stage.run.until('everything sent is settled', during.isDone)
    })
    expect(records).toMatchObject({ acknowledged: 2000, failed: 0, unknown: 0 })
    expect(coverage['leader changed']).toBeGreaterThanOrEqual(6)
  })
})
